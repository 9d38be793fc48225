//! Speed and quality of recall at growing sizes: `cargo bench --bench scale -- --sizes 1000,10000,100000`.
//!
//! The text is generated and its vectors are derived from it, so that no model is needed (see `topics`). Options:
//! `--sizes`, `--backend sqlite|postgres` (default both; PostgreSQL if MEMORY_TEST_POSTGRES names a server on which
//! databases may be created), `--questions N` (default 200), `--results FILE` (JSON, to which the results of this run
//! are added), `--picture FILE` (SVG, drawn from all results in that file) and `--parts 20000,100000` (projects of
//! these sizes next to the largest in PostgreSQL, whose results are only printed).
//!
//! SQLite is filled by the service, PostgreSQL by COPY, so that a million memories are loaded in minutes. The run
//! starts with a check that both ways create the same rows.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures and prints"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cognitive_memory_mcp::domain::memory::Kind;
use cognitive_memory_mcp::domain::{Analyzer, Clock, Filter, Language, Scope, SystemClock};
use cognitive_memory_mcp::embed::{Desk, Embedder};
use cognitive_memory_mcp::engine::{Call, Engine, RecallParams, RememberItem, RememberParams};
use cognitive_memory_mcp::store::postgres::PostgresStore;
use cognitive_memory_mcp::store::sqlite::{SqliteOptions, SqliteStore};
use cognitive_memory_mcp::store::{Embedded, Store, VectorQuery};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use uuid::Uuid;

#[path = "bulk.rs"]
mod bulk;
#[path = "corpus.rs"]
#[expect(dead_code, reason = "another benchmark uses the rest")]
mod corpus;
#[path = "curves.rs"]
mod curves;
#[path = "topics.rs"]
mod topics;

use bulk::Bulk;
use topics::{DIMENSION, Exact, Saying, World};

/// Number of memories that are generated and sent at once.
const CHUNK: usize = 5_000;
/// Number of memories that the service indexes at once.
const BATCH: usize = 32;
/// Number of batches in the measurement of writes.
const WRITES: usize = 12;
/// Number of nearest memories that a recall reads.
const DEPTH: usize = 200;
/// The project with all memories.
const WHOLE: &str = "default";
/// Filters by time that let one of this many memories pass.
const ONE_OF: [usize; 3] = [100, 1_000, 10_000];
/// Memories of a part are numbered from here.
const PARTS_FROM: usize = 2_000_000;

struct Options {
    sizes: Vec<usize>,
    backend: Option<String>,
    questions: usize,
    results: Option<PathBuf>,
    picture: Option<PathBuf>,
    parts: Vec<usize>,
}

fn options() -> Options {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1).cloned()
    };
    let list = |text: &str| {
        text.split(',')
            .map(|size| size.trim().parse().expect("a number of memories"))
            .collect()
    };
    Options {
        sizes: list(&value("--sizes").unwrap_or_else(|| "1000,10000,100000".to_owned())),
        parts: value("--parts").as_deref().map(list).unwrap_or_default(),
        backend: value("--backend"),
        questions: value("--questions")
            .map_or(200, |count| count.parse().expect("a number of questions")),
        results: value("--results").map(PathBuf::from),
        picture: value("--picture").map(PathBuf::from),
    }
}

#[tokio::main]
async fn main() {
    let options = options();
    let world = Arc::new(World::new());
    let analyzer = Arc::new(Analyzer::new(Language::English));
    let wanted = |name: &str| {
        options
            .backend
            .as_deref()
            .is_none_or(|backend| backend == name)
    };
    let mut results = Results::read(&options);
    if wanted("sqlite") {
        let data = tempfile::tempdir().expect("a temporary folder");
        let place = Place::Sqlite {
            folder: data.path().to_owned(),
        };
        let bench = Bench::new(
            "SQLite",
            open(data.path(), &analyzer),
            place,
            &world,
            &analyzer,
        )
        .await;
        bench.run(&options, &mut results).await;
    }
    if wanted("postgres")
        && let Ok(server) = std::env::var("MEMORY_TEST_POSTGRES")
    {
        let (url, name) = create_database(&server).await;
        let store = Arc::new(PostgresStore::new(
            url.parse().expect("a URL"),
            4,
            Arc::clone(&analyzer),
        ));
        store.prepare().await.expect("the database can be prepared");
        let bulk = Bulk::connect(&url).await;
        let bench = Bench::new(
            "PostgreSQL",
            store,
            Place::Postgres(Box::new(bulk)),
            &world,
            &analyzer,
        )
        .await;
        bench.run(&options, &mut results).await;
        drop_database(&server, &name).await;
    }
    if let Some(file) = &options.picture {
        std::fs::write(file, curves::draw(&results.points)).expect("the picture can be written");
    }
}

