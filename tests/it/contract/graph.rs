//! Entities, relations and mentions.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use cognitive_memory_mcp::domain::graph::{
    Entity, Linked, NewEntity, NewRelation, Relation, Unlink, name_key, names_in,
};
use cognitive_memory_mcp::domain::graph_traversal::{Step, Walk};
use cognitive_memory_mcp::domain::ranking::NamedEntities;
use cognitive_memory_mcp::domain::{Filter, Kind, Links, NewMemory, Scope};
use cognitive_memory_mcp::store::graph::{EntityQuery, MOST_MENTIONS, StepQuery, Together};
use cognitive_memory_mcp::store::port::{
    EntityName, EntityRecord, Imported, Place, Record, RelationRecord, Section,
};
use cognitive_memory_mcp::store::{ContextQuery, ForgetMode, Store, StoreError};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{at, forget, note, remember, scope, store_one};

fn entity(name: &str) -> NewEntity {
    NewEntity {
        name: name.to_owned(),
        ..NewEntity::default()
    }
}

fn relation(from: &str, kind: &str, to: &str) -> NewRelation {
    NewRelation {
        from: from.to_owned(),
        to: to.to_owned(),
        kind: Some(kind.to_owned()),
        weight: None,
        properties: Map::new(),
        valid_from: None,
        valid_to: None,
        never_ends: false,
        unlink: None,
    }
}

