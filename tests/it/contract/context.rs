//! The context of candidates: turns by their positions, and memories that mention named entities.

use std::sync::Arc;

use cognitive_memory_mcp::domain::conversation::Turn;
use cognitive_memory_mcp::domain::graph::names_in;
use cognitive_memory_mcp::domain::{Filter, NewMemory, Scope};
use cognitive_memory_mcp::store::{ContextQuery, ForgetMode, Store};
use uuid::Uuid;

use super::mention::telling;
use super::{at, forget, remember, scope, store_one, turn};

fn positions(scope: &Scope, session: &str, numbers: impl IntoIterator<Item = i64>) -> Vec<Turn> {
    numbers
        .into_iter()
        .map(|number| Turn {
            project: scope.project().to_owned(),
            session: session.to_owned(),
            number,
        })
        .collect()
}

fn query(turns: Vec<Turn>, filter: Filter) -> ContextQuery {
    ContextQuery {
        turns,
        names: Vec::new(),
        mentioning: 10,
        filter,
    }
}

/// Returns the numbers and IDs of the returned turns.
async fn find_turns(store: &dyn Store, scope: &Scope, query: &ContextQuery) -> Vec<(i64, Uuid)> {
    let found = store.context(scope, query).await.unwrap();
    let mut turns: Vec<(i64, Uuid)> = found
        .turns
        .iter()
        .map(|near| (near.context.turn.as_ref().unwrap().number, near.id))
        .collect();
    turns.sort_unstable();
    turns
}

pub(crate) async fn turns_come_by_their_positions(store: Arc<dyn Store>) {
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
    let wanted = || query(positions(&scope, "s", 0..=4), all.clone());
    assert_eq!(
        find_turns(&*store, &scope, &wanted()).await,
        [(1, ids[0]), (2, ids[1]), (3, ids[2])]
    );
    check_context_of_turn(&*store, &scope).await;
    // The filter applies to mentions, too.
    let nobody = Filter {
        speaker: Some("Bob".to_owned()),
        ..all.clone()
    };
    assert!(
        find_turns(
            &*store,
            &scope,
            &query(positions(&scope, "s", 0..=4), nobody)
        )
        .await
        .is_empty()
    );
    // Deleted and replaced turns are not returned as context.
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
        find_turns(&*store, &scope, &wanted()).await,
        [(2, newer), (3, ids[2])]
    );
    let outdated = Filter {
        include_outdated: true,
        ..all.clone()
    };
    let wanted_outdated = query(positions(&scope, "s", 0..=4), outdated);
    assert_eq!(
        find_turns(&*store, &scope, &wanted_outdated).await,
        [(2, newer), (3, ids[2])]
    );
    // A project out of scope returns nothing, although its name is known.
    assert!(
        find_turns(&*store, &super::scope(), &wanted())
            .await
            .is_empty()
    );
}

async fn check_context_of_turn(store: &dyn Store, scope: &Scope) {
    let found = store
        .context(
            scope,
            &query(positions(scope, "s", [2]), Filter::at(at(10))),
        )
        .await
        .unwrap();
    let said_context = &found.turns[0].context;
    assert_eq!(
        (
            said_context.speaker.as_deref(),
            said_context.asks,
            said_context.turn.as_ref()
        ),
        (Some("Ada"), true, Some(&positions(scope, "s", [2])[0]))
    );
    assert_eq!(
        (said_context.length, said_context.occurred_at),
        (2, at(-60)),
        "said, and the speaker"
    );
}

pub(crate) async fn turns_and_mentions_come_together(store: Arc<dyn Store>) {
    let scope = scope();
    let near = store_one(&*store, &scope, turn("it's \"s\"", 7, "said so")).await;
    let told = store_one(&*store, &scope, telling("they met", &["Ada Lovelace"])).await;
    let query = ContextQuery {
        names: names_in("who is Ada Lovelace"),
        ..query(positions(&scope, "it's \"s\"", [6, 7]), Filter::at(at(10)))
    };
    let found = store.context(&scope, &query).await.unwrap();
    assert_eq!(
        found.turns.iter().map(|turn| turn.id).collect::<Vec<_>>(),
        [near]
    );
    assert_eq!(
        (
            found.entities.names,
            found.entities.memories[0].id,
            found.entities.memories.len()
        ),
        (1, told, 1)
    );
}
