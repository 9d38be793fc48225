//! The answers of recall, status and session start, which must not depend on the database.

use std::sync::Arc;

use cognitive_memory_mcp::domain::reference::short_id;
use cognitive_memory_mcp::domain::{Decision, Kind, SystemClock};
use cognitive_memory_mcp::engine::{
    Call, Detail, Engine, ExploreParams, GetParams, LinkParams, RecallOutput, RecallParams,
    RelationItem, RememberItem, RememberParams, ReviewCommand, SessionStartParams, StatusParams,
    UpdateParams,
};
use cognitive_memory_mcp::store::Store;

use super::{analyzer, scope};

pub(super) struct Service {
    engine: Engine,
    call: Call,
}

impl Service {
    pub(super) fn new(store: &Arc<dyn Store>) -> Self {
        let engine = Engine::new(Arc::clone(store), analyzer(), Arc::new(SystemClock));
        Self {
            engine,
            call: Call::new(scope()),
        }
    }

    /// The notes of a recall without hits.
    async fn explain_empty(&self, params: RecallParams) -> String {
        let found = self.recall(params).await;
        assert!(found.hits.is_empty(), "{:?}", found.hits);
        found.notes.join(" ")
    }

    pub(super) async fn remember(&self, items: Vec<RememberItem>) -> Vec<String> {
        let params = RememberParams {
            items,
            idempotency_key: None,
        };
        let stored = self.engine.remember(&self.call, params).await.unwrap();
        stored
            .memories
            .into_iter()
            .map(|memory| memory.id)
            .collect()
    }

    pub(super) async fn recall(&self, params: RecallParams) -> RecallOutput {
        self.engine.recall(&self.call, params).await.unwrap()
    }

    pub(super) async fn contents(&self, params: RecallParams) -> Vec<String> {
        self.recall(params)
            .await
            .hits
            .into_iter()
            .map(|hit| hit.memory.content)
            .collect()
    }
}

fn item(content: &str) -> RememberItem {
    RememberItem {
        content: content.to_owned(),
        ..RememberItem::default()
    }
}

pub(super) fn on(content: &str, day: &str) -> RememberItem {
    RememberItem {
        occurred_at: Some(day.to_owned()),
        ..item(content)
    }
}

pub(super) fn asking(query: &str) -> RecallParams {
    RecallParams {
        query: Some(query.to_owned()),
        ..RecallParams::default()
    }
}

pub(crate) async fn near_duplicates_are_folded(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let ids = service
        .remember(vec![
            on("The staging server is called Borealis.", "2026-01-01"),
            on("the staging server is called Borealis", "2026-01-03"),
            on("Staging server is called *Borealis*!", "2026-01-02"),
            on("The staging server is not called Borealis.", "2026-01-04"),
            on("The staging server is called Aurora.", "2026-01-05"),
            on("The staging server 2 is called Borealis.", "2026-01-06"),
        ])
        .await;
    for query in ["staging server called", ""] {
        let found = service.recall(asking(query)).await;
        assert_eq!(found.hits.len(), 4, "{query:?}");
        assert!(found.next_cursor.is_none());
        let folded: Vec<_> = found.hits.iter().filter(|hit| hit.similar > 0).collect();
        assert_eq!(folded.len(), 1);
        assert_eq!(
            (&folded[0].memory.id, folded[0].similar),
            (&ids[1], 2),
            "the newest stands for the others"
        );
        assert!(folded[0].similar_ids.is_empty(), "on request only");
    }
    let explained = service
        .recall(RecallParams {
            explain: true,
            ..asking("staging server called")
        })
        .await;
    let folded = explained.hits.iter().find(|hit| hit.similar > 0).unwrap();
    let mut others = folded.similar_ids.clone();
    others.sort();
    let mut expected = vec![ids[0].clone(), ids[2].clone()];
    expected.sort();
    assert_eq!(others, expected);
}

