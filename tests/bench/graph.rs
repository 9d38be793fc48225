//! Traversals of the graph: `cargo bench --bench graph`.
//!
//! Neighbors at depth 3 over 10,000 entities with 50,000 relations, some of them hubs, and paths in a dense graph of
//! 1,000 entities with 50,000 relations. PostgreSQL is measured if MEMORY_TEST_POSTGRES names a server on which
//! databases may be created. Prints the 50th, 95th and 99th percentile of 400 calls in addition to criterion's
//! results.

#![expect(clippy::print_stdout, reason = "figures are for people")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use cognitive_memory_mcp::domain::{Analyzer, Language, Scope, SystemClock};
use cognitive_memory_mcp::engine::{
    Call, Engine, ExploreMode, ExploreOutput, ExploreParams, LinkParams, RelationItem,
};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

#[path = "backend.rs"]
mod backend;
#[path = "corpus.rs"]
#[expect(dead_code, reason = "another benchmark uses the rest")]
mod corpus;

use corpus::Random;

const CALLS: usize = 400;

fn graph(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let analyzer = Arc::new(Analyzer::new(Language::English));
    let data = tempfile::tempdir().expect("a temporary folder");
    for measured in backend::stores(&runtime, "graph", data.path(), &analyzer) {
        measure(criterion, &runtime, measured, &analyzer);
    }
}

fn measure(
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
    runtime.block_on(async {
        fill(&engine, "wide", 10_000, 50_000).await;
        fill(&engine, "dense", 1_000, 50_000).await;
    });
    backend::settle(runtime, url.as_deref());
    let mut group = criterion.benchmark_group(name);
    group
        .measurement_time(Duration::from_secs(5))
        .sample_size(50);
    let cases: [(&str, &str, usize, ExploreMode, usize); 4] = [
        ("neighbours", "wide", 10_000, ExploreMode::Neighbours, 50),
        (
            "neighbours_500",
            "wide",
            10_000,
            ExploreMode::Neighbours,
            500,
        ),
        ("path_wide", "wide", 10_000, ExploreMode::Path, 50),
        ("path_dense", "dense", 1_000, ExploreMode::Path, 50),
    ];
    for (case, project, size, mode, limit) in cases {
        let mut random = Random::new(5);
        let mut question = || ExploreParams {
            mode: Some(mode),
            name: Some(entity(random.next() as usize % size)),
            to: (mode == ExploreMode::Path).then(|| entity(random.next() as usize % size)),
            depth: (mode == ExploreMode::Neighbours).then_some(3),
            limit: Some(limit),
            ..ExploreParams::default()
        };
        let mut times = Vec::with_capacity(CALLS);
        let (mut partial, mut entities) = (0, 0);
        for _ in 0..CALLS {
            let start = Instant::now();
            let output = runtime.block_on(explore(&engine, project, question()));
            times.push(start.elapsed());
            partial += usize::from(output.partial);
            entities += output.entities.len();
        }
        times.sort();
        let at = |percent: usize| times[CALLS * percent / 100].as_secs_f64() * 1_000.0;
        println!(
            "{name}/{case}: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms; {partial} of {CALLS} partial, {} entities a call",
            at(50),
            at(95),
            at(99),
            entities / CALLS
        );
        group.bench_function(case, |bencher| {
            bencher
                .to_async(runtime)
                .iter(|| explore(&engine, project, question()));
        });
    }
    group.finish();
    runtime.block_on(store.close());
}

async fn explore(engine: &Engine, project: &str, params: ExploreParams) -> ExploreOutput {
    engine
        .explore(&Call::new(Scope::new(project, "bench")), params)
        .await
        .expect("an answer")
}

fn entity(number: usize) -> String {
    format!("entity {number}")
}

/// Adds random relations, a fifth of which lead to one of a hundred hubs.
async fn fill(engine: &Engine, project: &str, entities: usize, relations: usize) {
    let call = Call::new(Scope::new(project, "bench"));
    let mut random = Random::new(3);
    let mut below = |limit: usize| random.next() as usize % limit;
    let mut left = relations;
    while left > 0 {
        let mut batch = Vec::new();
        while batch.len() < 1_000 {
            let from = below(entities);
            let to = if below(5) == 0 {
                below(100)
            } else {
                below(entities)
            };
            if from != to {
                batch.push(RelationItem {
                    from: entity(from),
                    to: entity(to),
                    kind: Some(format!("kind {}", below(1_000))),
                    weight: Some(below(1_000) as f64 / 1_000.0),
                    ..RelationItem::default()
                });
            }
        }
        left -= batch.len();
        engine
            .link(
                &call,
                LinkParams {
                    entities: Vec::new(),
                    relations: batch,
                },
            )
            .await
            .expect("linked");
    }
}

criterion_group!(benches, graph);
criterion_main!(benches);
