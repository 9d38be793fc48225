//! The in-process model: the cost of a question, and the number of texts indexed per second.
//!
//! `cargo bench --bench embed -- FOLDER_OF_THE_MODEL [PYTHON MODEL.onnx]` prints a table. With a Python that has
//! onnxruntime, and the same weights as ONNX, both engines are measured alternately, text by text, so that other
//! load on the machine affects both (`tests/bench/embed_onnx.py`). With `--target x86_64-unknown-linux-musl` the
//! benchmark uses the allocator of the static binary.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints a table for a person"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use cognitive_memory_mcp::embed::Embedder;
use cognitive_memory_mcp::embed::local::{LocalEmbedder, LocalOptions};
use rustix::thread::disable_transparent_huge_pages;

/// The allocator of the program.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of rounds of a measurement.
const ROUNDS: usize = 60;

/// Returns a text of about this many tokens, different for each number.
fn text(tokens: usize, number: usize) -> String {
    const WORDS: [&str; 12] = [
        "the", "river", "runs", "over", "old", "stones", "and", "under", "a", "green", "bridge",
        "today",
    ];
    (0..tokens - 2)
        .map(|n| WORDS[(n * 7 + number * 5 + n / 12) % 12])
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns the current and the maximum memory of the process in kilobytes.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
}

/// Returns the CPU seconds of the threads of a process, which exclude other load on the machine.
fn worked(process: u32) -> f64 {
    let nanoseconds = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace()
            .next()
            .and_then(|first| first.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .flatten()
        .map(nanoseconds)
        .sum::<f64>()
        / 1e9
}

/// The wall-clock and CPU times of one engine for one kind of text.
#[derive(Default)]
struct Times(Vec<f64>, Vec<f64>);

impl Times {
    /// Returns the cells of the table in milliseconds: minimum wall-clock time, minimum and median CPU time.
    fn cells(mut self) -> String {
        self.0.sort_by(f64::total_cmp);
        self.1.sort_by(f64::total_cmp);
        let cells = [self.0.first(), self.1.first(), self.1.get(self.1.len() / 2)];
        cells
            .map(|cell| {
                cell.map_or_else(
                    || " |".to_owned(),
                    |seconds| format!(" {:.1} |", seconds * 1e3),
                )
            })
            .concat()
    }
}

/// The other engine, onnxruntime.
struct Onnx {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Onnx {
    fn start(python: &str, model: &str, folder: &Path, threads: usize) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/embed_onnx.py");
        // The other process would inherit the setting of this process.
        disable_transparent_huge_pages(false).unwrap();
        let mut child = Command::new(python)
            .arg(script)
            .arg(model)
            .arg(folder.join("tokenizer.json"))
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        disable_transparent_huge_pages(true).unwrap();
        let (questions, answers) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        Self {
            child,
            questions,
            answers,
        }
    }

    fn embed(&mut self, texts: &[String], times: &mut Times) {
        let before = worked(self.child.id());
        writeln!(self.questions, "{}", serde_json::to_string(texts).unwrap()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        times.0.push(line.trim().parse().unwrap());
        times.1.push(worked(self.child.id()) - before);
        self.rest();
    }

    /// Waits until its idle threads stop spinning, because they would occupy a core that the other engine needs. The
    /// system updates the CPU time of a thread every few milliseconds.
    fn rest(&self) {
        let mut before = f64::NAN;
        while before != worked(self.child.id()) {
            before = worked(self.child.id());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Onnx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    // The setting of the program.
    disable_transparent_huge_pages(true).unwrap();
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let Some(folder) = arguments.first().map(PathBuf::from) else {
        println!(
            "left out: name the folder of the model, cargo bench --bench embed -- FOLDER [PYTHON MODEL.onnx]"
        );
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    println!(
        "Milliseconds: the fastest by the clock, the fastest and the median in work of all threads.\n"
    );
    println!("| threads | texts | clock | work | median | ONNX Runtime: clock | work | median |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut notes = String::new();
    for threads in [1, 2] {
        let options = LocalOptions {
            query_threads: threads,
            index_threads: threads,
            ..LocalOptions::default()
        };
        let start = Instant::now();
        let embedder = LocalEmbedder::load(&folder, "model", &options).unwrap();
        let load = start.elapsed();
        // The thread that loaded the model has ended, so its CPU time no longer counts.
        runtime
            .block_on(embedder.query("a first text".to_owned()))
            .unwrap();
        let mut onnx = match &arguments[1..] {
            [python, model] => Some(Onnx::start(python, model, &folder, threads)),
            _ => None,
        };
        for (count, tokens) in [(1, 12), (1, 30), (1, 250), (32, 12), (32, 30), (32, 0)] {
            let (mut ours, mut theirs) = (Times::default(), Times::default());
            let rounds = if count == 1 { ROUNDS } else { ROUNDS / 3 };
            for round in 0..rounds {
                // Like real memories: most are short, some are long.
                let length = |number: usize| match tokens {
                    0 => [8, 12, 16, 20, 28, 40, 64, 120][number % 8],
                    tokens => tokens,
                };
                let texts: Vec<String> = (0..count)
                    .map(|number| text(length(number), number + round))
                    .collect();
                if let Some(onnx) = &mut onnx {
                    onnx.embed(&texts, &mut theirs);
                }
                let (start, before) = (Instant::now(), worked(std::process::id()));
                if count == 1 {
                    runtime.block_on(embedder.query(texts[0].clone())).unwrap();
                } else {
                    runtime.block_on(embedder.passages(texts)).unwrap();
                }
                ours.0.push(start.elapsed().as_secs_f64());
                ours.1.push(worked(std::process::id()) - before);
            }
            let what = match (count, tokens) {
                (1, tokens) => format!("one of {tokens} tokens"),
                (count, 0) => format!("{count} of 8 to 120 tokens"),
                (count, tokens) => format!("{count} of {tokens} tokens"),
            };
            println!("| {threads} | {what} |{}{}", ours.cells(), theirs.cells());
        }
        let (resident, peak) = memory();
        notes += &format!(
            "{threads} threads: loaded in {} ms; {} MB resident, {} at most.\n",
            load.as_millis(),
            resident / 1024,
            peak / 1024
        );
    }
    println!("\n{notes}");
}
