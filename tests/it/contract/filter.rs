//! Filters, pages, and the isolation of projects.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{Filter, Kind, Memory, NewMemory, Scope};
use cognitive_memory_mcp::store::{ForgetMode, Store};
use uuid::Uuid;

use super::{at, episode, forget, history, note, remember, scope, search, store_one, turn};

/// Memories that differ in every filtered property; all contain the word `common`.
async fn varied(store: &dyn Store, scope: &Scope) -> Vec<Memory> {
    let mut items = Vec::new();
    for number in 0..48_i64 {
        let mut item = match number % 4 {
            0 => turn(
                ["s", "t"][usize::from(number % 8 == 0)],
                number,
                &format!("common d{number}"),
            ),
            1 => note(&format!("common n{number}")),
            2 => NewMemory {
                kind: Kind::Insight,
                ..note(&format!("common i{number}"))
            },
            _ => episode(&format!("common e{number}"), "situation", "lesson"),
        };
        item.tags = ["a", "b", "c d"][..(number % 5).min(3) as usize]
            .iter()
            .map(|tag| (*tag).to_owned())
            .collect();
        item.importance = number as f64 / 48.0;
        item.occurred_at = at(-100 + number * 3);
        item.valid_until =
            [None, Some(at(5)), Some(at(10)), Some(at(11))][(number / 2 % 4) as usize];
        item.speaker = [None, Some("Ann"), Some("Bob")][(number % 3) as usize].map(str::to_owned);
        if item.session.is_none() && number % 5 == 0 {
            item.session = Some("s".to_owned());
        }
        items.push(item);
    }
    let ids: Vec<Uuid> = items.iter().map(|item| item.id).collect();
    remember(store, scope, items).await.unwrap();
    store_one(
        store,
        scope,
        NewMemory {
            supersedes: ids[3..9].to_vec(),
            ..note("common successor")
        },
    )
    .await;
    for id in &ids[20..24] {
        forget(store, scope, *id, ForgetMode::Delete).await;
    }
    store.get(scope, &ids, true).await.unwrap()
}

fn filters() -> Vec<Filter> {
    let now = Filter::at(at(10));
    let mut filters = vec![
        now.clone(),
        Filter::at(at(4)),
        Filter::at(at(11)),
        Filter {
            kinds: vec![Kind::Note],
            ..now.clone()
        },
        Filter {
            kinds: vec![Kind::Dialogue, Kind::Episode],
            ..now.clone()
        },
        Filter {
            tags: vec!["a".into()],
            ..now.clone()
        },
        Filter {
            tags: vec!["c d".into(), "a".into()],
            ..now.clone()
        },
        Filter {
            tags: vec!["A".into()],
            ..now.clone()
        },
        Filter {
            tags: vec!["c".into()],
            ..now.clone()
        },
        Filter {
            session: Some("s".into()),
            ..now.clone()
        },
        Filter {
            session: Some("S".into()),
            ..now.clone()
        },
        Filter {
            speaker: Some("Ann".into()),
            ..now.clone()
        },
        Filter {
            since: Some(at(-40)),
            ..now.clone()
        },
        Filter {
            until: Some(at(-40)),
            ..now.clone()
        },
        Filter {
            since: Some(at(-70)),
            until: Some(at(-10)),
            ..now.clone()
        },
        Filter {
            min_importance: Some(0.5),
            ..now.clone()
        },
        Filter {
            kinds: vec![Kind::Dialogue, Kind::Note],
            tags: vec!["a".into()],
            session: Some("s".into()),
            speaker: Some("Bob".into()),
            since: Some(at(-100)),
            until: Some(at(40)),
            min_importance: Some(0.1),
            ..now.clone()
        },
    ];
    let outdated = filters.iter().map(|filter| Filter {
        include_outdated: true,
        ..filter.clone()
    });
    filters.extend(outdated.collect::<Vec<_>>());
    filters
}

pub(crate) async fn every_filter_admits_what_the_rule_admits(store: Arc<dyn Store>) {
    let scope = scope();
    let mut memories = varied(&*store, &scope).await;
    let all = Filter {
        include_outdated: true,
        ..Filter::at(at(0))
    };
    let everything = store.browse(&scope, &all, None, 1_000).await.unwrap();
    memories.extend(
        everything
            .into_iter()
            .filter(|memory| memory.content == "common successor"),
    );
    memories.sort_by_key(|memory| std::cmp::Reverse(memory.seq));
    let mut admitted = 0;
    for filter in filters() {
        let expected: Vec<Uuid> = memories
            .iter()
            .filter(|m| filter.admits(m))
            .map(|m| m.id)
            .collect();
        admitted += expected.len();
        let browsed: Vec<Uuid> = store
            .browse(&scope, &filter, None, 1_000)
            .await
            .unwrap()
            .iter()
            .map(|memory| memory.id)
            .collect();
        assert_eq!(browsed, expected, "browsing with {filter:?}");
        let hits = search(&*store, &scope, "common", filter.clone()).await;
        let mut hits: Vec<(i64, Uuid)> = hits.into_iter().map(|hit| (hit.seq, hit.id)).collect();
        hits.sort_by(|a, b| b.cmp(a));
        assert_eq!(
            hits.into_iter().map(|hit| hit.1).collect::<Vec<_>>(),
            expected,
            "searching with {filter:?}"
        );
        // The exact text is filtered, too.
        for memory in memories.iter().step_by(7) {
            let exact = search(&*store, &scope, &memory.content, filter.clone()).await;
            let exact = exact.iter().any(|hit| hit.id == memory.id && hit.exact);
            assert_eq!(
                exact,
                filter.admits(memory),
                "{} with {filter:?}",
                memory.content
            );
        }
    }
    assert!(admitted > 100, "the filters hardly admit anything");
}

