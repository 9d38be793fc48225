//! A recall compared with the statements that it runs, at growing sizes: `cargo bench --bench recall`.
//!
//! `statements` are the store's three methods alone, `recall` is the use case. PostgreSQL is measured if
//! MEMORY_TEST_POSTGRES names a server on which databases may be created.

use std::sync::Arc;
use std::time::Duration;

use cognitive_memory_mcp::domain::bm25::{POSTING_BUDGET, select_terms};
use cognitive_memory_mcp::domain::memory::content_hash;
use cognitive_memory_mcp::domain::spelling::{choose_substitutes, list_candidates};
use cognitive_memory_mcp::domain::{Analyzer, Clock, Filter, Language, Scope, SystemClock};
use cognitive_memory_mcp::engine::{Call, Engine, RecallParams, RememberItem, RememberParams};
use cognitive_memory_mcp::store::{LexicalQuery, Store};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

#[path = "backend.rs"]
mod backend;
#[path = "corpus.rs"]
mod corpus;

use corpus::Random;

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

fn recall(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let analyzer = Arc::new(Analyzer::new(Language::English));
    let data = tempfile::tempdir().expect("a temporary folder");
    for measured in backend::stores(&runtime, "recall", data.path(), &analyzer) {
        compare(criterion, &runtime, measured, &analyzer);
    }
}

fn compare(
    criterion: &mut Criterion,
    runtime: &Runtime,
    (name, store, url): backend::Measured,
    analyzer: &Arc<Analyzer>,
) {
    runtime
        .block_on(store.prepare())
        .expect("the database can be prepared");
    let engine = Engine::new(
        Arc::clone(&store),
        Arc::clone(analyzer),
        Arc::new(SystemClock),
    );
    let mut random = Random::new(7);
    let mut stored = 0;
    let mut group = criterion.benchmark_group(name);
    group
        .measurement_time(Duration::from_secs(8))
        .sample_size(50);
    for size in SIZES {
        runtime.block_on(fill(&engine, &mut random, size - stored));
        stored = size;
        backend::settle(runtime, url.as_deref());
        let mut questions = Random::new(11);
        group.bench_function(BenchmarkId::new("statements", size), |bencher| {
            bencher
                .to_async(runtime)
                .iter(|| statements(&store, analyzer, corpus::question(&mut questions)));
        });
        let mut questions = Random::new(11);
        group.bench_function(BenchmarkId::new("recall", size), |bencher| {
            bencher.to_async(runtime).iter(|| {
                let params = RecallParams {
                    query: Some(corpus::question(&mut questions)),
                    ..RecallParams::default()
                };
                let engine = &engine;
                async move {
                    engine
                        .recall(&Call::new(Scope::new("default", "bench")), params)
                        .await
                        .expect("an answer")
                }
            });
        });
    }
    group.finish();
    runtime.block_on(store.close());
}

async fn fill(engine: &Engine, random: &mut Random, mut left: usize) {
    let call = Call::new(Scope::new("default", "bench"));
    while left > 0 {
        let item = |random: &mut Random| RememberItem {
            content: corpus::memory(random),
            ..RememberItem::default()
        };
        let items: Vec<RememberItem> = (0..left.min(500)).map(|_| item(random)).collect();
        left -= items.len();
        engine
            .remember(
                &call,
                RememberParams {
                    items,
                    idempotency_key: None,
                },
            )
            .await
            .expect("stored");
    }
}

/// Runs the queries of a recall with the same arguments.
async fn statements(store: &Arc<dyn Store>, analyzer: &Analyzer, question: String) {
    let scope = Scope::new("default", "bench");
    let terms: Vec<String> = analyzer.terms(&question).counts.into_keys().collect();
    let lexicon = store
        .lexicon(&scope, &terms, &list_candidates(&terms))
        .await
        .expect("statistics");
    let stats = &lexicon.stats;
    let substitutes = choose_substitutes(&terms, &stats.document_frequencies, &lexicon.matches);
    let query = LexicalQuery {
        terms: select_terms(&terms, stats, &substitutes, POSTING_BUDGET),
        average_length: stats.average_length(),
        exact: content_hash(&question),
        filter: Filter::at(SystemClock.now()),
        limit: if substitutes.is_empty() { 50 } else { 200 },
    };
    let hits = store.search_lexical(&scope, &query).await.expect("hits");
    let ids: Vec<_> = hits.iter().take(10).map(|hit| hit.id).collect();
    store.get(&scope, &ids, false).await.expect("memories");
}

criterion_group!(benches, recall);
criterion_main!(benches);
