//! The embedded store: the contract, and what is SQLite's own.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use cognitive_memory_mcp::domain::lexical::{POSTING_BUDGET, select_terms};
use cognitive_memory_mcp::domain::memory::content_hash;
use cognitive_memory_mcp::domain::{Analyzer, Filter, Kind, Language, NewMemory, Scope};
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{ForgetMode, LexicalQuery, Remember, Store};
use uuid::Uuid;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_767_225_600_000_000).unwrap()
}

#[tokio::test]
async fn smoke() {
    let folder = tempfile::tempdir().unwrap();
    let analyzer = Arc::new(Analyzer::new(Language::English));
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("deep/memory.db")), analyzer.clone());
    store.prepare().await.unwrap();
    let scope = Scope::new("default", "test");
    let item = NewMemory {
        id: Uuid::now_v7(),
        kind: Kind::Note,
        content: "The cat's \"pyjamas\" are `blue` and (nice) 👍 running".into(),
        tags: vec!["a".into()],
        importance: 0.5,
        metadata: serde_json::Map::new(),
        occurred_at: now(),
        valid_until: None,
        session: None,
        turn: None,
        speaker: None,
        episode: None,
        sources: vec![],
        supersedes: vec![],
    };
    let answer =
        store.remember(&scope, Remember { items: vec![item.clone()], idempotency: None, now: now() }).await.unwrap();
    assert!(answer[0].created);
    let terms: Vec<String> = analyzer.terms(&item.content).counts.into_keys().collect();
    let stats = store.corpus_stats(&scope, &terms).await.unwrap();
    assert_eq!(stats.document_frequencies, vec![1; terms.len()]);
    let query = LexicalQuery {
        terms: select_terms(&terms, &stats, POSTING_BUDGET),
        average_length: stats.average_length(),
        exact: content_hash(&item.content),
        filter: Filter::at(now()),
        limit: 10,
    };
    let hits = store.search_lexical(&scope, &query).await.unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].terms, terms);
    assert!(hits[0].exact);
    assert_eq!(store.browse(&scope, &Filter::at(now()), None, 10).await.unwrap().len(), 1);
    store.note_recalled(&scope, &[item.id], now()).await.unwrap();
    assert_eq!(store.get(&scope, &[item.id], false).await.unwrap()[0].recall_count, 1);
    assert_eq!(store.counts(&scope, now()).await.unwrap().index_backlog, 1);
    assert_eq!(store.forget(&scope, &[item.id], ForgetMode::Delete, None, now()).await.unwrap(), 1);
    assert!(store.search_lexical(&scope, &query).await.unwrap().is_empty());
    assert_eq!(store.forget(&scope, &[item.id], ForgetMode::Purge, None, now()).await.unwrap(), 1);
    store.close().await;
}