fn properties(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

async fn link(
    store: &dyn Store,
    scope: &Scope,
    entities: Vec<NewEntity>,
    relations: Vec<NewRelation>,
) -> Result<Linked, StoreError> {
    store
        .link(
            scope,
            &Links {
                entities,
                relations,
            },
            at(0),
        )
        .await
}

async fn named(store: &dyn Store, scope: &Scope, names: &[&str]) -> Vec<Entity> {
    let keys = names.iter().map(|name| name_key(name)).collect();
    store
        .entities(scope, &EntityQuery::Keys(keys))
        .await
        .unwrap()
}

async fn number(store: &dyn Store, scope: &Scope, name: &str) -> i64 {
    named(store, scope, &[name]).await[0].seq
}

async fn steps(store: &dyn Store, scope: &Scope, frontier: &[i64], at: DateTime<Utc>) -> Vec<Step> {
    let query = StepQuery {
        frontier,
        at,
        kind: None,
        most: 100,
    };
    let mut steps = store.steps(scope, &query).await.unwrap();
    steps.sort_by_key(|step| (step.at, step.relation));
    steps
}

/// Returns the relations of an entity at a time.
async fn relations(
    store: &dyn Store,
    scope: &Scope,
    name: &str,
    time: DateTime<Utc>,
) -> Vec<Relation> {
    let start = number(store, scope, name).await;
    let numbers: Vec<i64> = steps(store, scope, &[start], time)
        .await
        .iter()
        .map(|step| step.relation)
        .collect();
    let mut found = store.relations(scope, &numbers).await.unwrap();
    assert!(found.iter().all(|relation| relation.holds_at(time)));
    found.sort_by_key(|relation| relation.seq);
    found
}

pub(crate) async fn links_are_merged_never_replaced(store: Arc<dyn Store>) {
    let scope = scope();
    let ada = NewEntity {
        kind: Some("person".into()),
        properties: properties(json!({"born": 1815, "works": {"note": "G", "lang": "en"}})),
        ..entity("Ada Lovelace")
    };
    let weighted = NewRelation {
        weight: Some(0.25),
        properties: properties(json!({"since": 1833})),
        ..relation("Ada Lovelace", "knows", "Charles Babbage")
    };
    let first = link(&*store, &scope, vec![ada], vec![weighted])
        .await
        .unwrap();
    assert_eq!(
        first,
        Linked {
            entities_created: 2,
            relations_created: 1,
            ..Linked::default()
        }
    );
    let patch = NewEntity {
        properties: properties(json!({"born": null, "works": {"lang": "fr"}})),
        ..entity("ADA  lovelace")
    };
    let again = NewRelation {
        properties: properties(json!({"where": "London"})),
        ..relation("ada lovelace", "knows", "Charles Babbage")
    };
    let second = link(&*store, &scope, vec![patch], vec![again])
        .await
        .unwrap();
    assert_eq!(
        (
            second.entities_changed,
            second.relations_changed,
            second.entities_created
        ),
        (1, 1, 0)
    );
    assert_eq!(
        second.same[0],
        ("ADA  lovelace".to_owned(), "Ada Lovelace".to_owned())
    );
    let ada = named(&*store, &scope, &["Ada Lovelace"]).await.remove(0);
    assert_eq!(
        (ada.name.as_str(), ada.kind.as_str(), ada.use_count),
        ("Ada Lovelace", "person", 2)
    );
    assert_eq!(
        Value::Object(ada.properties.to_map()),
        json!({"works": {"note": "G", "lang": "fr"}})
    );
    assert_eq!(
        (ada.project.as_str(), ada.created_at, ada.last_used_at),
        (scope.project(), at(0), Some(at(0)))
    );
    let known = relations(&*store, &scope, "Charles Babbage", at(1)).await;
    assert_eq!(known.len(), 1);
    assert!((known[0].weight - 0.25).abs() < 1e-12);
    assert_eq!(
        Value::Object(known[0].properties.to_map()),
        json!({"since": 1833, "where": "London"})
    );
    assert_eq!(known[0].use_count, 2);
    // A second repetition changes nothing.
    let third = link(&*store, &scope, vec![entity("Ada Lovelace")], Vec::new())
        .await
        .unwrap();
    assert_eq!((third.entities_changed, third.entities_created), (0, 0));
}

pub(crate) async fn spellings_of_a_name_are_one_entity(store: Arc<dyn Store>) {
    let scope = scope();
    let batch = ["Zoë", "ZOE\u{308}", "zoë "].map(entity).to_vec();
    let linked = link(
        &*store,
        &scope,
        batch,
        vec![relation("STRASSE", "leads to", "Zoë")],
    )
    .await
    .unwrap();
    assert_eq!((linked.entities_created, linked.relations_created), (2, 1));
    let linked = link(&*store, &scope, vec![entity("Straße")], Vec::new())
        .await
        .unwrap();
    assert_eq!(linked.same, [("Straße".to_owned(), "STRASSE".to_owned())]);
    // Many concurrent writers, each with its own spelling.
    let spellings = ["turing", "Turing", "TURING", "tURING", "TuRiNg", "Ｔuring"];
    let tasks = spellings.map(|name| {
        link(
            &*store,
            &scope,
            vec![entity(name)],
            vec![relation(name, "met", "zoë")],
        )
    });
    let created: usize = join_all(tasks)
        .await
        .into_iter()
        .map(|linked| linked.unwrap().entities_created)
        .sum();
    assert_eq!(created, 1);
    let turing = named(&*store, &scope, &["Turing"]).await;
    assert_eq!((turing.len(), turing[0].use_count), (1, 6));
    let met = relations(&*store, &scope, "Turing", at(0)).await;
    assert_eq!((met.len(), met[0].use_count), (1, 6));
}

pub(crate) async fn a_relation_ends_without_being_erased(store: Arc<dyn Store>) {
    let scope = scope();
    let begin = NewRelation {
        valid_from: Some(at(-1_000)),
        ..relation("Ada", "works at", "Acme")
    };
    link(&*store, &scope, Vec::new(), vec![begin])
        .await
        .unwrap();
    let end = NewRelation {
        unlink: Some(Unlink::End),
        valid_to: Some(at(-500)),
        ..relation("Ada", "works at", "Acme")
    };
    assert_eq!(
        link(&*store, &scope, Vec::new(), vec![end.clone()])
            .await
            .unwrap()
            .relations_changed,
        1
    );
    // The relation has ended: the same request again changes nothing.
    assert_eq!(
        link(&*store, &scope, Vec::new(), vec![end])
            .await
            .unwrap()
            .relations_changed,
        0
    );
    for (time, holds) in [(-1_001, 0), (-1_000, 1), (-501, 1), (-500, 0), (0, 0)] {
        assert_eq!(
            relations(&*store, &scope, "Ada", at(time)).await.len(),
            holds,
            "{time}"
        );
    }
    // The relation begins again, in addition to the former period.
    let linked = link(
        &*store,
        &scope,
        Vec::new(),
        vec![relation("Ada", "works at", "Acme")],
    )
    .await
    .unwrap();
    assert_eq!(linked.relations_created, 1);
    assert_eq!(
        relations(&*store, &scope, "Ada", at(1)).await[0].valid_from,
        Some(at(0))
    );
    assert_eq!(
        relations(&*store, &scope, "Ada", at(-700)).await[0].valid_to,
        Some(at(-500))
    );
    let erase = NewRelation {
        kind: None,
        unlink: Some(Unlink::Erase),
        ..relation("Ada", "", "Acme")
    };
    assert_eq!(
        link(&*store, &scope, Vec::new(), vec![erase])
            .await
            .unwrap()
            .erased,
        2
    );
    assert!(relations(&*store, &scope, "Ada", at(-700)).await.is_empty());
}

pub(crate) async fn an_erased_entity_takes_all_of_its_own_along(store: Arc<dyn Store>) {
    let scope = scope();
    let memory = NewMemory {
        links: Links {
            entities: vec![entity("Bob")],
            ..Links::default()
        },
        ..note("Bob came")
    };
    store_one(&*store, &scope, memory).await;
    link(
        &*store,
        &scope,
        Vec::new(),
        vec![
            relation("Bob", "knows", "Eve"),
            relation("Eve", "knows", "Bob"),
        ],
    )
    .await
    .unwrap();
    let erase = NewEntity {
        erase: true,
        ..entity("bob")
    };
    let linked = link(&*store, &scope, vec![erase.clone()], Vec::new())
        .await
        .unwrap();
    assert_eq!(linked.erased, 1);
    assert!(named(&*store, &scope, &["Bob"]).await.is_empty());
    assert!(relations(&*store, &scope, "Eve", at(0)).await.is_empty());
    let error = link(&*store, &scope, vec![erase], Vec::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Invalid(invalid) if invalid.field == "entities[0].name"),
        "{error:?}"
    );
}

