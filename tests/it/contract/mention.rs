//! Contract: entities that memories mention.

use std::sync::Arc;

use cognitive_memory_mcp::domain::graph::{NewEntity, names_in};
use cognitive_memory_mcp::domain::ranking::NamedEntities;
use cognitive_memory_mcp::domain::{Filter, Kind, Links, NewMemory, Scope};
use cognitive_memory_mcp::store::graph::{MOST_MENTIONS, Together};
use cognitive_memory_mcp::store::{ContextQuery, ForgetMode, Store};
use uuid::Uuid;

use super::graph::{entity, named, number, relation, relations};
use super::{at, forget, note, remember, scope, store_one};

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
