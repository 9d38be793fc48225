//! Contract: names, search and lists of entities.

use std::sync::Arc;

use cognitive_memory_mcp::domain::graph::{NewEntity, name_key};
use cognitive_memory_mcp::domain::{Links, NewMemory};
use cognitive_memory_mcp::store::graph::EntityQuery;
use cognitive_memory_mcp::store::{Store, StoreError};
use futures_util::future::join_all;
use serde_json::json;

use super::graph::{entity, link, named, properties, relation, relations};
use super::{at, note, scope, store_one};

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