pub(crate) async fn a_refused_link_leaves_nothing(store: Arc<dyn Store>) {
    let scope = scope();
    link(
        &*store,
        &scope,
        Vec::new(),
        vec![relation("a", "is near", "b")],
    )
    .await
    .unwrap();
    let end = |from: &str, to: &str| NewRelation {
        unlink: Some(Unlink::End),
        ..relation(from, "is near", to)
    };
    let early = NewRelation {
        valid_from: Some(at(5)),
        valid_to: Some(at(4)),
        ..relation("a", "is far from", "b")
    };
    for (bad, field) in [
        (end("a", "nobody"), "relations[1].to"),
        (end("nobody", "b"), "relations[1].from"),
        (end("b", "a"), "relations[1].type"),
        (early, "relations[1].valid_to"),
    ] {
        let error = link(
            &*store,
            &scope,
            vec![entity("new")],
            vec![relation("new", "is", "newer"), bad],
        )
        .await
        .unwrap_err();
        assert!(
            matches!(&error, StoreError::Invalid(invalid) if invalid.field == field),
            "{field}: {error:?}"
        );
    }
    assert!(named(&*store, &scope, &["new", "newer"]).await.is_empty());
    // A failing remember stores nothing, and does not affect concurrent requests.
    let links = Links {
        relations: vec![NewRelation {
            valid_from: Some(at(9)),
            valid_to: Some(at(8)),
            ..relation("x", "y", "z")
        }],
        ..Links::default()
    };
    let (good, bad) = (
        note("good"),
        NewMemory {
            links,
            ..note("bad")
        },
    );
    let (one, other) = tokio::join!(
        remember(&*store, &scope, vec![note("before"), bad]),
        remember(&*store, &scope, vec![good])
    );
    let error = one.unwrap_err();
    let field = "items[1].relations[0].valid_to";
    assert!(
        matches!(&error, StoreError::Invalid(invalid) if invalid.field == field),
        "{error:?}"
    );
    assert!(other.is_ok());
    assert_eq!(
        store
            .browse(&scope, &Filter::at(at(1)), None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(named(&*store, &scope, &["x", "z"]).await.is_empty());
}

pub(crate) async fn entities_are_found_by_words_and_by_age(store: Arc<dyn Store>) {
    let (mine, other) = (scope(), scope());
    let known = NewEntity {
        properties: properties(json!({"a": 1})),
        ..entity("Marta  Lindqvist")
    };
    link(
        &*store,
        &mine,
        vec![known, entity("src/main.rs")],
        Vec::new(),
    )
    .await
    .unwrap();
    link(&*store, &other, vec![entity("Marta Lindqvist")], Vec::new())
        .await
        .unwrap();
    let names = async |query: EntityQuery| -> Vec<String> {
        store
            .entities(&mine, &query)
            .await
            .unwrap()
            .into_iter()
            .map(|entity| entity.name)
            .collect()
    };
    let words = |words: &[&str]| {
        EntityQuery::Words(words.iter().map(|words| (*words).to_owned()).collect())
    };
    assert_eq!(
        names(words(&["marta lindqvist", "src main.rs"])).await,
        ["Marta  Lindqvist", "src/main.rs"]
    );
    assert!(names(words(&["marta", "Marta Lindqvist"])).await.is_empty());
    assert_eq!(names(EntityQuery::Newest(1)).await, ["src/main.rs"]);
    let newest = store
        .entities(&mine, &EntityQuery::Newest(10))
        .await
        .unwrap();
    assert!(
        newest.len() == 2 && newest.iter().all(|entity| entity.properties.is_empty()),
        "{newest:?}"
    );
}

pub(crate) async fn entities_are_listed_by_type_and_prefix(store: Arc<dyn Store>) {
    let scope = scope();
    let batch = (0..30)
        .map(|n| NewEntity {
            kind: Some(if n % 3 == 0 { "city" } else { "person" }.into()),
            ..entity(&format!("Name {n:02}"))
        })
        .chain([entity("Other"), entity("100%_real")])
        .collect();
    link(&*store, &scope, batch, Vec::new()).await.unwrap();
    let list = async |kind: Option<&str>, prefix: &str, after: &str, limit: usize| {
        let (kind, prefix, after) = (kind.map(str::to_owned), name_key(prefix), name_key(after));
        let found = store
            .entities(
                &scope,
                &EntityQuery::List {
                    kind,
                    prefix,
                    after,
                    limit,
                },
            )
            .await
            .unwrap();
        found
            .into_iter()
            .map(|entity| entity.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(None, "", "", 100).await.len(), 32);
    assert_eq!(
        list(None, "NAME 0", "", 3).await,
        ["Name 00", "Name 01", "Name 02"]
    );
    assert_eq!(
        list(None, "name 0", "Name 02", 2).await,
        ["Name 03", "Name 04"]
    );
    assert_eq!(list(Some("city"), "", "", 100).await.len(), 10);
    assert_eq!(
        list(Some("city"), "name 1", "name 12", 5).await,
        ["Name 15", "Name 18"]
    );
    assert_eq!(list(None, "100%", "", 5).await, ["100%_real"]);
    assert!(
        list(Some("planet"), "", "", 5).await.is_empty()
            && list(None, "x%", "", 5).await.is_empty()
    );
}

pub(crate) async fn the_strongest_relations_come_first(store: Arc<dyn Store>) {
    let scope = scope();
    let spoke = |n: u32| NewRelation {
        weight: Some(f64::from(n) / 100.0),
        ..if n.is_multiple_of(2) {
            relation("hub", "turns", &format!("rim {n}"))
        } else {
            relation(&format!("rim {n}"), "holds", "hub")
        }
    };
    link(&*store, &scope, Vec::new(), (0..=99).map(spoke).collect())
        .await
        .unwrap();
    let hub = number(&*store, &scope, "hub").await;
    let query = StepQuery {
        frontier: &[hub],
        at: at(0),
        kind: None,
        most: 3,
    };
    let mut weights: Vec<f64> = store
        .steps(&scope, &query)
        .await
        .unwrap()
        .iter()
        .map(|step| step.weight)
        .collect();
    weights.sort_by(f64::total_cmp);
    assert_eq!(weights, [0.94, 0.95, 0.96, 0.97, 0.98, 0.99]);
    let turns = StepQuery {
        kind: Some("turns"),
        most: 1_000,
        ..query
    };
    assert_eq!(store.steps(&scope, &turns).await.unwrap().len(), 50);
    let mut walk = Walk::new(&[hub], 10);
    walk.absorb(steps(&*store, &scope, &[hub], at(0)).await, 100);
    assert!(walk.is_partial());
    assert_eq!(walk.entities().count(), 10);
}

pub(crate) async fn relations_between_entities_are_found(store: Arc<dyn Store>) {
    let scope = scope();
    let weighted = |from: &str, kind: &str, to: &str, weight| NewRelation {
        weight: Some(weight),
        ..relation(from, kind, to)
    };
    let ended = NewRelation {
        valid_to: Some(at(-10)),
        ..weighted("b", "left", "c", 1.0)
    };
    let batch = vec![
        weighted("a", "knows", "b", 0.1),
        weighted("b", "knows", "c", 0.3),
        weighted("c", "likes", "a", 0.2),
        weighted("c", "knows", "d", 0.9),
        ended,
    ];
    link(&*store, &scope, Vec::new(), batch).await.unwrap();
    let mut ends = Vec::new();
    for name in ["a", "b", "c"] {
        ends.push(number(&*store, &scope, name).await);
    }
    let between = async |scope: &Scope, kind, most| -> Vec<String> {
        let query = StepQuery {
            frontier: &ends,
            at: at(0),
            kind,
            most,
        };
        let numbers = store.between(scope, &query).await.unwrap();
        let found = store.relations(scope, &numbers).await.unwrap();
        let found = numbers
            .iter()
            .filter_map(|number| found.iter().find(|relation| relation.seq == *number));
        found
            .map(|relation| format!("{} {}", relation.kind, relation.weight))
            .collect()
    };
    assert_eq!(
        between(&scope, None, 10).await,
        ["knows 0.3", "likes 0.2", "knows 0.1"]
    );
    assert_eq!(between(&scope, Some("knows"), 1).await, ["knows 0.3"]);
    assert!(between(&super::scope(), None, 10).await.is_empty());
}

pub(crate) async fn graphs_of_projects_are_apart(store: Arc<dyn Store>) {
    let (mine, theirs) = (scope(), super::scope());
    link(
        &*store,
        &mine,
        Vec::new(),
        vec![relation("Ada", "knows", "Bob")],
    )
    .await
    .unwrap();
    link(
        &*store,
        &theirs,
        Vec::new(),
        vec![relation("ada", "hides", "Secret")],
    )
    .await
    .unwrap();
    let foreign = number(&*store, &theirs, "Secret").await;
    let ada = number(&*store, &theirs, "Ada").await;
    assert_eq!(named(&*store, &mine, &["Ada", "Secret"]).await.len(), 1);
    assert!(
        store
            .entities(&mine, &EntityQuery::Numbers(vec![foreign]))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        steps(&*store, &mine, &[foreign, ada], at(0))
            .await
            .is_empty()
    );
    let hidden = steps(&*store, &theirs, &[foreign], at(0)).await[0].relation;
    assert!(store.relations(&mine, &[hidden]).await.unwrap().is_empty());
    let all = EntityQuery::List {
        kind: None,
        prefix: String::new(),
        after: String::new(),
        limit: 10,
    };
    assert_eq!(store.entities(&mine, &all).await.unwrap().len(), 2);
    // A scope that reads both projects sees both, but writes to one.
    let both = Scope::new(mine.project(), "reader").reading([theirs.project().to_owned()]);
    assert_eq!(named(&*store, &both, &["Ada"]).await.len(), 2);
    assert_eq!(store.entities(&both, &all).await.unwrap().len(), 4);
    let end = NewRelation {
        unlink: Some(Unlink::Erase),
        ..relation("Ada", "hides", "Secret")
    };
    assert!(link(&*store, &both, Vec::new(), vec![end]).await.is_err());
    assert_eq!(steps(&*store, &theirs, &[ada], at(0)).await.len(), 1);
}

/// Returns a memory that mentions entities.
pub(crate) fn telling(content: &str, names: &[&str]) -> NewMemory {
    let links = Links {
        entities: names.iter().map(|name| entity(name)).collect(),
        ..Links::default()
    };
    NewMemory {
        links,
        ..note(content)
    }
}

async fn mentions(store: &dyn Store, scope: &Scope, name: &str) -> Vec<Uuid> {
    let entity = number(store, scope, name).await;
    let found = store
        .mentions(scope, &[entity], at(10), None, 10)
        .await
        .unwrap();
    assert!(found.iter().all(|mention| mention.entity == entity));
    found.into_iter().map(|mention| mention.id).collect()
}

pub(crate) async fn a_memory_keeps_whom_it_mentions(store: Arc<dyn Store>) {
    let scope = scope();
    let links = Links {
        entities: vec![NewEntity {
            kind: Some("person".into()),
            ..entity("Ada")
        }],
        relations: vec![relation("Ada", "likes", "Tea")],
    };
    let first = store_one(
        &*store,
        &scope,
        NewMemory {
            links,
            ..note("she likes it")
        },
    )
    .await;
    let second = store_one(&*store, &scope, telling("again about her", &["ADA", "Bob"])).await;
    assert_eq!(mentions(&*store, &scope, "Ada").await, [second, first]);
    assert_eq!(mentions(&*store, &scope, "Tea").await, [first]);
    assert_eq!(relations(&*store, &scope, "Tea", at(0)).await.len(), 1);
    assert_eq!(named(&*store, &scope, &["ada"]).await[0].kind, "person");
    // Existing memories gain mentions, each only once.
    let answer = remember(
        &*store,
        &scope,
        vec![telling("she likes it", &["Ada", "Carol"])],
    )
    .await
    .unwrap();
    assert_eq!((answer[0].id, answer[0].created), (first, false));
    assert_eq!(mentions(&*store, &scope, "Carol").await, [first]);
    assert_eq!(mentions(&*store, &scope, "Ada").await, [second, first]);
    // Two equal items of one batch become one memory with the mentions of both.
    let batch = vec![telling("twins", &["Castor"]), telling("twins", &["Pollux"])];
    let twin = remember(&*store, &scope, batch).await.unwrap()[0].id;
    assert_eq!(
        (
            mentions(&*store, &scope, "Castor").await,
            mentions(&*store, &scope, "pollux").await
        ),
        (vec![twin], vec![twin])
    );
    // A deleted memory is not counted, and a purged one leaves no mention behind.
    forget(&*store, &scope, second, ForgetMode::Delete).await;
    assert_eq!(mentions(&*store, &scope, "Ada").await, [first]);
    forget(&*store, &scope, second, ForgetMode::Restore).await;
    assert_eq!(mentions(&*store, &scope, "Bob").await, [second]);
    forget(&*store, &scope, second, ForgetMode::Purge).await;
    assert!(mentions(&*store, &scope, "Bob").await.is_empty());
    let outdated = NewMemory {
        supersedes: vec![first],
        ..telling("newer", &["Ada"])
    };
    let newer = store_one(&*store, &scope, outdated).await;
    assert_eq!(mentions(&*store, &scope, "Ada").await, [newer]);
}

async fn naming(
    store: &dyn Store,
    scope: &Scope,
    query: &str,
    filter: &Filter,
    mentioning: usize,
) -> NamedEntities {
    let query = ContextQuery {
        turns: Vec::new(),
        names: names_in(query),
        mentioning,
        filter: filter.clone(),
    };
    store.context(scope, &query).await.unwrap().entities
}

pub(crate) async fn a_query_finds_whom_it_names(store: Arc<dyn Store>) {
    let scope = scope();
    assert!(
        !store
            .corpus_stats(&scope, &["word".into()])
            .await
            .unwrap()
            .has_entities
    );
    let ada = store_one(&*store, &scope, telling("she likes tea", &["Ada Lovelace"])).await;
    let both = store_one(
        &*store,
        &scope,
        telling("they met", &["Ada Lovelace", "Bob"]),
    )
    .await;
    let insight = NewMemory {
        kind: Kind::Insight,
        ..telling("a pattern", &["Bob"])
    };
    let insight = store_one(&*store, &scope, insight).await;
    assert!(
        store
            .corpus_stats(&scope, &["word".into()])
            .await
            .unwrap()
            .has_entities
    );
    let ask = async |query: &str, filter: Filter| {
        let found = naming(&*store, &scope, query, &filter, 10).await;
        let ids: Vec<Uuid> = found.memories.iter().map(|memory| memory.id).collect();
        (found.names, ids)
    };
    let all = Filter::at(at(10));
    assert_eq!(
        ask("what does Ada LOVELACE's cat like", all.clone()).await,
        (1, vec![both, ada])
    );
    assert_eq!(
        ask("did ada lovelace meet bob?", all.clone()).await,
        (2, vec![insight, both, ada])
    );
    let notes = Filter {
        kinds: vec![Kind::Note],
        ..all.clone()
    };
    assert_eq!(ask("bob", notes).await, (1, vec![both]));
    assert_eq!(ask("bobby lovelace", all.clone()).await, (0, vec![]));
    let found = naming(&*store, &scope, "ada lovelace bob", &all, 2).await;
    assert_eq!(found.memories.len(), 2);
    let mut names = found.memories[1].entities.clone();
    names.sort();
    assert_eq!(names, ["Ada Lovelace", "Bob"]);
    forget(&*store, &scope, both, ForgetMode::Delete).await;
    assert_eq!(ask("bob", all.clone()).await.1, [insight]);
    let elsewhere = super::scope();
    assert!(
        naming(&*store, &elsewhere, "bob", &all, 10)
            .await
            .memories
            .is_empty()
    );
}

pub(crate) async fn mentions_together_are_counted(store: Arc<dyn Store>) {
    let scope = scope();
    for (content, names) in [
        ("one", ["a", "b", "c"]),
        ("two", ["a", "b", "d"]),
        ("three", ["b", "c", "d"]),
    ] {
        store_one(&*store, &scope, telling(content, &names)).await;
    }
    let numbers: Vec<i64> = [
        number(&*store, &scope, "a").await,
        number(&*store, &scope, "b").await,
    ]
    .to_vec();
    let found = store
        .mentioned_together(&scope, &numbers[..1])
        .await
        .unwrap();
    assert_eq!(found.entities[0], (numbers[1], 2));
    assert_eq!(
        found
            .entities
            .iter()
            .map(|(_, count)| *count)
            .collect::<Vec<_>>(),
        [2, 1, 1]
    );
    assert!(!found.partial);
    assert_eq!(
        store
            .mentioned_together(&super::scope(), &numbers)
            .await
            .unwrap(),
        Together::default()
    );
    // More memories than the service reads: the newest count.
    let most = usize::try_from(MOST_MENTIONS).unwrap();
    let items = (0..most + 50).map(|number| {
        telling(
            &format!("{number}"),
            &["hub", if number < 50 { "old" } else { "new" }],
        )
    });
    remember(&*store, &scope, items.collect()).await.unwrap();
    let hub = number(&*store, &scope, "hub").await;
    let found = store.mentioned_together(&scope, &[hub]).await.unwrap();
    let new = number(&*store, &scope, "new").await;
    assert_eq!(
        found,
        Together {
            entities: vec![(new, most as u64)],
            partial: true
        }
    );
}

pub(crate) async fn a_protected_memory_mentions_what_it_did(store: Arc<dyn Store>) {
    let scope = scope();
    let protected = NewMemory {
        protected: true,
        ..telling("the owner's word", &["Ada"])
    };
    let id = store_one(&*store, &scope, protected).await;
    let answer = remember(
        &*store,
        &scope,
        vec![telling("the owner's word", &["Ada", "Eve"])],
    )
    .await
    .unwrap();
    assert_eq!((answer[0].id, answer[0].created), (id, false));
    let ends = [
        number(&*store, &scope, "Ada").await,
        number(&*store, &scope, "Eve").await,
    ];
    let found = store
        .mentions(&scope, &ends, at(1), None, 10)
        .await
        .unwrap();
    assert_eq!(
        found
            .iter()
            .map(|mention| (mention.entity, mention.id))
            .collect::<Vec<_>>(),
        [(ends[0], id)]
    );
}

pub(crate) async fn what_has_not_begun_cannot_end(store: Arc<dyn Store>) {
    let scope = scope();
    let from = |kind: &str, seconds| NewRelation {
        valid_from: Some(at(seconds)),
        ..relation("Ada", kind, "Acme")
    };
    let batch = vec![
        from("works at", -100),
        from("will own", 100),
        from("will leave", 200),
    ];
    link(&*store, &scope, Vec::new(), batch).await.unwrap();
    let end = NewRelation {
        kind: None,
        unlink: Some(Unlink::End),
        ..relation("Ada", "", "Acme")
    };
    let linked = link(&*store, &scope, Vec::new(), vec![end.clone()])
        .await
        .unwrap();
    assert_eq!(linked.relations_changed, 1);
    let later: Vec<_> = linked
        .not_begun
        .iter()
        .map(|later| (later.kind.as_str(), later.valid_from))
        .collect();
    assert_eq!(later, [("will own", at(100)), ("will leave", at(200))]);
    assert!(relations(&*store, &scope, "Ada", at(1)).await.is_empty());
    assert_eq!(relations(&*store, &scope, "Ada", at(201)).await.len(), 2);
    let error = link(&*store, &scope, Vec::new(), vec![end.clone()])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Invalid(invalid) if invalid.field == "relations[0].valid_to"),
        "{error:?}"
    );
    let end = NewRelation {
        valid_to: Some(at(150)),
        ..end
    };
    assert_eq!(
        link(&*store, &scope, Vec::new(), vec![end])
            .await
            .unwrap()
            .not_begun
            .len(),
        1
    );
    assert_eq!(relations(&*store, &scope, "Ada", at(201)).await.len(), 1);
}

pub(crate) async fn a_large_batch_is_linked_at_once(store: Arc<dyn Store>) {
    let scope = scope();
    let relations: Vec<NewRelation> = (0..1_000)
        .map(|n| {
            relation(
                &format!("e{}", n % 100),
                "next",
                &format!("e{}", (n + 1 + n / 100) % 100),
            )
        })
        .collect();
    let linked = link(&*store, &scope, Vec::new(), relations.clone())
        .await
        .unwrap();
    assert_eq!(
        (linked.entities_created, linked.relations_created),
        (100, 1_000)
    );
    let again = link(&*store, &scope, Vec::new(), relations).await.unwrap();
    assert_eq!(
        (
            again.entities_created,
            again.relations_created,
            again.relations_changed
        ),
        (0, 0, 0)
    );
}

/// A relation that ended and began again has a row for each period, so no key of the table can prevent a second copy.
pub(crate) async fn imports_at_once_store_nothing_twice(store: Arc<dyn Store>) {
    let scope = scope();
    let project = scope.project().to_owned();
    let name = |number: u32| EntityName {
        name: format!("e{number}"),
        kind: "thing".to_owned(),
    };
    let entity = |number: u32| {
        Record::Entity(EntityRecord {
            project: project.clone(),
            name: name(number).name,
            kind: name(number).kind,
            properties: Map::new(),
            use_count: 0,
            last_used_at: None,
            created_at: at(0),
            updated_at: at(0),
        })
    };
    let relation = |number: u32| {
        Record::Relation(Box::new(RelationRecord {
            project: project.clone(),
            source: name(number),
            target: name(number + 1),
            kind: "leads to".to_owned(),
            weight: 1.0,
            properties: Map::new(),
            use_count: 0,
            last_used_at: None,
            valid_from: number.is_multiple_of(2).then(|| at(0)),
            valid_to: None,
            created_at: at(0),
            updated_at: at(0),
        }))
    };
    let entities: Vec<Record> = (0..41).map(entity).collect();
    let relations: Vec<Record> = (0..40).map(relation).collect();
    for records in [&entities, &relations] {
        let answers = join_all((0..8).map(|_| store.import(&scope, records))).await;
        let answers: Vec<Imported> = answers.into_iter().flat_map(Result::unwrap).collect();
        let created = answers
            .iter()
            .filter(|answer| **answer == Imported::Created)
            .count();
        assert_eq!(created, records.len());
        assert_eq!(
            answers
                .iter()
                .filter(|answer| **answer == Imported::Present)
                .count(),
            7 * records.len()
        );
    }
    let mut snapshot = store.snapshot(&scope).await.unwrap();
    for (section, expected) in [(Section::Entity, 41), (Section::Relation, 40)] {
        let (found, _) = snapshot
            .page(section, Place::default(), 1_000)
            .await
            .unwrap();
        assert_eq!(found.len(), expected, "{section:?}");
    }
}
