//! `eval`: asks questions with known answers through the tools that every client uses, and measures the results.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::discovery::Endpoint;
use super::eval_economy::measure_economy;
use super::files::{create_private_folder, file_error};
use super::open_store::{OpenedStore, create_store, explain_in_use};
use super::output::{print_note, print_result, progress_bar, to_json};
use super::service::OWNER;
use super::service_client::{Memory, ServiceClient};
use super::terminal::{Terminal, entries, strings};
use super::{Failure, INTERNAL, UNAVAILABLE, USAGE, fail, load_settings, service, start_runtime};
use crate::config::{
    Auth, Credential, Database, Embedding, SecretHandling, Settings, Sources, sha256,
};
use crate::domain::count::{count_of, verb_for};
use crate::domain::ranking::Calibration;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::{Clock, Scope, SystemClock};
use crate::engine::{Call, Engine, fresh_token};
use crate::eval::report::{Target, is_doubtful, says_nothing};
use crate::eval::{
    Asked, Baseline, Came, CorpusItem, Mistakes, Question, Report, golden, read_corpus,
    read_questions, table,
};
use crate::http::{Authenticator, Listener};
use crate::lifecycle::{self, ExitReason, Notifier, Readiness, Sentinel, Supervisor};

/// Exit code if a metric fell.
const FELL: u8 = 1;
/// Number of requested hits, which the metrics assume.
const DEPTH: usize = 10;
/// Length limit of an answer: large enough for all hits.
const MAX_CHARS: usize = 1_000_000;
/// Number of memories and bytes of text per `remember`.
const BATCH: usize = 200;
const BATCH_BYTES: usize = 512 * 1024;
/// Number of IDs per `get`.
const IDS: usize = 200;
/// Pause between two reads of the index backlog.
const PAUSE: Duration = Duration::from_millis(100);
/// Wait for the embedder after which a note is printed.
const SILENCE: Duration = Duration::from_secs(5);
/// Memories that are compared with each question to calibrate a model.
const MOST_COMPARED: usize = 1_000;
/// Characters of a hit that are shown of a question that failed.
const SHOWN_CHARS: usize = 160;

#[derive(Args)]
pub(super) struct EvalArgs {
    /// Questions, one JSON object per line: query, expected (IDs, keys or texts; [] if nothing answers), optional group,
    /// and filters of recall
    #[arg(value_name = "GOLDEN")]
    golden: PathBuf,
    /// Query these memories in a temporary database instead of the running service: one JSON object per line, an item of
    /// remember with a key that questions refer to
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Load the corpus into the configured database, which must be empty, and leave it there
    #[arg(long, requires = "corpus")]
    configured_database: bool,
    /// Longest wait for the embeddings, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Also write the report as JSON into this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compare with the metrics in this file; exit code 1 if one of all questions fell by more than the tolerance
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Percentage points that a metric may fall
    #[arg(long, value_name = "POINTS", default_value_t = 1.0, requires = "baseline", value_parser = parse_points)]
    tolerance: f64,
    /// Save the metrics to this file, for --baseline
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,
    /// Fit the calibration of the embedding model to the questions, measure with it, and print the setting
    #[arg(long, requires = "corpus", conflicts_with = "baseline")]
    calibrate: bool,
    /// Also measure the evidence per 1,000 characters of the answers, by detail
    #[arg(long)]
    economy: bool,
    /// Also list this number of the worst questions with their hits
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    failures: usize,
}

fn parse_points(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "expected a number from 0 to 100".to_owned())?;
    if (0.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err("expected a number from 0 to 100".to_owned())
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self {
            code: USAGE,
            error: mistakes.into(),
        }
    }
}

/// The questions and the corpus, read and checked before anything is loaded.
struct Plan {
    golden: String,
    questions: Vec<Question>,
    corpus: Option<Vec<CorpusItem>>,
    baseline: Option<Baseline>,
}

