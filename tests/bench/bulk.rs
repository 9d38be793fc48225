//! Loads memories into PostgreSQL by COPY: the same rows as the service writes, in a hundredth of
//! the time.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use cognitive_memory_mcp::domain::Analyzer;
use cognitive_memory_mcp::domain::memory::{content_hash, indexed_text};
use rayon::prelude::*;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};
use uuid::Uuid;

use super::topics::{DIMENSION, Saying, World};

const MEMORY: &str = "COPY memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
    occurred_at, created_at, created_by, updated_at, session, turn, speaker, content_claim, turn_claim) FROM STDIN";
const POSTING: &str = "COPY posting (project_id, term, memory_seq, frequency, length) FROM STDIN";
const EMBEDDING: &str = "COPY embedding (project_id, memory_seq, model, chunk, dimension, content_hash, vector, created_at) \
    FROM STDIN (FORMAT binary)";
/// Statements whose results must be equal for both ways, without values that cannot be equal.
const COMPARED: [&str; 4] = [
    "SELECT (to_jsonb(m) - '{project_id,seq,id,created_at,updated_at}'::text[])::text FROM memory m \
     WHERE m.project_id = $1 ORDER BY m.content",
    "SELECT concat_ws(' ', m.content, p.term, p.frequency, p.length) FROM posting p \
     JOIN memory m ON m.project_id = p.project_id AND m.seq = p.memory_seq WHERE p.project_id = $1 \
     ORDER BY m.content, p.term",
    "SELECT concat_ws(' ', m.content, e.model, e.chunk, e.dimension, e.content_hash, e.vector) FROM embedding e \
     JOIN memory m ON m.project_id = e.project_id AND m.seq = e.memory_seq WHERE e.project_id = $1 ORDER BY m.content",
    "SELECT concat_ws(' ', sum(c.documents), sum(c.total_length), sum(u.memories), sum(u.bytes)) FROM corpus c, usage u \
     WHERE c.project_id = $1 AND u.project_id = $1",
];

pub(super) struct Bulk {
    connection: PgConnection,
}

/// A memory as it is sent to the server.
pub(super) struct Row {
    saying: Saying,
    hash: [u8; 32],
    length: u32,
    terms: Vec<(String, u32)>,
    pub(super) vector: Vec<f32>,
}

/// Returns the time of the memory with this number.
pub(super) fn time(number: usize) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_400) + TimeDelta::seconds(20 * number as i64)
}

pub(super) fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0190_0000_0000_7000, 0x8000_0000_0000_0000 | number)
}

pub(super) fn rows(sayings: &[Saying], world: &World, analyzer: &Analyzer) -> Vec<Row> {
    let row = |saying: &Saying| {
        let speaker = saying.turn.as_ref().map(|(_, _, speaker)| *speaker);
        let terms = analyzer.terms(&indexed_text(&saying.content, speaker, &[], None));
        Row {
            hash: content_hash(&saying.content),
            length: terms.length,
            terms: terms.counts.into_iter().collect(),
            vector: world.vector(&saying.content),
            saying: saying.clone(),
        }
    };
    sayings.par_iter().map(row).collect()
}

impl Bulk {
    pub(super) async fn connect(url: &str) -> Self {
        Self {
            connection: PgConnection::connect(url)
                .await
                .expect("the PostgreSQL server answers"),
        }
    }