pub(crate) async fn folding_neither_loses_nor_repeats_hits(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let mut items = Vec::new();
    for number in 0..12 {
        items.extend(["", "!", " ..."].map(|end| item(&format!("Quokka number {number}{end}"))));
    }
    service.remember(items).await;
    for query in ["quokka number", ""] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = RecallParams {
                limit: Some(5),
                cursor: cursor.take(),
                ..asking(query)
            };
            let page = service.recall(page).await;
            assert!(!page.hits.is_empty(), "no page is empty: {seen:?}");
            assert!(page.hits.len() <= 5);
            seen.extend(
                page.hits
                    .iter()
                    .map(|hit| (hit.memory.content.clone(), hit.similar)),
            );
            let Some(next) = page.next_cursor else { break };
            cursor = Some(next);
        }
        let stored: usize = seen.iter().map(|(_, similar)| similar + 1).sum();
        assert_eq!(stored, 36, "{query:?}: {seen:?}");
        let mut contents: Vec<&String> = seen.iter().map(|(content, _)| content).collect();
        contents.sort();
        contents.dedup();
        assert_eq!(contents.len(), seen.len(), "no hit comes twice");
    }
}

pub(crate) async fn superseded_memories_come_behind_their_successors(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let old = service
        .remember(vec![item(
            "Marta works at Harbour as a pilot, a harbour pilot.",
        )])
        .await
        .remove(0);
    let newer = RememberItem {
        supersedes: vec![old.clone()],
        ..item("Marta works elsewhere now.")
    };
    let new = service.remember(vec![newer]).await.remove(0);
    service
        .remember(vec![item("The harbour pilot has a boat.")])
        .await;
    let found = service
        .recall(RecallParams {
            include_outdated: true,
            ..asking("Marta harbour pilot")
        })
        .await;
    let place = |id: &str| {
        found
            .hits
            .iter()
            .position(|hit| hit.memory.id == id)
            .unwrap()
    };
    assert!(place(&new) < place(&old), "{:?}", found.hits);
}

pub(crate) async fn known_then_and_true_then_are_two_questions(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let old = service
        .remember(vec![on("Marta works at Alpha.", "2024-03-01")])
        .await
        .remove(0);
    let successor = RememberItem {
        supersedes: vec![old],
        ..on("Marta works at Beta.", "2025-06-01")
    };
    service.remember(vec![successor]).await;
    let offer = RememberItem {
        valid_until: Some("2025-01-01".to_owned()),
        ..on("Alpha gives a discount.", "2024-05-01")
    };
    service.remember(vec![offer]).await;
    for query in ["Marta Alpha Beta discount", ""] {
        let at = |time: &str| RecallParams {
            valid_at: Some(time.to_owned()),
            ..asking(query)
        };
        let sorted = |mut contents: Vec<String>| {
            contents.sort();
            contents
        };
        assert_eq!(
            sorted(service.contents(at("2024-12-01")).await),
            ["Alpha gives a discount.", "Marta works at Alpha."]
        );
        assert_eq!(
            service.contents(at("2025-03-01")).await,
            ["Marta works at Alpha."]
        );
        assert_eq!(
            service.contents(at("2025-07-01")).await,
            ["Marta works at Beta."]
        );
        assert!(
            service.contents(at("2024-01-01")).await.is_empty(),
            "nothing had happened"
        );
        assert_eq!(
            service.contents(asking(query)).await,
            ["Marta works at Beta."]
        );
    }
    let known = RecallParams {
        as_of: Some("2025-07-01".to_owned()),
        ..asking("Marta")
    };
    let known = service.recall(known).await;
    assert!(known.hits.is_empty(), "all of it was stored later");
    assert!(
        known.notes[0].starts_with("No matching memory was known"),
        "{:?}",
        known.notes
    );
    let both = RecallParams {
        as_of: Some("2025-07-01".into()),
        valid_at: Some("2025-07-01".into()),
        ..asking("Marta")
    };
    let refused = service
        .engine
        .recall(&service.call, both)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("valid_at: ") && refused.contains("not both"),
        "{refused}"
    );

    check_times_of_relations(&service).await;
}