pub(super) fn run(args: &EvalArgs, sources: &Sources) -> Result<u8, Failure> {
    let settings = load_settings(sources)?;
    let plan = read_plan(args)?;
    let mut report = match &plan.corpus {
        Some(corpus) => in_process(args, &settings, &plan, corpus)?,
        None => start_runtime()?.block_on(async {
            let memory = Memory::open(&settings, None).await?;
            let report = async {
                check_ids(&memory, &name_of(&args.golden), &plan.questions).await?;
                measure_recall(&memory, &plan, args.economy).await
            };
            let report = report.await;
            memory.close().await;
            report
        })?,
    };
    if let Some(baseline) = &plan.baseline {
        report.compare_with(baseline, args.tolerance);
    }
    let whole = to_json(&report)?;
    if let Some(path) = &args.save_baseline {
        let baseline = to_json(&report.to_baseline())?;
        std::fs::write(path, baseline).map_err(file_error(path))?;
    }
    if let Some(path) = &args.output {
        std::fs::write(path, &whole).map_err(file_error(path))?;
    }
    if args.json {
        print_result(&whole)?;
    } else {
        print_result(&draw_report(&report, args.failures))?;
    }
    Ok(
        if report
            .drift
            .as_ref()
            .is_some_and(crate::eval::Drift::has_fallen)
        {
            FELL
        } else {
            0
        },
    )
}

fn name_of(path: &Path) -> String {
    path.display().to_string()
}

fn text_of(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let error = anyhow::Error::from(error).context(format!("cannot read {}", path.display()));
        Failure::new(USAGE, error)
    })
}

/// Reads and checks all files, and reports all mistakes together.
fn read_plan(args: &EvalArgs) -> Result<Plan, Failure> {
    let mut mistakes = Vec::new();
    let golden = text_of(&args.golden)?;
    let questions = read_questions(&name_of(&args.golden), &golden).unwrap_or_else(|found| {
        mistakes.extend(found.0);
        Vec::new()
    });
    let corpus = match &args.corpus {
        None => None,
        Some(path) => Some(
            read_corpus(&name_of(path), &text_of(path)?).unwrap_or_else(|found| {
                mistakes.extend(found.0);
                Vec::new()
            }),
        ),
    };
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes).into());
    }
    if let Some(corpus) = &corpus {
        golden::match_corpus(&name_of(&args.golden), &questions, corpus)?;
    }
    let baseline = match &args.baseline {
        None => None,
        Some(path) => Some(Baseline::read(&text_of(path)?).map_err(|error| Failure {
            code: USAGE,
            error: anyhow::anyhow!("{}: {error}", path.display()),
        })?),
    };
    let golden = Sha256::digest(&golden)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Plan {
        golden,
        questions,
        corpus,
        baseline,
    })
}

/// Reports unknown IDs in a golden set, which are mistakes rather than failures of recall.
async fn check_ids(memory: &Memory, file: &str, questions: &[Question]) -> Result<(), Failure> {
    let of = |question: &Question| {
        question
            .expected
            .iter()
            .filter(|entry| Uuid::parse_str(entry).is_ok())
            .cloned()
            .collect()
    };
    let ids: Vec<(usize, String)> = questions
        .iter()
        .flat_map(|question| {
            let ids: Vec<String> = of(question);
            ids.into_iter().map(|id| (question.line, id))
        })
        .collect();
    let mut unknown = Vec::new();
    for chunk in ids.chunks(IDS) {
        let asked: Vec<&String> = chunk.iter().map(|(_, id)| id).collect();
        let answer = memory.call("get", json!({ "ids": asked })).await?;
        let missing: Vec<&str> = strings(&answer["missing"]).collect();
        let lines = chunk
            .iter()
            .filter(|(_, id)| missing.contains(&id.as_str()));
        unknown.extend(
            lines.map(|(line, id)| {
                format!("{file} line {line}: expected: there is no memory {id:?}")
            }),
        );
    }
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(Mistakes(unknown).into())
    }
}

/// Asks every question, one after the other.
async fn measure_recall(memory: &Memory, plan: &Plan, economy: bool) -> Result<Report, Failure> {
    let status = memory.call("status", json!({})).await?;
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let target = Target {
        service: format!("version {}", text("version")),
        database: text("database"),
        model: status["model"].as_str().map(str::to_owned),
        memories: status["memories"].as_u64().unwrap_or_default(),
    };
    let backlog = status["index_backlog"].as_u64().unwrap_or_default();
    if target.model.is_some() && backlog > 0 {
        print_note(&format!(
            "{} found by words only until embedded",
            count_of(backlog, "memory") + verb_for(backlog, " is", " are")
        ));
    }
    let bar = progress_bar("asking", plan.questions.len() as u64, false);
    let (mut asked, mut degraded) = (Vec::with_capacity(plan.questions.len()), 0);
    for question in &plan.questions {
        let mut arguments = serde_json::to_value(&question.ask).map_err(Failure::internal)?;
        arguments["limit"] = DEPTH.into();
        arguments["max_chars"] = MAX_CHARS.into();
        arguments["explain"] = true.into();
        if let Some(arguments) = arguments.as_object_mut() {
            arguments.retain(|_, value| !value.is_null());
        }
        let start = Instant::now();
        let answer = memory
            .call("recall", arguments)
            .await
            .map_err(|failure| Failure {
                error: failure
                    .error
                    .context(format!("the question in line {}", question.line)),
                ..failure
            })?;
        asked.push(judge_answer(question, &answer, start.elapsed()));
        degraded += u64::from(target.model.is_some() && is_by_words_alone(&answer));
        bar.inc(1);
    }
    bar.finish_and_clear();
    if degraded > 0 {
        print_note(&format!(
            "{} searched by words alone, because the embedder did not answer",
            count_of(degraded, "question")
        ));
    }
    let economy = if economy {
        measure_economy(memory, &plan.questions, &asked).await?
    } else {
        Vec::new()
    };
    let mut report = Report::new(plan.golden.clone(), target, asked);
    report.economy = economy;
    Ok(report)
}

