//! Many concurrent callers, some of which are cancelled or send invalid requests.

use std::sync::Arc;
use std::time::Duration;

use cognitive_memory_mcp::domain::{Filter, NewMemory};
use cognitive_memory_mcp::store::{Store, StoreError};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{at, found, new_id, note, remember, scope, turn};

pub(crate) async fn many_tasks_lose_nothing(store: Arc<dyn Store>) {
    let scope = scope();
    let task = async |task: usize| {
        let mut ids = Vec::new();
        for number in 0..12 {
            let items = vec![
                note(&format!("fact t{task}n{number} here")),
                turn(&format!("s{task}"), number, "yes"),
            ];
            ids.extend(
                remember(&*store, &scope, items)
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|item| item.id),
            );
            // Acknowledged memories are found at once.
            assert_eq!(
                found(&*store, &scope, &format!("t{task}n{number}"))
                    .await
                    .len(),
                1
            );
            store.note_recalled(&scope, &ids, at(1)).await.unwrap();
        }
        ids
    };
    let mut ids: Vec<Uuid> = join_all((0..16).map(task))
        .await
        .into_iter()
        .flatten()
        .collect();
    let filter = Filter::at(at(1));
    let mut stored: Vec<Uuid> = store
        .browse(&scope, &filter, None, 1_000)
        .await
        .unwrap()
        .iter()
        .map(|memory| memory.id)
        .collect();
    ids.sort();
    stored.sort();
    assert_eq!(stored, ids);
    let stats = store
        .corpus_stats(&scope, &["fact".into(), "yes".into()])
        .await
        .unwrap();
    assert_eq!(
        (stats.documents, stats.document_frequencies),
        (384, vec![192, 192])
    );
}

pub(crate) async fn equal_memories_from_many_tasks_become_one(store: Arc<dyn Store>) {
    let scope = scope();
    for round in 0..5 {
        let text = format!("everybody says this {round}");
        let answers = join_all((0..16).map(|_| remember(&*store, &scope, vec![note(&text)]))).await;
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.unwrap()[0].clone())
            .collect();
        assert!(answers.iter().all(|answer| answer.id == answers[0].id));
        assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    }
}

pub(crate) async fn callers_who_go_away_harm_nobody(store: Arc<dyn Store>) {
    let scope = scope();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut acknowledged = Vec::new();
    for round in 0..40_u64 {
        let callers = (0..8_u64).map(|caller| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Half of the callers give up at a random moment.
            let patience = if state & 1 == 0 {
                30_000_000
            } else {
                state >> 16 & 0x7ff
            };
            let (store, scope) = (store.clone(), scope.clone());
            async move {
                let item = note(&format!("round{round} caller{caller}"));
                let work = remember(&*store, &scope, vec![item]);
                let answer = tokio::time::timeout(Duration::from_micros(patience), work).await;
                answer
                    .ok()
                    .map(|answer| answer.expect("a caller who stays is served")[0].id)
            }
        });
        acknowledged.extend(join_all(callers).await.into_iter().flatten());
    }
    assert!(acknowledged.len() >= 100);
    let stored = store.get(&scope, &acknowledged, false).await.unwrap();
    assert_eq!(
        stored.len(),
        acknowledged.len(),
        "acknowledged, but not there"
    );
    // Rows and index agree, whatever the outcome of the other requests.
    let all = store
        .browse(&scope, &Filter::at(at(1)), None, 10_000)
        .await
        .unwrap();
    let terms: Vec<String> = (0..40).map(|round| format!("round{round}")).collect();
    let stats = store.corpus_stats(&scope, &terms).await.unwrap();
    assert_eq!(stats.documents, all.len() as u64);
    assert_eq!(
        stats.document_frequencies.iter().sum::<u64>(),
        all.len() as u64
    );
    assert_eq!(
        store.counts(&scope, at(1)).await.unwrap().index_backlog,
        all.len() as u64
    );
}

pub(crate) async fn bad_commands_harm_nobody_beside_them(store: Arc<dyn Store>) {
    let scope = scope();
    remember(&*store, &scope, vec![turn("s", 1, "first")])
        .await
        .unwrap();
    let calls = (0..40).map(|number| {
        let good = note(&format!("good number{number}"));
        let items = match number % 4 {
            0 => vec![good],
            1 => vec![good, turn("s", 1, "another")],
            2 => vec![
                good,
                NewMemory {
                    sources: vec![new_id()],
                    ..note("bad")
                },
            ],
            // The item breaks no rule of the engine, so that the database itself fails.
            _ => vec![
                good,
                NewMemory {
                    importance: 7.0,
                    ..note(&format!("bad {number}"))
                },
            ],
        };
        remember(&*store, &scope, items)
    });
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        match number % 4 {
            0 => assert!(answer.unwrap()[0].created),
            1 => assert!(
                matches!(answer, Err(StoreError::TurnExists { .. })),
                "{answer:?}"
            ),
            2 => assert!(
                matches!(answer, Err(StoreError::NotFound { .. })),
                "{answer:?}"
            ),
            _ => assert!(
                matches!(answer, Err(StoreError::Internal { .. })),
                "{answer:?}"
            ),
        }
    }
    assert_eq!(found(&*store, &scope, "good").await.len(), 10);
    assert!(found(&*store, &scope, "bad").await.is_empty());
    let stats = store
        .corpus_stats(&scope, &["good".into(), "bad".into()])
        .await
        .unwrap();
    assert_eq!(
        (stats.documents, stats.document_frequencies),
        (11, vec![10, 0])
    );
}