async fn check_times_of_relations(service: &Service) {
    let relation = RelationItem {
        from: "Marta".into(),
        to: "Alpha".into(),
        kind: Some("works at".into()),
        valid_from: Some("2024-03-01".into()),
        valid_to: Some("2025-06-01".into()),
        ..RelationItem::default()
    };
    let link = LinkParams {
        entities: Vec::new(),
        relations: vec![relation],
    };
    service.engine.link(&service.call, link).await.unwrap();
    let explore = |valid_at: Option<&str>, as_of: Option<&str>| ExploreParams {
        name: Some("Marta".into()),
        valid_at: valid_at.map(str::to_owned),
        as_of: as_of.map(str::to_owned),
        ..ExploreParams::default()
    };
    for (params, relations, noted) in [
        (explore(Some("2024-12-01"), None), 1, false),
        (explore(Some("2025-12-01"), None), 0, false),
        (explore(None, Some("2024-12-01")), 1, true),
    ] {
        let found = service.engine.explore(&service.call, params).await.unwrap();
        assert_eq!(found.relations.len(), relations);
        assert_eq!(
            found
                .notes
                .iter()
                .any(|note| note.starts_with("as_of was read as valid_at")),
            noted
        );
    }
}

pub(crate) async fn an_empty_answer_says_why(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    assert_eq!(
        service.explain_empty(asking("tea")).await,
        "Nothing is stored in this project yet."
    );
    let expired = RememberItem {
        valid_until: Some("2026-01-01".to_owned()),
        ..item("The offer for tea ends soon.")
    };
    let tagged = RememberItem {
        kind: Kind::Dialogue,
        tags: vec!["decision".to_owned()],
        session: Some("sprint-12".to_owned()),
        turn: Some(1),
        speaker: Some("Marta Lindqvist".to_owned()),
        ..item("We take coffee.")
    };
    service.remember(vec![expired, tagged]).await;
    assert_eq!(
        service.explain_empty(asking("tea offer")).await,
        "1 expired memory matches; use include_outdated."
    );
    let old = service
        .remember(vec![item("The kettle is red.")])
        .await
        .remove(0);
    service
        .remember(vec![RememberItem {
            supersedes: vec![old],
            ..item("We boil water elsewhere.")
        }])
        .await;
    assert_eq!(
        service.explain_empty(asking("kettle")).await,
        "1 superseded memory matches; use include_outdated."
    );
    check_filters_without_matches(&service).await;
    let said = service.explain_empty(asking("zebra")).await;
    assert!(
        said.starts_with("None of the 4 stored memories contains a word of the query."),
        "{said}"
    );
}

async fn check_filters_without_matches(service: &Service) {
    let filtered = |tag: &str| RecallParams {
        tags: vec![tag.to_owned()],
        ..asking("coffee")
    };
    let said = service.explain_empty(filtered("decisions")).await;
    assert_eq!(
        said,
        "No memory has the tag \"decisions\"; did you mean \"decision\"?"
    );
    let said = service.explain_empty(filtered("cooking")).await;
    assert_eq!(
        said,
        "No memory has the tag \"cooking\"; most frequent: \"decision\"."
    );
    let said = service
        .explain_empty(RecallParams {
            speaker: Some("Marta".to_owned()),
            ..asking("coffee")
        })
        .await;
    assert_eq!(
        said,
        "No memory has the speaker \"Marta\"; did you mean \"Marta Lindqvist\"?"
    );
    let said = service
        .explain_empty(RecallParams {
            session: Some("sprint-21".to_owned()),
            ..asking("coffee")
        })
        .await;
    assert!(
        said.starts_with("No memory has the session \"sprint-21\"; "),
        "{said}"
    );
    let said = service
        .explain_empty(RecallParams {
            kinds: vec![Kind::Insight],
            ..asking("coffee")
        })
        .await;
    assert_eq!(
        said,
        "No memory is of kind insight; stored are 1 dialogue, 3 note."
    );
}