fn is_by_words_alone(answer: &Value) -> bool {
    let mut notes = strings(&answer["notes"]);
    notes.any(|note| note.starts_with("Searched by words alone"))
}

fn judge_answer(question: &Question, answer: &Value, took: Duration) -> Asked {
    let mut open: Vec<&String> = question.expected.iter().collect();
    let mut first_version = None;
    let came = entries(answer, "hits").take(DEPTH).map(|hit| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (id, key, content) = (
            text(&hit["id"]),
            text(&hit["metadata"]["key"]),
            text(&hit["content"]),
        );
        let names = [&id, &key, &content];
        let is_named = |entry: &String| names.iter().any(|name| name.as_ref() == Some(entry));
        if first_version.is_none() && question.versions.iter().any(is_named) {
            first_version = Some(question.expected.iter().any(is_named));
        }
        // Each expected one counts once.
        let place = open
            .iter()
            .position(|entry| names.iter().any(|name| name.as_ref() == Some(*entry)));
        let right = place.map(|place| open.swap_remove(place)).is_some();
        // Scores compare the hits of one answer, confidences also answers.
        let score = hit["why"]["confidence"]
            .as_f64()
            .or_else(|| answer["confidence"].as_f64());
        Came {
            id: id.unwrap_or_default(),
            key,
            score,
            right,
            content: content.unwrap_or_default(),
        }
    });
    let came: Vec<Came> = came.collect();
    Asked {
        right_version: (!question.versions.is_empty()).then_some(first_version.unwrap_or(false)),
        line: question.line,
        query: question.ask.query.clone().unwrap_or_default(),
        group: question.group.clone(),
        expected: question.expected.clone(),
        came,
        told_nothing: says_nothing(answer),
        doubted: is_doubtful(answer),
        millis: took.as_secs_f64() * 1_000.0,
    }
}

/// Fits the calibration to the answerable questions, uses it from now on, and prints it as a setting.
async fn calibrate_model(engine: &Engine, plan: &Plan, memories: usize) -> Result<(), Failure> {
    let call = Call::new(Scope::new(DEFAULT_PROJECT, OWNER));
    let answerable = plan
        .questions
        .iter()
        .filter(|question| !question.expected.is_empty());
    let mut cosines = Vec::new();
    for query in answerable.filter_map(|question| question.ask.query.as_deref()) {
        let nearest = engine
            .list_cosines(&call, query, memories.min(MOST_COMPARED))
            .await;
        cosines.push(nearest.map_err(|reason| {
            Failure::new(
                UNAVAILABLE,
                anyhow::anyhow!("--calibrate needs embeddings: {reason}"),
            )
        })?);
    }
    let Some(calibration) = Calibration::fit(&cosines) else {
        fail!(
            USAGE,
            "--calibrate: expected embeddings and a corpus of at least 9 memories whose cosines to the questions differ"
        );
    };
    engine.set_calibration(calibration);
    print_note(&format!(
        "MEMORY_MODEL_CALIBRATION={calibration} was fitted to {}; the report was measured with it",
        count_of(cosines.len() as u64, "question")
    ));
    Ok(())
}

/// A temporary folder, removed with the value.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new() -> Result<Self, Failure> {
        let path =
            std::env::temp_dir().join(format!("cognitive-memory-eval-{}", SystemClock.new_id()));
        create_private_folder(&path, false)?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a service in this process, like `serve`, on a separate database.
