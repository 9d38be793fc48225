//! Suggestions while a person types.

use std::sync::Arc;

use cognitive_memory_mcp::domain::{NewMemory, Scope};
use cognitive_memory_mcp::store::completion::CompletionStore;
use cognitive_memory_mcp::store::{ForgetMode, Store};

use super::{forget, note, remember, scope, store_one};

fn tagged(content: &str, tags: &[&str]) -> NewMemory {
    NewMemory {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..note(content)
    }
}

async fn tags(store: &dyn Store, scope: &Scope, prefix: &str, limit: usize) -> Vec<String> {
    store.tags_with_prefix(scope, prefix, limit).await.unwrap()
}

pub(crate) async fn tags_come_by_prefix_and_use(store: Arc<dyn Store>) {
    let (mine, other) = (scope(), scope());
    assert!(tags(&*store, &mine, "", 10).await.is_empty());
    let items = vec![
        tagged("one", &["beta", "deploy", "über 100%"]),
        tagged("two", &["deploy", "beta-2"]),
        tagged("three", &["deploy", "desk", "Deploy"]),
    ];
    remember(&*store, &mine, items).await.unwrap();
    let gone = store_one(&*store, &mine, tagged("gone", &["deleted"])).await;
    forget(&*store, &mine, gone, ForgetMode::Delete).await;
    store_one(&*store, &other, tagged("theirs", &["desert"])).await;

    assert_eq!(
        tags(&*store, &mine, "de", 10).await,
        ["deploy", "desk"],
        "the most used first; nothing deleted"
    );
    assert_eq!(
        tags(&*store, &mine, "b", 10).await,
        ["beta", "beta-2"],
        "equally used ones by name"
    );
    assert_eq!(
        tags(&*store, &mine, "DE", 10).await,
        ["deploy", "desk"],
        "case does not matter"
    );
    assert_eq!(
        tags(&*store, &mine, "über 100%", 10).await,
        ["über 100%"],
        "no sign is a pattern"
    );
    assert!(tags(&*store, &mine, "%", 10).await.is_empty());
    assert!(tags(&*store, &mine, "_e", 10).await.is_empty());
    assert_eq!(
        tags(&*store, &mine, "ÜBER", 10).await,
        ["über 100%"],
        "beyond ASCII, too"
    );
    assert_eq!(
        tags(&*store, &mine, "", 2).await,
        ["deploy", "beta"],
        "bounded"
    );
    let both = mine.clone().reading([other.project().to_owned()]);
    assert_eq!(
        tags(&*store, &both, "de", 10).await,
        ["deploy", "desert", "desk"]
    );
    assert!(
        tags(&*store, &scope(), "", 10).await.is_empty(),
        "fails closed"
    );
}

pub(crate) async fn ids_come_by_prefix(store: Arc<dyn Store>) {
    let (mine, other) = (scope(), scope());
    let first = store_one(&*store, &mine, note("first")).await;
    let second = store_one(&*store, &mine, note("second")).await;
    let gone = store_one(&*store, &mine, note("gone")).await;
    forget(&*store, &mine, gone, ForgetMode::Delete).await;
    let theirs = store_one(&*store, &other, note("theirs")).await;
    let ids = async |scope: &Scope, digits: &str, limit: usize| {
        CompletionStore::ids_with_prefix(&*store, scope, digits, limit)
            .await
            .unwrap()
    };
    let digits = first.simple().to_string();
    assert_eq!(
        ids(&mine, "", 10).await,
        [second, first],
        "the newest first"
    );
    assert_eq!(ids(&mine, "", 1).await, [second]);
    assert_eq!(ids(&mine, &digits, 10).await, [first]);
    assert_eq!(ids(&mine, &digits[..31], 10).await, [first]);
    assert!(ids(&mine, "ffff", 10).await.is_empty());
    assert!(ids(&mine, "%", 10).await.is_empty());
    assert!(
        ids(&mine, &theirs.simple().to_string(), 10)
            .await
            .is_empty(),
        "another project's do not exist"
    );
    assert_eq!(
        ids(&mine.clone().reading([other.project().to_owned()]), "", 10).await,
        [theirs, second, first]
    );
}
