//! What stands around memories that were found.

use std::sync::Arc;

use cognitive_memory_mcp::domain::conversation::Turn;
use cognitive_memory_mcp::domain::graph::names_in;
use cognitive_memory_mcp::domain::{Filter, NewMemory, Scope};
use cognitive_memory_mcp::store::{AroundQuery, ForgetMode, Store};
use uuid::Uuid;

use super::graph::telling;
use super::{at, forget, remember, scope, search, store_one, turn};

/// The number of the scope's project.
async fn project(store: &dyn Store, scope: &Scope) -> i64 {
    search(store, scope, "said", Filter::at(at(10))).await[0]
        .setting
        .project
}

fn places(project: i64, session: &str, numbers: impl IntoIterator<Item = i64>) -> Vec<Turn> {
    numbers
        .into_iter()
        .map(|number| Turn {
            project,
            session: session.to_owned(),
            number,
        })
        .collect()
}

fn query(turns: Vec<Turn>, filter: Filter) -> AroundQuery {
    AroundQuery {
        turns,
        names: Vec::new(),
        mentioning: 10,
        filter,
    }
}

/// Ids and numbers of the turns that come.
async fn around(store: &dyn Store, scope: &Scope, query: &AroundQuery) -> Vec<(i64, Uuid)> {
    let found = store.around(scope, query).await.unwrap();
    let mut turns: Vec<(i64, Uuid)> = found
        .turns
        .iter()
        .map(|near| (near.setting.turn.as_ref().unwrap().number, near.id))
        .collect();
    turns.sort_unstable();
    turns
}

pub(crate) async fn turns_come_by_their_places(store: Arc<dyn Store>) {
    let scope = scope();
    let said = |number: i64, text: &str| NewMemory {
        speaker: Some("Ada".to_owned()),
        ..turn("s", number, text)
    };
    let items = vec![
        said(1, "said first"),
        said(2, "was it said? \n"),
        said(3, "said last"),
        turn("t", 2, "said there"),
    ];
    let sessions = async || {
        store
            .corpus_stats(&scope, &["said".into()])
            .await
            .unwrap()
            .has_sessions
    };
    assert!(!sessions().await);
    let ids: Vec<Uuid> = remember(&*store, &scope, items)
        .await
        .unwrap()
        .iter()
        .map(|item| item.id)
        .collect();
    assert!(sessions().await);
    let all = Filter::at(at(10));
    let own = project(&*store, &scope).await;
    let wanted = || query(places(own, "s", 0..=4), all.clone());
    assert_eq!(
        around(&*store, &scope, &wanted()).await,
        [(1, ids[0]), (2, ids[1]), (3, ids[2])]
    );
    let found = store
        .around(&scope, &query(places(own, "s", [2]), all.clone()))
        .await
        .unwrap();
    let setting = &found.turns[0].setting;
    assert_eq!(
        (setting.speaker.as_deref(), setting.asks, setting.project),
        (Some("Ada"), true, own)
    );
    assert_eq!(
        (setting.length, setting.occurred_at),
        (2, at(-60)),
        "said, and the speaker"
    );
    // The filter holds here, too.
    let nobody = Filter {
        speaker: Some("Bob".to_owned()),
        ..all.clone()
    };
    assert!(
        around(&*store, &scope, &query(places(own, "s", 0..=4), nobody))
            .await
            .is_empty()
    );
    // Neither what was deleted nor what was replaced is around anything.
    forget(&*store, &scope, ids[0], ForgetMode::Delete).await;
    let newer = store_one(
        &*store,
        &scope,
        NewMemory {
            supersedes: vec![ids[1]],
            ..said(2, "said otherwise")
        },
    )
    .await;
    assert_eq!(
        around(&*store, &scope, &wanted()).await,
        [(2, newer), (3, ids[2])]
    );
    let outdated = Filter {
        include_outdated: true,
        ..all.clone()
    };
    let wanted_outdated = query(places(own, "s", 0..=4), outdated);
    assert_eq!(
        around(&*store, &scope, &wanted_outdated).await,
        [(2, newer), (3, ids[2])]
    );
    // A project that is not in scope gives nothing, whoever knows its number.
    assert!(around(&*store, &super::scope(), &wanted()).await.is_empty());
}

pub(crate) async fn turns_and_mentions_come_together(store: Arc<dyn Store>) {
    let scope = scope();
    let near = store_one(&*store, &scope, turn("it's \"s\"", 7, "said so")).await;
    let told = store_one(&*store, &scope, telling("they met", &["Ada Lovelace"])).await;
    let own = project(&*store, &scope).await;
    let query = AroundQuery {
        names: names_in("who is Ada Lovelace"),
        ..query(places(own, "it's \"s\"", [6, 7]), Filter::at(at(10)))
    };
    let found = store.around(&scope, &query).await.unwrap();
    assert_eq!(
        found.turns.iter().map(|turn| turn.id).collect::<Vec<_>>(),
        [near]
    );
    assert_eq!(
        (
            found.named.named,
            found.named.memories[0].id,
            found.named.memories.len()
        ),
        (1, told, 1)
    );
}