fn in_process(
    args: &EvalArgs,
    settings: &Settings,
    plan: &Plan,
    corpus: &[CorpusItem],
) -> Result<Report, Failure> {
    let (supervisor, notifier, readiness) = (
        Supervisor::new(),
        Notifier::to(None, None),
        Readiness::new(),
    );
    // Its signal handlers let Ctrl-C remove the temporary database, too.
    let _sentinel =
        Sentinel::start(&supervisor, &notifier, &readiness).map_err(Failure::internal)?;
    let mut settings = settings.clone();
    let scratch = if args.configured_database {
        None
    } else {
        Some(ScratchFolder::new()?)
    };
    if let Some(ScratchFolder(folder)) = &scratch {
        settings.database = Database::Sqlite {
            path: folder.join("memory.db"),
        };
        // The copy of the corpus is deleted afterwards.
        settings.secrets = Some(SecretHandling::Allow);
    }
    start_runtime()?.block_on(async {
        let local = create_store(&settings)?;
        local.store.prepare().await.map_err(|error| explain_in_use(error, "eval --configured-database"))?;
        let (memory, engine) = start_service(&settings, &local, &supervisor, &readiness).await?;
        let work = async {
            load_corpus(&memory, &engine, &name_of(args.corpus.as_deref().unwrap_or(Path::new("corpus"))), corpus).await?;
            let embeds = !matches!(settings.embedding, Embedding::None);
            wait_for_index(&memory, &readiness, embeds, Duration::from_secs(args.patience)).await?;
            if args.calibrate {
                calibrate_model(&engine, plan, corpus.len()).await?;
            }
            measure_recall(&memory, plan, args.economy).await
        };
        let report = tokio::select! {
            // Checked first: a stop also closes the service, which the work would report as a fault.
            biased;
            reason = supervisor.stop_requested() => {
                let code = if let ExitReason::Signal(signal) = &reason { signal.exit_code() } else { INTERNAL };
                Err(Failure { code, error: anyhow::anyhow!("interrupted: {reason}") })
            }
            report = work => report,
        };
        supervisor.stop(ExitReason::Finished);
        lifecycle::run(&supervisor, &notifier, &readiness).await;
        local.store.close().await;
        report
    })
}

async fn start_service(
    settings: &Settings,
    local: &OpenedStore,
    supervisor: &Supervisor,
    readiness: &Readiness,
) -> Result<(Memory, Arc<Engine>), Failure> {
    let token = fresh_token().map_err(Failure::internal)?;
    let credential = Credential {
        name: "eval".to_owned(),
        project: DEFAULT_PROJECT.to_owned(),
        reads: Vec::new(),
        sha256: sha256(&token),
    };
    let mut made = None;
    let authenticator = |engine: &Arc<Engine>| {
        made = Some(Arc::clone(engine));
        Ok(Authenticator::new(&Auth::Tokens(vec![credential])))
    };
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(address).await.map_err(Failure::internal)?;
    let database = readiness.condition("database", "connecting");
    let switches = service::Switches::measuring();
    let service = service::start_service(
        settings,
        local,
        authenticator,
        listener,
        (supervisor, readiness, database),
        &switches,
    )
    .await?;
    service.listener.start_accepting(supervisor);
    let engine =
        made.ok_or_else(|| Failure::internal(anyhow::anyhow!("the service has no engine")))?;
    let url = format!("http://{}/mcp", service.address);
    Ok((
        Memory::Service(ServiceClient::at(
            settings,
            Endpoint::named(&url, Some(token)),
        )?),
        engine,
    ))
}