fn open(folder: &Path, analyzer: &Arc<Analyzer>) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(
        SqliteOptions::new(folder.join("memory.db")),
        Arc::clone(analyzer),
    ))
}

async fn create_database(server: &str) -> (String, String) {
    let pool = sqlx::PgPool::connect(server)
        .await
        .expect("the PostgreSQL server answers");
    let name = format!("bench_scale_{}", std::process::id());
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(create)
        .execute(&pool)
        .await
        .expect("may create databases");
    (
        format!(
            "{}/{name}",
            server.rsplit_once('/').expect("a database in the URL").0
        ),
        name,
    )
}

async fn drop_database(server: &str, name: &str) {
    let pool = sqlx::PgPool::connect(server)
        .await
        .expect("the PostgreSQL server answers");
    let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::query(drop)
        .execute(&pool)
        .await
        .expect("may drop what it created");
}

/// The results of this run and of earlier ones.
struct Results {
    file: Option<PathBuf>,
    points: Vec<Value>,
}

impl Results {
    fn read(options: &Options) -> Self {
        let file = options.results.clone();
        let text = file
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok());
        let points = text.map_or_else(Vec::new, |text| {
            serde_json::from_str(&text).expect("figures as they were written")
        });
        Self { file, points }
    }

    fn add(&mut self, point: Value) {
        println!("{point}");
        self.points.retain(|old| {
            old["backend"] != point["backend"] || old["memories"] != point["memories"]
        });
        self.points.push(point);
        if let Some(file) = &self.file {
            let text = serde_json::to_string_pretty(&self.points).expect("plain data");
            std::fs::write(file, text + "\n").expect("the results can be written");
        }
    }
}

/// The backend-specific part.
enum Place {
    Sqlite { folder: PathBuf },
    Postgres(Box<Bulk>),
}

struct Bench {
    name: &'static str,
    store: Arc<dyn Store>,
    place: Place,
    world: Arc<World>,
    analyzer: Arc<Analyzer>,
    engine: Engine,
    /// The engine without an embedder.
    words: Engine,
    numbers: HashMap<Uuid, usize>,
    written: usize,
}

fn scope(project: &str) -> Scope {
    Scope::new(project, "bench")
}

fn part_name(size: usize) -> String {
    format!("part of {size}")
}

fn engine(store: &Arc<dyn Store>, analyzer: &Arc<Analyzer>) -> Engine {
    Engine::new(
        Arc::clone(store),
        Arc::clone(analyzer),
        Arc::new(SystemClock),
    )
}

fn item(saying: &Saying, number: usize) -> RememberItem {
    let occurred_at = Some(bulk::time(number).to_rfc3339());
    let base = RememberItem {
        content: saying.content.clone(),
        occurred_at,
        ..RememberItem::default()
    };
    match &saying.turn {
        None => base,
        Some((session, turn, speaker)) => RememberItem {
            kind: Kind::Dialogue,
            session: Some(session.clone()),
            turn: Some(*turn),
            speaker: Some((*speaker).to_owned()),
            ..base
        },
    }
}

