//! Entities, relations and mentions.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use cognitive_memory_mcp::domain::graph::{
    Entity, Linked, NewEntity, NewRelation, Relation, Unlink, name_key,
};
use cognitive_memory_mcp::domain::graph_traversal::{Step, Walk};
use cognitive_memory_mcp::domain::{Filter, Links, NewMemory, Scope};
use cognitive_memory_mcp::store::graph::{EntityQuery, StepQuery};
use cognitive_memory_mcp::store::port::{
    EntityName, EntityRecord, Imported, Record, RecordPosition, RelationRecord, Section,
};
use cognitive_memory_mcp::store::{Store, StoreError};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};

use super::{at, note, remember, scope};

pub(super) fn entity(name: &str) -> NewEntity {
    NewEntity {
        name: name.to_owned(),
        ..NewEntity::default()
    }
}

pub(super) fn relation(from: &str, kind: &str, to: &str) -> NewRelation {
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

pub(super) fn properties(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(super) async fn link(
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

pub(super) async fn named(store: &dyn Store, scope: &Scope, names: &[&str]) -> Vec<Entity> {
    let keys = names.iter().map(|name| name_key(name)).collect();
    store
        .entities(scope, &EntityQuery::Keys(keys))
        .await
        .unwrap()
}

pub(super) async fn number(store: &dyn Store, scope: &Scope, name: &str) -> i64 {
    named(store, scope, &[name]).await[0].seq
}

pub(super) async fn steps(
    store: &dyn Store,
    scope: &Scope,
    frontier: &[i64],
    at: DateTime<Utc>,
) -> Vec<Step> {
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
pub(super) async fn relations(
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
            .page(section, RecordPosition::default(), 1_000)
            .await
            .unwrap();
        assert_eq!(found.len(), expected, "{section:?}");
    }
}