pub(crate) async fn a_status_lists_what_there_is(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let mut items = Vec::new();
    for number in 0..12 {
        // Four spellings of "ALL" and eight of "All" count as one tag.
        let common = if number < 4 { "ALL" } else { "All" };
        let tags = vec![common.to_owned(), format!("tag-{number:02}")];
        items.push(RememberItem {
            tags,
            ..item(&format!("note {number}"))
        });
    }
    items.push(RememberItem {
        kind: Kind::Dialogue,
        session: Some("s".to_owned()),
        turn: Some(1),
        speaker: Some("Ada".to_owned()),
        ..item("hello")
    });
    service.remember(items).await;
    let relation = RelationItem {
        from: "Ada".into(),
        to: "Grace".into(),
        kind: Some("knows".into()),
        ..RelationItem::default()
    };
    let link = LinkParams {
        entities: Vec::new(),
        relations: vec![relation],
    };
    service.engine.link(&service.call, link).await.unwrap();
    let status = service
        .engine
        .status(&service.call, StatusParams::default())
        .await
        .unwrap();
    assert_eq!((status.tags.top.len(), status.tags.more), (10, 3));
    let first: Vec<(&str, u64)> = status
        .tags
        .top
        .iter()
        .take(2)
        .map(|value| (value.value.as_str(), value.count))
        .collect();
    assert_eq!(first, [("All", 12), ("tag-00", 1)]);
    assert_eq!(
        (
            status.sessions.top[0].value.as_str(),
            status.sessions.top[0].count
        ),
        ("s", 1)
    );
    assert_eq!(status.speakers.top[0].value, "Ada");
    assert_eq!(status.entity_types.top[0].count, 2);
    let elsewhere = service
        .engine
        .status(&Call::new(scope()), StatusParams::default())
        .await
        .unwrap();
    assert!(
        elsewhere.tags.top.is_empty() && elsewhere.entity_types.top.is_empty(),
        "of the readable projects only"
    );
}

pub(crate) async fn a_session_starts_with_what_matters_most(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let weighed = |content: &str, importance: f64| RememberItem {
        importance: Some(importance),
        ..item(content)
    };
    let protected = RememberItem {
        protected: true,
        tags: vec!["Law".to_owned()],
        ..weighed("Never deploy on Friday.", 0.3)
    };
    let ids = service
        .remember(vec![
            weighed("The key is under the mat.", 0.7),
            weighed("the key is under the mat", 0.7),
            weighed("The house is blue.", 0.95),
            protected,
            weighed("The weather was fine.", 0.5),
            RememberItem {
                valid_until: Some("2026-01-01".to_owned()),
                ..weighed("The sale is on.", 1.0)
            },
        ])
        .await;
    let start = service
        .engine
        .session_start(&service.call, SessionStartParams::default())
        .await
        .unwrap();
    let important: Vec<&str> = start
        .important
        .iter()
        .map(|memory| memory.content.as_str())
        .collect();
    assert_eq!(
        important,
        [
            "Never deploy on Friday.",
            "The house is blue.",
            "the key is under the mat"
        ]
    );
    let recent: Vec<&str> = start
        .recent
        .iter()
        .map(|memory| memory.content.as_str())
        .collect();
    assert_eq!(
        recent,
        ["The weather was fine."],
        "nothing is repeated, nothing expired comes"
    );
    for tag in ["law", "Law", "LAW"] {
        let tagged = SessionStartParams {
            tag: Some(tag.to_owned()),
            ..SessionStartParams::default()
        };
        let tagged = service
            .engine
            .session_start(&service.call, tagged)
            .await
            .unwrap();
        assert_eq!(
            tagged
                .important
                .iter()
                .map(|memory| &memory.id)
                .collect::<Vec<_>>(),
            [&ids[3]],
            "{tag}"
        );
    }
}