impl Bench {
    async fn new(
        name: &'static str,
        store: Arc<dyn Store>,
        place: Place,
        world: &Arc<World>,
        analyzer: &Arc<Analyzer>,
    ) -> Self {
        store.prepare().await.expect("the database can be prepared");
        let desk = Arc::new(Desk::expecting("generated"));
        desk.open(Arc::clone(world) as Arc<dyn Embedder>);
        Self {
            name,
            engine: engine(&store, analyzer).with_embedder(desk),
            words: engine(&store, analyzer),
            store,
            place,
            world: Arc::clone(world),
            analyzer: Arc::clone(analyzer),
            numbers: HashMap::new(),
            written: 0,
        }
    }

    async fn run(mut self, options: &Options, results: &mut Results) {
        let smallest = options.sizes.iter().copied().min().expect("a size");
        // Spread over the memories that exist at every size.
        let sources: Vec<usize> = (0..options.questions)
            .map(|n| n * 7919 % smallest)
            .collect();
        let questions: Vec<String> = sources
            .iter()
            .map(|number| self.world.question(*number))
            .collect();
        let mut exact = Exact::new(
            questions
                .iter()
                .map(|question| self.world.vector(question))
                .collect(),
        );
        self.compare_ways().await;
        let mut stored = 0;
        for size in &options.sizes {
            let start = Instant::now();
            self.drop_index().await;
            self.load(stored, *size, &mut exact).await;
            let load = start.elapsed();
            let last = options.sizes.last() == Some(size);
            let parts = if last {
                self.load_parts(&options.parts, options.questions).await
            } else {
                Vec::new()
            };
            stored = *size;
            let mut point = Map::new();
            let mut note = |name: &str, value: f64| {
                point.insert(name.to_owned(), json!((value * 1_000.0).round() / 1_000.0));
            };
            note("load_s", load.as_secs_f64());
            if matches!(self.place, Place::Postgres(_)) {
                note("save_without_index_ms", self.write().await);
            }
            let start = Instant::now();
            self.prepare_search().await;
            note("index_build_s", start.elapsed().as_secs_f64());
            note("save_ms", self.write().await);
            let (index, database) = self.bytes().await;
            note("index_mb", index / 1e6);
            note("database_mb", database / 1e6);
            let found = self.recall(&self.engine, WHOLE, &questions, &sources).await;
            note("recall_p50_ms", found.at(0.5));
            note("recall_p95_ms", found.at(0.95));
            note("source_10", found.share);
            let found = self.recall(&self.words, WHOLE, &questions, &sources).await;
            note("words_p50_ms", found.at(0.5));
            note("words_p95_ms", found.at(0.95));
            note("source_10_words", found.share);
            let found = self.nearest(WHOLE, &questions, &exact).await;
            note("search_p50_ms", found.at(0.5));
            note("search_p95_ms", found.at(0.95));
            note("nearest_10", found.share);
            for one_of in ONE_OF
                .into_iter()
                .filter(|one_of| size / one_of >= 2 * Exact::COUNT)
            {
                let found = self.filtered(&questions, *size, size / one_of).await;
                note(&format!("one_of_{one_of}_p50_ms"), found.at(0.5));
                note(&format!("one_of_{one_of}_p95_ms"), found.at(0.95));
                note(&format!("one_of_{one_of}_nearest_10"), found.share);
            }
            for part in &parts {
                self.ask_part(part).await;
            }
            point.insert("backend".to_owned(), json!(self.name));
            point.insert("memories".to_owned(), json!(size));
            results.add(Value::Object(point));
        }
        self.store.close().await;
    }

    /// Checks that the service and [`Bulk`] write the same rows.
    async fn compare_ways(&mut self) {
        let sayings: Vec<Saying> = (0..60)
            .map(|number| self.world.saying(9_000_000 + number))
            .collect();
        let Place::Postgres(bulk) = &mut self.place else {
            return;
        };
        bulk.begin().await;
        let call = Call::new(Scope::new("by service", "bench"));
        let items = sayings
            .iter()
            .enumerate()
            .map(|(number, saying)| item(saying, number))
            .collect();
        self.engine
            .remember(
                &call,
                RememberParams {
                    items,
                    idempotency_key: None,
                },
            )
            .await
            .expect("stored");
        embed_all(&*self.store, &self.world).await;
        bulk.copy(
            "by copy",
            90_000_000,
            0,
            &bulk::rows(&sayings, &self.world, &self.analyzer),
        )
        .await;
        bulk.count("by copy").await;
        bulk.compare("by service", "by copy").await;
    }