pub(crate) async fn tags_are_compared_without_case(store: Arc<dyn Store>) {
    let (store, scope) = (&*store, scope());
    let tagged = |content: &str, tags: &[&str]| NewMemory {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..note(content)
    };
    let mixed = store_one(store, &scope, tagged("common one", &["Decision", "Ärger"])).await;
    let lower = store_one(store, &scope, tagged("common two", &["decision"])).await;
    store_one(store, &scope, tagged("common three", &["decisions"])).await;
    let with = |tags: &[&str]| Filter {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Filter::at(at(9))
    };
    for (tags, expected) in [
        (&["DECISION"][..], vec![lower, mixed]),
        (&["decision"][..], vec![lower, mixed]),
        (&["ärger", "Decision"][..], vec![mixed]),
        (&["ÄRGER"][..], vec![mixed]),
        (&["Decisio"][..], vec![]),
    ] {
        let browsed = store.browse(&scope, &with(tags), None, 10).await.unwrap();
        assert_eq!(
            browsed.iter().map(|memory| memory.id).collect::<Vec<_>>(),
            expected,
            "{tags:?}"
        );
        let mut searched: Vec<Uuid> = search(store, &scope, "common", with(tags))
            .await
            .into_iter()
            .map(|hit| hit.id)
            .collect();
        searched.sort_by(|a, b| b.cmp(a));
        assert_eq!(searched, expected, "{tags:?}");
    }
    let memory = super::load(store, &scope, mixed).await;
    assert_eq!(memory.tags, ["Decision", "Ärger"], "the spelling stays");
}

pub(crate) async fn browsing_pages_through_everything_once(store: Arc<dyn Store>) {
    let scope = scope();
    varied(&*store, &scope).await;
    let filter = Filter {
        include_outdated: true,
        ..Filter::at(at(10))
    };
    let whole = store.browse(&scope, &filter, None, 1_000).await.unwrap();
    assert!(whole.windows(2).all(|pair| pair[0].seq > pair[1].seq));
    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = store.browse(&scope, &filter, before, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        paged.extend(page);
        if paged.len() == 14 {
            // Memories stored between two pages do not shift the pages.
            store_one(&*store, &scope, note("a newcomer")).await;
        }
    }
    assert_eq!(paged, whole);
    assert!(
        store
            .browse(&scope, &filter, None, 0)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn projects_do_not_see_each_other(store: Arc<dyn Store>) {
    let (mine, theirs) = (scope(), scope());
    let my_id = store_one(&*store, &mine, note("walrus here")).await;
    let their_id = store_one(&*store, &theirs, note("walrus there")).await;
    let both = Scope::new(mine.project(), "reader")
        .reading([theirs.project().to_owned(), "no such project".into()]);
    let nowhere = scope();
    for (scope, visible) in [
        (&mine, vec![my_id]),
        (&theirs, vec![their_id]),
        (&both, vec![my_id, their_id]),
        (&nowhere, vec![]),
    ] {
        let ids = [my_id, their_id];
        let got: Vec<Uuid> = store
            .get(scope, &ids, true)
            .await
            .unwrap()
            .iter()
            .map(|memory| memory.id)
            .collect();
        assert_eq!(got, visible);
        for id in ids {
            assert_eq!(
                history(&*store, scope, id).await.is_empty(),
                !visible.contains(&id)
            );
        }
        let browsed = store
            .browse(scope, &Filter::at(at(10)), None, 10)
            .await
            .unwrap();
        assert_eq!(browsed.len(), visible.len());
        assert!(browsed.iter().all(|memory| visible.contains(&memory.id)));
        let stats = store
            .corpus_stats(scope, &["walrus".into(), "there".into()])
            .await
            .unwrap();
        assert_eq!(stats.documents, visible.len() as u64);
        let mut hits = super::found(&*store, scope, "walrus").await;
        hits.sort();
        assert_eq!(hits, visible);
        let exact = search(&*store, scope, "walrus there", Filter::at(at(10))).await;
        assert_eq!(
            exact.iter().any(|hit| hit.exact),
            visible.contains(&their_id)
        );
        assert_eq!(
            store.counts(scope, at(10)).await.unwrap().index_backlog,
            visible.len() as u64
        );
    }
    assert_eq!(
        super::load(&*store, &both, their_id).await.project,
        theirs.project()
    );
}