pub(crate) async fn a_repetition_says_truly_what_it_added_to_a_protected_memory(
    store: Arc<dyn Store>,
) {
    let service = Service::new(&store);
    let ids = service.remember(vec![item("Kim lives in Bergen.")]).await;
    let again = |entity: &str, protected: bool| RememberItem {
        entities: vec![serde_json::from_value(serde_json::json!({ "name": entity })).unwrap()],
        protected,
        ..item("Kim lives in Bergen.")
    };
    let repeat = async |entity: &str, protected: bool| {
        let params = RememberParams {
            items: vec![again(entity, protected)],
            idempotency_key: None,
        };
        service
            .engine
            .remember(&service.call, params)
            .await
            .unwrap()
    };
    let mentioning = async |entity: &str| {
        let params = GetParams {
            entities: vec![entity.to_owned()],
            ..GetParams::default()
        };
        let found = service.engine.get(&service.call, params).await.unwrap();
        found
            .memories
            .iter()
            .map(|memory| memory.id.clone())
            .collect::<Vec<_>>()
    };
    // The item that protects the memory also adds its entity, and reports it.
    let answer = repeat("Ada", true).await;
    assert_eq!(
        answer.memories[0].merged,
        ["protected", "entities and relations"]
    );
    assert!(
        !answer
            .notes
            .iter()
            .any(|note| note.contains("nothing was added")),
        "{:?}",
        answer.notes
    );
    assert_eq!(mentioning("Ada").await, ids);
    // After that, nothing is added, and the answer claims no addition.
    let answer = repeat("Grace", false).await;
    assert!(
        answer.memories[0].merged.is_empty(),
        "{:?}",
        answer.memories[0].merged
    );
    assert!(
        answer
            .notes
            .iter()
            .any(|note| note.contains("nothing was added")),
        "{:?}",
        answer.notes
    );
    assert!(mentioning("Grace").await.is_empty());
}

pub(crate) async fn a_budget_limits_what_is_printed(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let filler = "Nothing of interest happened here. ".repeat(200);
    let items = (0..30).map(|number| {
        item(&format!(
            "{number} {filler} The code of the safe number {number} is {}. {filler}",
            number * 7919
        ))
    });
    service
        .remember(items.chain([item("A safe is short.")]).collect())
        .await;
    let print = |output: &RecallOutput| {
        let mut lines: Vec<String> = output.notes.clone();
        lines.extend(
            output
                .hits
                .iter()
                .map(|hit| format!("{} {}", short_id(&hit.memory.id), hit.memory.content)),
        );
        lines.extend(output.next_cursor.clone());
        lines.join("\n")
    };
    for max_chars in [300, 700, 1_500, 3_000, 12_000, 60_000] {
        let mut seen = std::collections::BTreeSet::new();
        let mut cursor = None;
        loop {
            let params = RecallParams {
                max_chars: Some(max_chars),
                cursor: cursor.take(),
                ..asking("code of the safe")
            };
            let found = service
                .engine
                .recall_printed(&service.call, params, &print)
                .await
                .unwrap();
            let printed = print(&found).chars().count();
            assert!(printed <= max_chars, "{printed} of {max_chars}");
            assert!(
                found.next_cursor.is_none() || 2 * printed > max_chars || found.hits.len() == 10,
                "{printed} of {max_chars}"
            );
            for hit in &found.hits {
                assert!(seen.insert(hit.memory.id.clone()), "no hit comes twice");
                assert!(
                    !hit.cut || hit.memory.content.contains("code of the safe"),
                    "{}",
                    hit.memory.content
                );
                assert_eq!(hit.cut, hit.memory.content.contains('…'));
            }
            let shortened = found.hits.iter().any(|hit| hit.cut);
            assert_eq!(
                shortened,
                found
                    .notes
                    .iter()
                    .any(|note| note.contains("get returns them in full"))
            );
            let Some(next) = found.next_cursor else { break };
            cursor = Some(next);
        }
        assert_eq!(seen.len(), 31, "{max_chars}");
    }
}