    async fn drop_index(&mut self) {
        if let Place::Postgres(bulk) = &mut self.place {
            bulk.drop_index().await;
        }
    }

    async fn load(&mut self, from: usize, to: usize, exact: &mut Exact) {
        let bar =
            ProgressBar::with_draw_target(Some((to - from) as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}, {eta} left");
        bar.set_style(style.expect("a template"));
        bar.set_message(format!("{}: loading", self.name));
        let many = to - from > 300_000;
        if let (true, Place::Postgres(bulk)) = (many, &mut self.place) {
            bulk.drop_posting_key().await;
        }
        let mut first = from;
        while first < to {
            let count = CHUNK.min(to - first);
            let sayings: Vec<Saying> = (first..first + count)
                .into_par_iter()
                .map(|n| self.world.saying(n))
                .collect();
            let vectors = match &mut self.place {
                Place::Postgres(bulk) => {
                    let rows = bulk::rows(&sayings, &self.world, &self.analyzer);
                    bulk.copy(WHOLE, 1, first, &rows).await;
                    self.numbers.extend(
                        (first..first + count).map(|number| (bulk::id(number as u64 + 1), number)),
                    );
                    rows.into_iter().map(|row| row.vector).collect()
                }
                Place::Sqlite { .. } => self.remember(&sayings, first).await,
            };
            exact.add(first, &vectors);
            first += count;
            bar.set_position((first - from) as u64);
        }
        if let Place::Postgres(bulk) = &mut self.place {
            bar.set_message(format!("{}: vacuum", self.name));
            if many {
                bulk.make_posting_key().await;
            }
            bulk.count(WHOLE).await;
            bulk.settle().await;
        }
        bar.finish_and_clear();
    }

    /// Stores memories through the service.
    async fn remember(&mut self, sayings: &[Saying], first: usize) -> Vec<Vec<f32>> {
        let call = Call::new(scope(WHOLE));
        for (part, sayings) in sayings.chunks(500).enumerate() {
            let first = first + part * 500;
            let items = sayings
                .iter()
                .enumerate()
                .map(|(place, saying)| item(saying, first + place))
                .collect();
            let stored = self
                .engine
                .remember(
                    &call,
                    RememberParams {
                        items,
                        idempotency_key: None,
                    },
                )
                .await
                .expect("stored");
            let ids = stored
                .memories
                .iter()
                .map(|memory| memory.id.parse().expect("an id"));
            self.numbers.extend(ids.zip(first..));
        }
        embed_all(&*self.store, &self.world).await;
        sayings
            .par_iter()
            .map(|saying| self.world.vector(&saying.content))
            .collect()
    }

    async fn prepare_search(&mut self) {
        if let Place::Sqlite { folder } = &self.place {
            // As after a start, when the copy in memory does not exist.
            self.store.close().await;
            let store = open(folder, &self.analyzer);
            store.prepare().await.expect("the database can be prepared");
            self.store = store;
            let desk = Arc::new(Desk::expecting("generated"));
            desk.open(Arc::clone(&self.world) as Arc<dyn Embedder>);
            self.engine = engine(&self.store, &self.analyzer).with_embedder(desk);
            self.words = engine(&self.store, &self.analyzer);
        }
        self.store
            .prepare_vectors(&self.world.model().id, DIMENSION)
            .await
            .expect("the search is prepared");
    }

    /// Returns the median time in milliseconds in which the service saves the vectors of a batch.
    async fn write(&mut self) -> f64 {
        let call = Call::new(Scope::new("probe", "bench"));
        let mut times = Vec::new();
        for _ in 0..WRITES {
            let first = self.written;
            let items = (first..first + BATCH)
                .map(|n| item(&self.world.saying(5_000_000 + n), n))
                .collect();
            self.written += BATCH;
            self.engine
                .remember(
                    &call,
                    RememberParams {
                        items,
                        idempotency_key: None,
                    },
                )
                .await
                .expect("stored");
            let jobs = self
                .store
                .claim_index_jobs(BATCH, SystemClock.now())
                .await
                .expect("jobs");
            let embedded: Vec<Embedded> = jobs
                .iter()
                .map(|job| Embedded {
                    key: job.key,
                    version: job.version,
                    first_passage: 0,
                    vectors: vec![self.world.vector(&job.text)],
                })
                .collect();
            let start = Instant::now();
            let saved = self
                .store
                .save_vectors(&self.world.model().id, &embedded, SystemClock.now())
                .await;
            times.push(millis(start.elapsed()));
            assert_eq!(saved.expect("saved"), BATCH as u64);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    async fn bytes(&mut self) -> (f64, f64) {
        match &mut self.place {
            Place::Postgres(bulk) => bulk.bytes().await,
            Place::Sqlite { folder } => {
                let files = std::fs::read_dir(folder).expect("the folder can be read");
                let size = |file: std::io::Result<std::fs::DirEntry>| {
                    file.and_then(|file| file.metadata()).map(|m| m.len())
                };
                let bytes: u64 = files.filter_map(|file| size(file).ok()).sum();
                // The copy in memory: one byte per component, the number of its memory and a factor.
                ((self.numbers.len() * (DIMENSION + 12)) as f64, bytes as f64)
            }
        }
    }

    /// Loads further projects into the same tables.
    async fn load_parts(&mut self, sizes: &[usize], questions: usize) -> Vec<Part> {
        let Place::Postgres(bulk) = &mut self.place else {
            return Vec::new();
        };
        let mut parts = Vec::new();
        let mut start = PARTS_FROM;
        for size in sizes {
            let sources: Vec<usize> = (0..questions).map(|n| start + n * 7919 % size).collect();
            let questions: Vec<String> = sources
                .iter()
                .map(|number| self.world.question(*number))
                .collect();
            let mut exact = Exact::new(
                questions
                    .iter()
                    .map(|question| self.world.vector(question))
                    .collect(),
            );
            for first in (start..start + size).step_by(CHUNK) {
                let range = first..(first + CHUNK).min(start + size);
                let sayings: Vec<Saying> = range
                    .clone()
                    .into_par_iter()
                    .map(|n| self.world.saying(n))
                    .collect();
                let rows = bulk::rows(&sayings, &self.world, &self.analyzer);
                bulk.copy(&part_name(*size), 1, first, &rows).await;
                self.numbers
                    .extend(range.map(|number| (bulk::id(number as u64 + 1), number)));
                exact.add(
                    first,
                    &rows.into_iter().map(|row| row.vector).collect::<Vec<_>>(),
                );
            }
            bulk.count(&part_name(*size)).await;
            start += size;
            parts.push(Part {
                size: *size,
                questions,
                sources,
                exact,
            });
        }
        if !parts.is_empty() {
            bulk.settle().await;
        }
        parts
    }

    async fn ask_part(&self, part: &Part) {
        let name = part_name(part.size);
        let recall = self
            .recall(&self.engine, &name, &part.questions, &part.sources)
            .await;
        let search = self.nearest(&name, &part.questions, &part.exact).await;
        println!(
            "{name}: recall {:.1} / {:.1} ms, search {:.1} / {:.1} ms, of the nearest ten {:.1} %",
            recall.at(0.5),
            recall.at(0.95),
            search.at(0.5),
            search.at(0.95),
            100.0 * search.share
        );
    }

    async fn recall(
        &self,
        engine: &Engine,
        project: &str,
        questions: &[String],
        sources: &[usize],
    ) -> Found {
        let mut found = Found::default();
        let ask = async |question: &String| {
            let params = RecallParams {
                query: Some(question.clone()),
                ..RecallParams::default()
            };
            engine
                .recall(&Call::new(scope(project)), params)
                .await
                .expect("an answer")
        };
        for question in questions.iter().take(40) {
            ask(question).await;
        }
        for (question, source) in questions.iter().zip(sources) {
            let start = Instant::now();
            let output = ask(question).await;
            found.times.push(millis(start.elapsed()));
            let alone = output
                .notes
                .iter()
                .find(|note| note.contains("by words alone"));
            if let Some(note) = alone {
                println!("{note}");
            }
            let is_source = |id: &str| {
                id.parse()
                    .is_ok_and(|id: Uuid| self.numbers.get(&id) == Some(source))
            };
            found.share += f64::from(u8::from(
                output.hits.iter().any(|hit| is_source(&hit.memory.id)),
            ));
        }
        found.finish()
    }

    async fn nearest(&self, project: &str, questions: &[String], exact: &Exact) -> Found {
        let mut found = Found::default();
        for (place, question) in questions.iter().enumerate() {
            let (time, nearest) = self
                .search(project, question, Filter::at(SystemClock.now()))
                .await;
            found.times.push(time);
            found.share += exact.share(place, &nearest);
        }
        found.finish()
    }

    /// Measures questions about a random period that contains `pass` memories.
    async fn filtered(&self, questions: &[String], size: usize, pass: usize) -> Found {
        let mut found = Found::default();
        for (place, question) in questions.iter().enumerate() {
            let first = place * 7919 * 131 % (size - pass);
            let mut exact = Exact::new(vec![self.world.vector(question)]);
            let texts = (first..first + pass)
                .into_par_iter()
                .map(|number| self.world.saying(number).content);
            exact.add(
                first,
                &texts
                    .map(|text| self.world.vector(&text))
                    .collect::<Vec<_>>(),
            );
            let filter = Filter {
                since: Some(bulk::time(first)),
                until: Some(bulk::time(first + pass)),
                ..Filter::at(SystemClock.now())
            };
            let (time, nearest) = self.search(WHOLE, question, filter).await;
            found.times.push(time);
            found.share += exact.share(0, &nearest);
        }
        found.finish()
    }

    /// Returns the time of the search by vector, and the ten nearest memories that it finds.
    async fn search(&self, project: &str, question: &str, filter: Filter) -> (f64, Vec<usize>) {
        let query = VectorQuery {
            model: self.world.model().id.clone(),
            vector: self.world.vector(question).into(),
            filter,
            limit: DEPTH,
        };
        let start = Instant::now();
        let hits = self
            .store
            .search_vectors(&scope(project), &query)
            .await
            .expect("hits");
        let time = millis(start.elapsed());
        (
            time,
            hits.iter()
                .take(Exact::COUNT)
                .filter_map(|hit| self.numbers.get(&hit.id).copied())
                .collect(),
        )
    }
}

/// Embeds all waiting memories, as the service does.
async fn embed_all(store: &dyn Store, world: &World) {
    loop {
        let jobs = store
            .claim_index_jobs(1_000, SystemClock.now())
            .await
            .expect("jobs");
        if jobs.is_empty() {
            return;
        }
        let embedded: Vec<Embedded> = jobs
            .par_iter()
            .map(|job| Embedded {
                key: job.key,
                version: job.version,
                first_passage: 0,
                vectors: vec![world.vector(&job.text)],
            })
            .collect();
        let saved = store
            .save_vectors(&world.model().id, &embedded, SystemClock.now())
            .await
            .expect("saved");
        assert_eq!(saved, jobs.len() as u64);
    }
}

/// A separate project and its questions.
struct Part {
    size: usize,
    questions: Vec<String>,
    sources: Vec<usize>,
    exact: Exact,
}

#[derive(Default)]
struct Found {
    times: Vec<f64>,
    share: f64,
}

impl Found {
    fn finish(mut self) -> Self {
        self.share /= self.times.len() as f64;
        self.times.sort_by(f64::total_cmp);
        self
    }

    fn at(&self, share: f64) -> f64 {
        self.times[((self.times.len() - 1) as f64 * share) as usize]
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