/// Stores the corpus after checking every line.
async fn load_corpus(
    memory: &Memory,
    engine: &Engine,
    file: &str,
    corpus: &[CorpusItem],
) -> Result<(), Failure> {
    let refused = |item: &CorpusItem| {
        let refusal = engine.check(item.item.clone()).err()?;
        Some(format!("{file} line {}: {refusal}", item.line))
    };
    let mistakes: Vec<String> = corpus.iter().filter_map(refused).collect();
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes).into());
    }
    let there = memory.call("status", json!({})).await?["memories"]
        .as_u64()
        .unwrap_or_default();
    if there > 0 {
        fail!(
            USAGE,
            "the database has {}; --corpus needs an empty one, because recall would find the others too",
            count_of(there, "memory")
        );
    }
    let bar = progress_bar("loading", corpus.len() as u64, false);
    let mut ids: std::collections::BTreeMap<&str, String> = std::collections::BTreeMap::new();
    let mut rest = corpus;
    while !rest.is_empty() {
        let (batch, behind) = rest.split_at(batch_size(rest));
        rest = behind;
        let mut items = Vec::with_capacity(batch.len());
        for entry in batch {
            let named = |keys: &[String]| {
                keys.iter()
                    .filter_map(|key| ids.get(key.as_str()).cloned())
                    .collect()
            };
            let mut item = entry.item.clone();
            (item.sources, item.supersedes) = (named(&entry.sources), named(&entry.supersedes));
            items.push(item);
        }
        let answer = memory
            .call("remember", json!({ "items": items }))
            .await
            .map_err(|failure| Failure {
                error: failure
                    .error
                    .context(format!("{file} lines {} and following", batch[0].line)),
                ..failure
            })?;
        for (entry, stored) in batch.iter().zip(entries(&answer, "memories")) {
            if stored["created"] != true {
                print_note(&format!(
                    "{file} line {}: the same text is already stored",
                    entry.line
                ));
            }
            if let (Some(key), Some(id)) = (&entry.key, stored["id"].as_str()) {
                ids.insert(key, id.to_owned());
            }
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Returns how many of the next memories can be stored in one call because none refers to another one.
fn batch_size(rest: &[CorpusItem]) -> usize {
    let (mut keys, mut bytes) = (std::collections::BTreeSet::new(), 0);
    for (place, entry) in rest.iter().enumerate().take(BATCH) {
        bytes += entry.item.content.len();
        let refers = entry
            .sources
            .iter()
            .chain(&entry.supersedes)
            .any(|key| keys.contains(key.as_str()));
        if place > 0 && (refers || bytes > BATCH_BYTES) {
            return place;
        }
        keys.extend(entry.key.as_deref());
    }
    rest.len().min(BATCH)
}

/// Waits until all memories have embeddings, if there is an embedder.
async fn wait_for_index(
    memory: &Memory,
    readiness: &Readiness,
    embeds: bool,
    patience: Duration,
) -> Result<(), Failure> {
    let (start, mut told) = (Instant::now(), false);
    let work = async {
        // The database is ready; the embedder loads in the background.
        readiness.met().await;
        if !embeds {
            return Ok(());
        }
        let mut progress = None;
        loop {
            let status = memory.call("status", json!({})).await?;
            let backlog = status["index_backlog"].as_u64().unwrap_or_default();
            let model = status["model"].is_string();
            if model && backlog == 0 {
                break;
            }
            if model {
                let total = status["memories"].as_u64().unwrap_or_default();
                progress
                    .get_or_insert_with(|| progress_bar("indexing", total, false))
                    .set_position(total.saturating_sub(backlog));
            } else if start.elapsed() > SILENCE && !told {
                print_note(&format!(
                    "waiting for the embedding model ({}); MEMORY_EMBEDDER=none measures recall by words alone",
                    describe_checks(readiness)
                ));
                told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(bar) = progress {
            bar.finish_and_clear();
        }
        Ok(())
    };
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| {
        fail!(UNAVAILABLE, "the embeddings are not complete after {} s ({}); --patience waits longer, MEMORY_EMBEDDER=none measures recall \
             by words alone",
            patience.as_secs(),
            describe_checks(readiness))
    })
}

fn describe_checks(readiness: &Readiness) -> String {
    let report = readiness.report();
    let state = report
        .checks
        .iter()
        .map(|(name, check)| format!("{name}: {}", check.detail));
    state.collect::<Vec<_>>().join("; ")
}

fn draw_report(report: &Report, failures: usize) -> String {
    let mut out = table::print_results(report);
    if let Some(drift) = &report.drift {
        out.push('\n');
        out.push_str(&table::print_drift(drift));
    }
    let terminal = Terminal::of_stdout();
    for asked in report.list_worst(failures) {
        out.push_str(&format!(
            "\n{}\n",
            terminal.bold(&format!("line {}, {}", asked.line, asked.group))
        ));
        out.push_str(&terminal.block(&asked.query, 2));
        let expected = if asked.expected.is_empty() {
            "nothing".to_owned()
        } else {
            asked.expected.join("; ")
        };
        out.push_str(
            &terminal.dim(&terminal.block(&format!("expected: {}", shorten_text(&expected)), 2)),
        );
        for (index, came) in asked.came.iter().enumerate() {
            let mark = if came.right { "+" } else { " " };
            let name = came.key.as_deref().unwrap_or(&came.id);
            let line = format!(
                "{mark}{:>3}. {name}: {}",
                index + 1,
                shorten_text(&came.content)
            );
            let block = terminal.block(&line, 2);
            out.push_str(&if came.right {
                terminal.good(&block)
            } else {
                block
            });
        }
        if asked.came.is_empty() {
            out.push_str("  no hits\n");
        }
    }
    out
}

fn shorten_text(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