pub(crate) async fn an_index_shows_the_beginning_of_much(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let text = "The harbour opens at six.\nEverything else about it follows here.";
    service
        .remember(vec![RememberItem {
            tags: vec!["port".to_owned()],
            ..item(text)
        }])
        .await;
    let found = service
        .recall(RecallParams {
            detail: Detail::Index,
            ..asking("harbour")
        })
        .await;
    let hit = &found.hits[0];
    assert_eq!(hit.memory.content, "The harbour opens at six. …");
    assert_eq!(
        (hit.size, hit.confidence.is_some()),
        (Some(text.chars().count()), true)
    );
    assert!(hit.memory.tags.is_empty() && hit.why.is_none());
    let full = service
        .recall(RecallParams {
            detail: Detail::Full,
            explain: true,
            ..asking("harbour")
        })
        .await;
    assert!(full.hits[0].why.is_some() && !full.hits[0].memory.created_at.is_empty());
    let usual = service.recall(asking("harbour")).await;
    assert!(usual.hits[0].why.is_none() && usual.hits[0].memory.content == text);
}

pub(crate) async fn a_corrected_text_is_linked_with_whom_it_names(store: Arc<dyn Store>) {
    let service = Service::new(&store);
    let (engine, call) = (&service.engine, &service.call);
    let knows = |from: &str, to: &str| RelationItem {
        from: from.to_owned(),
        to: to.to_owned(),
        kind: Some("knows".to_owned()),
        ..RelationItem::default()
    };
    let relations = vec![
        knows("Marta Lindqvist", "Zed"),
        knows("Ada Lovelace", "Zed"),
    ];
    engine
        .link(
            call,
            LinkParams {
                relations,
                ..LinkParams::default()
            },
        )
        .await
        .unwrap();
    let mentioning = async |name: &str| {
        let params = GetParams {
            entities: vec![name.to_owned()],
            ..GetParams::default()
        };
        engine.get(call, params).await.unwrap().entities[0].memory_count
    };
    let protected = RememberItem {
        protected: true,
        ..item("A guarded note about the ferry.")
    };
    let ids = service
        .remember(vec![item("Marta Lindqvist met a colleague."), protected])
        .await;
    let correct = async |id: &str, content: &str| {
        let params = UpdateParams {
            id: id.to_owned(),
            content: Some(content.to_owned()),
            ..UpdateParams::default()
        };
        engine.update(call, params).await.unwrap()
    };
    let answer = correct(&ids[0], "Marta Lindqvist met Zed at the quay.").await;
    let note = answer
        .notes
        .iter()
        .find(|note| note.starts_with("Recognised"))
        .cloned()
        .unwrap_or_default();
    assert!(
        note.contains("\"Zed\"") && !note.contains("Marta"),
        "only new ones are reported: {:?}",
        answer.notes
    );
    assert_eq!(
        (mentioning("Zed").await, mentioning("Marta Lindqvist").await),
        (1, 1)
    );
    // A protected memory is linked when its owner approves the change.
    let answer = correct(&ids[1], "Ada Lovelace guards the ferry.").await;
    let review = answer.review.unwrap().id;
    assert!(
        answer
            .notes
            .iter()
            .all(|note| !note.starts_with("Recognised")),
        "{:?}",
        answer.notes
    );
    assert_eq!(mentioning("Ada Lovelace").await, 0);
    let approve = ReviewCommand::Decide {
        id: review,
        decision: Decision::Approve,
        reason: None,
    };
    engine.administer(call, approve).await.unwrap();
    assert_eq!(mentioning("Ada Lovelace").await, 1);
}
