//! The model in the process: what a question costs, and how many texts are indexed a second.
//!
//! `cargo bench --bench embed -- FOLDER_OF_THE_MODEL` prints a table; beside it runs, on the same texts and with as many
//! threads, `tests/bench/embed_onnx.py`, which prints the same for ONNX Runtime.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints a table for a person")]

use std::path::PathBuf;
use std::time::Instant;

use cognitive_memory_mcp::embed::Embedder;
use cognitive_memory_mcp::embed::local::{LocalEmbedder, LocalOptions};

/// Rounds of a measurement. The fastest counts: it is the one that nothing else disturbed.
const ROUNDS: usize = 40;

/// A text of about so many tokens, another one for each number.
fn text(tokens: usize, number: usize) -> String {
    const WORDS: [&str; 12] =
        ["the", "river", "runs", "over", "old", "stones", "and", "under", "a", "green", "bridge", "today"];
    (0..tokens - 2).map(|n| WORDS[(n * 7 + number * 5 + n / 12) % 12]).collect::<Vec<_>>().join(" ")
}

/// Kilobytes that the process holds now, and held at most.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
}

fn fastest(seconds: impl Iterator<Item = f64>) -> f64 {
    seconds.fold(f64::INFINITY, f64::min)
}

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let Some(folder) = folder else {
        println!("left out: name the folder of the model, cargo bench --bench embed -- FOLDER");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!(
        "| threads | load | 12 tokens | 30 tokens | 250 tokens | batch of 32 (12 tokens) | batch of 32 (30) | resident | peak |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for threads in [1, 2] {
        let options = LocalOptions { query_threads: threads, index_threads: threads };
        let start = Instant::now();
        let embedder = LocalEmbedder::load(&folder, "model", &options).unwrap();
        let load = start.elapsed().as_secs_f64();
        let single = |tokens| {
            let times = (0..ROUNDS).map(|round| {
                let text = text(tokens, round);
                let start = Instant::now();
                runtime.block_on(embedder.query(text)).unwrap();
                start.elapsed().as_secs_f64()
            });
            fastest(times) * 1e3
        };
        let batch = |tokens| {
            let times = (0..ROUNDS / 4).map(|round| {
                let texts = (0..32).map(|number| text(tokens, number + round)).collect();
                let start = Instant::now();
                runtime.block_on(embedder.passages(texts)).unwrap();
                start.elapsed().as_secs_f64()
            });
            32.0 / fastest(times)
        };
        let (a, b, c) = (single(12), single(30), single(250));
        let (short, longer) = (batch(12), batch(30));
        let (resident, peak) = memory();
        println!(
            "| {threads} | {:.0} ms | {a:.2} ms | {b:.2} ms | {c:.1} ms | {short:.0}/s | {longer:.0}/s | {} MB | {} MB |",
            load * 1e3,
            resident / 1024,
            peak / 1024
        );
    }
}