    async fn run(&mut self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut self.connection)
            .await
            .expect(statement);
    }

    async fn project(&mut self, name: &str) -> i32 {
        let make = "INSERT INTO project (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";
        sqlx::query_scalar(make)
            .bind(name)
            .fetch_one(&mut self.connection)
            .await
            .expect("a project")
    }

    /// Moves the sequences of the service far from the numbers used here.
    pub(super) async fn begin(&mut self) {
        self.run("SELECT setval('memory_order', 100000000)").await;
    }

    /// Adds memories, whose storage order begins with `seq` at number 0.
    pub(super) async fn copy(&mut self, project: &str, seq: usize, first: usize, rows: &[Row]) {
        let project = self.project(project).await;
        let (mut memories, mut postings) = (String::new(), String::new());
        let mut vectors = b"PGCOPY\n\xff\r\n\0".to_vec();
        vectors.extend([0_u8; 8]);
        for (place, row) in rows.iter().enumerate() {
            let (number, seq) = (first + place, seq + first + place);
            let time = time(number);
            memory_line(&mut memories, project, seq, time, row);
            for (term, frequency) in &row.terms {
                let _ = writeln!(
                    postings,
                    "{project}\t{term}\t{seq}\t{frequency}\t{}",
                    row.length
                );
            }
            vector_row(&mut vectors, project, seq as i64, time, row);
        }
        vectors.extend((-1_i16).to_be_bytes());
        for (statement, bytes) in [
            (MEMORY, memories.into_bytes()),
            (POSTING, postings.into_bytes()),
            (EMBEDDING, vectors),
        ] {
            let mut copy = self
                .connection
                .copy_in_raw(statement)
                .await
                .expect("a copy begins");
            copy.send(bytes).await.expect("the rows are sent");
            copy.finish().await.expect("the rows are right");
        }
    }

    /// Sets the size of the lexical index, which the service updates with every write.
    pub(super) async fn count(&mut self, project: &str) {
        let project = self.project(project).await;
        self.run(&format!(
            "INSERT INTO corpus (project_id, shard, documents, total_length) \
             SELECT project_id, 0, count(*), sum(length) FROM memory WHERE project_id = {project} GROUP BY project_id \
             ON CONFLICT (project_id, shard) DO UPDATE SET documents = excluded.documents, total_length = excluded.total_length"
        ))
        .await;
    }

    pub(super) async fn compare(&mut self, one: &str, other: &str) {
        let (one, other) = (self.project(one).await, self.project(other).await);
        for statement in COMPARED {
            let mut texts = Vec::new();
            for project in [one, other] {
                let rows: Vec<String> = sqlx::query_scalar(statement)
                    .bind(project)
                    .fetch_all(&mut self.connection)
                    .await
                    .expect(statement);
                assert!(!rows.is_empty(), "{statement}");
                texts.push(rows);
            }
            assert_eq!(
                texts[0], texts[1],
                "the service and this program write different rows"
            );
        }
    }

    pub(super) async fn drop_index(&mut self) {
        self.run(&format!(
            "DROP INDEX IF EXISTS embedding_nearest_{DIMENSION}"
        ))
        .await;
    }

    pub(super) async fn drop_posting_key(&mut self) {
        self.run("ALTER TABLE posting DROP CONSTRAINT posting_pkey")
            .await;
    }

    pub(super) async fn make_posting_key(&mut self) {
        self.run("ALTER TABLE posting ADD PRIMARY KEY (project_id, term, memory_seq) INCLUDE (frequency, length)")
            .await;
    }

    /// Does what the server's autovacuum does eventually.
    pub(super) async fn settle(&mut self) {
        self.run("VACUUM ANALYZE").await;
        self.run("CHECKPOINT").await;
    }

    /// Returns the size of the vector index and of the whole database.
    pub(super) async fn bytes(&mut self) -> (f64, f64) {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT pg_relation_size('embedding_nearest_{DIMENSION}')::float8 AS one, \
                 pg_database_size(current_database())::float8 AS all"
        )))
        .fetch_one(&mut self.connection)
        .await
        .expect("sizes");
        (row.get("one"), row.get("all"))
    }
}

fn memory_line(out: &mut String, project: i32, seq: usize, time: DateTime<Utc>, row: &Row) {
    let (id, content, length) = (id(seq as u64), &row.saying.content, row.length);
    let (kind, claim) = if row.saying.turn.is_some() {
        ("dialogue", r"\N")
    } else {
        ("note", "t")
    };
    let hash: String = row.hash.iter().fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    });
    let time = time.to_rfc3339();
    let _ = write!(
        out,
        "{project}\t{seq}\t{id}\t{kind}\t{content}\t\\\\x{hash}\t{length}\t{{}}\t0.5\t{{}}\t{time}\t{time}\tbench\t{time}\t"
    );
    let _ = match &row.saying.turn {
        Some((session, turn, speaker)) => writeln!(out, "{session}\t{turn}\t{speaker}\t{claim}\tt"),
        None => writeln!(out, "\\N\t\\N\t\\N\t{claim}\t\\N"),
    };
}

/// Converts a number of at most 1 to 16 bits, rounded to the nearest, ties to even.
fn half(number: f32) -> u16 {
    let (sign, size) = ((number.to_bits() >> 16 & 0x8000) as u16, number.abs());
    let bits = size.to_bits();
    sign | if size < 2.0_f32.powi(-14) {
        (size * 2.0_f32.powi(24)).round_ties_even() as u16
    } else {
        // Thirteen bits of the fraction are dropped, and the bias of the exponent is 15 instead of
        // 127.
        ((bits + 0xfff + (bits >> 13 & 1) - (112 << 23)) >> 13) as u16
    }
}

fn vector_row(out: &mut Vec<u8>, project: i32, seq: i64, time: DateTime<Utc>, row: &Row) {
    // PostgreSQL counts times from the year 2000.
    let micros = time.timestamp_micros() - 946_684_800_000_000;
    let mut vector = Vec::with_capacity(2 * row.vector.len() + 4);
    vector.extend((row.vector.len() as u16).to_be_bytes());
    vector.extend([0, 0]);
    row.vector
        .iter()
        .for_each(|x| vector.extend(half(*x).to_be_bytes()));
    let dimension = (row.vector.len() as i32).to_be_bytes();
    let fields: [&[u8]; 8] = [
        &project.to_be_bytes(),
        &seq.to_be_bytes(),
        b"generated",
        &0_i32.to_be_bytes(),
        &dimension,
        &row.hash,
        &vector,
        &micros.to_be_bytes(),
    ];
    out.extend((fields.len() as i16).to_be_bytes());
    for field in fields {
        out.extend((field.len() as i32).to_be_bytes());
        out.extend(field);
    }
}
