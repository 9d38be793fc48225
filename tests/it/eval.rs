//! `eval`: results on both databases, and errors about files with mistakes.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::postgres_server::Database;
use crate::process::{Ran, Server, Setup, eventually};
use crate::requirement::needs;
use crate::transfer::on_postgres;

const CORPUS: &str = r#"{"key":"tea","content":"Tea at four, in the garden","tags":["habit"]}
{"key":"coffee","content":"Coffee at nine, in the kitchen","tags":["habit"]}

{"key":"old","content":"The garden gate code is 4711"}
{"key":"new","content":"The garden gate code is 0815","supersedes":["old"]}
{"content":"Zeppelins are filled with helium"}
"#;

/// With recall by words: found at rank 1; one of two at rank 1; not found; the old code is replaced; no answer
/// exists.
const GOLDEN: &str = r#"{"query":"tea","expected":["tea"],"group":"keyword"}
{"query":"zeppelin helium","expected":["Zeppelins are filled with helium","coffee"],"group":"keyword"}
{"query":"hot drinks","expected":["tea","coffee"],"group":"paraphrase"}
{"query":"garden","expected":["tea"],"group":"filter","tags":["habit"]}
{"query":"gate code","expected":["new"],"group":"keyword"}
{"query":"submarine","expected":[],"group":"nothing"}
"#;

fn files(setup: &Setup, golden: &str, corpus: &str) -> (String, String) {
    let write =
        |name: &str, text: &str| setup.file(name, text).to_str().expect("a path").to_owned();
    (write("golden.jsonl", golden), write("corpus.jsonl", corpus))
}

fn report(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

fn check(report: &Value, database: &str) {
    let all = &report["overall"];
    assert_eq!(
        (&report["database"], &report["memories"]),
        (&json!(database), &json!(5))
    );
    assert_eq!(
        (&all["answerable"], &all["unanswerable"]),
        (&json!(5), &json!(1))
    );
    assert_eq!(
        (&all["recall_at_5"], &all["hit_at_10"], &all["mrr"]),
        (&json!(0.7), &json!(0.8), &json!(0.8)),
        "{all}"
    );
    assert_eq!(
        (&all["precision_at_5"], &all["precision_at_10"]),
        (&json!(0.16), &json!(0.08))
    );
    assert_eq!(
        (&all["told_nothing"], &all["not_denied"], &all["separation"]),
        (&json!(1.0), &json!(0.8), &json!(0.9))
    );
    assert_eq!(report["groups"]["keyword"]["recall_at_10"], 0.8333);
    let questions = report["questions"].as_array().expect("questions");
    assert_eq!(
        questions[4]["came"].as_array().map(Vec::len),
        Some(1),
        "the old code is replaced: {report}"
    );
    assert_eq!(questions[4]["came"][0]["key"], "new");
    assert!(all["latency_p95"].as_f64().expect("a time") > 0.0);
}

#[test]
fn a_corpus_of_its_own_leaves_the_configured_database_alone() {
    let setup = Setup::new();
    let (golden, corpus) = files(&setup, GOLDEN, CORPUS);
    let ran = setup.run(&["eval", &golden, "--corpus", &corpus, "--json"]);
    check(&report(&ran), "sqlite");
    assert_eq!(ran.stderr, "", "no bars in a pipe");
    assert!(!setup.database().exists());
    let ran = setup.run(&["eval", &golden, "--corpus", &corpus, "--failures", "2"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(
        lines[0].starts_with("5 memories in sqlite, by words alone"),
        "{}",
        ran.stdout
    );
    let row = |name: &str| {
        lines
            .iter()
            .find(|line| line.starts_with(name))
            .expect("a row")
            .split_whitespace()
    };
    assert_eq!(
        row("all").take(10).collect::<Vec<_>>(),
        [
            "all", "6", "16.0", "70.0", "80.0", "8.0", "70.0", "80.0", "80.0", "72.3"
        ]
    );
    for words in [
        "line 3, paraphrase",
        "  no hits",
        "line 2, keyword",
        "+  1. ",
        "expected: Zeppelins",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    assert!(
        !ran.stdout.contains("line 6"),
        "what nothing answers was told: {}",
        ran.stdout
    );
}

#[tokio::test]
async fn the_same_figures_come_from_postgresql_and_from_a_running_service() {
    needs!(Postgres);
    let database = Database::empty().await;
    let setup = on_postgres(&database);
    let (golden, corpus) = files(&setup, GOLDEN, CORPUS);
    let args = [
        "eval",
        &golden,
        "--corpus",
        &corpus,
        "--configured-database",
        "--json",
    ];
    check(&report(&setup.run(&args)), "postgres");
    let again = setup.run(&args);
    assert!(
        again.code == Some(64) && again.stderr.contains("has 5 memories"),
        "{}",
        again.stderr
    );
    // The memories still exist, without a service and through it.
    check(
        &report(&setup.run(&["eval", &golden, "--json"])),
        "postgres",
    );
    let server = setup.serve().await;
    let elsewhere = Setup::new().env("MEMORY_URL", server.url("/mcp"));
    check(
        &report(&elsewhere.run(&["eval", &golden, "--json"])),
        "postgres",
    );
    server.stop().await;
}

#[tokio::test]
async fn ids_of_a_running_service_are_expected_and_must_exist() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let id = server.client().remember("Tea at four").await;
    let missing = "01900000-0000-7000-8000-000000000001";
    let line = |id: &str| format!("{}\n", json!({ "query": "tea", "expected": [id] }));
    let (golden, _) = files(&setup, &line(&id), "");
    assert_eq!(
        report(&setup.run(&["eval", &golden, "--json"]))["overall"]["mrr"],
        1.0
    );
    let (golden, _) = files(&setup, &(line(&id) + &line(missing)), "");
    let ran = setup.run(&["eval", &golden]);
    assert!(
        ran.code == Some(64) && ran.stderr.contains("line 2") && ran.stderr.contains(missing),
        "{}",
        ran.stderr
    );
    server.stop().await;
}

#[test]
fn what_fell_since_a_baseline_is_told_by_the_exit_code() {
    let setup = Setup::new();
    let (golden, corpus) = files(&setup, GOLDEN, CORPUS);
    let path = |name: &str| setup.path(name).to_str().expect("a path").to_owned();
    let (baseline, output) = (path("baseline.json"), path("report.json"));
    let run = |more: &[&str]| setup.run(&[&["eval", &golden, "--corpus", &corpus], more].concat());
    let first = run(&["--save-baseline", &baseline, "--output", &output]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let kept: Value =
        serde_json::from_str(&std::fs::read_to_string(&baseline).expect("a file")).expect("JSON");
    assert!(
        kept["overall"]["latency_p50"].is_null() && kept["questions"].is_null(),
        "{kept}"
    );
    for earlier in [&baseline, &output] {
        let same = run(&["--baseline", earlier]);
        assert!(
            same.code == Some(0) && same.stdout.contains("No figure of all questions fell"),
            "{}",
            same.stdout
        );
    }
    // The corpus without the answer to one question.
    let poorer = CORPUS.replace("Tea at four", "Beer at four");
    setup.file("corpus.jsonl", poorer);
    let worse = run(&["--baseline", &baseline]);
    assert!(
        worse.code == Some(1) && worse.stdout.contains("R@10") && worse.stdout.contains("fell"),
        "{}",
        worse.stdout
    );
    let worse: Value =
        serde_json::from_str(&run(&["--baseline", &baseline, "--json"]).stdout).expect("JSON");
    let change = worse["drift"]["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .find(|change| change["figure"] == "R@10");
    assert_eq!(
        (
            &change.expect("R@10")["points"],
            &worse["drift"]["other_questions"]
        ),
        (&json!(-20.0), &json!(false))
    );
    assert_eq!(
        run(&["--baseline", &baseline, "--tolerance", "25"]).code,
        Some(0)
    );
    let wrong = run(&["--baseline", &golden]);
    assert!(
        wrong.code == Some(64) && wrong.stderr.contains("--save-baseline"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn the_share_of_right_versions_is_reported() {
    let setup = Setup::new().env("MEMORY_DATA_DIR", "data");
    let corpus = r#"{"key":"a","content":"The gate code is 4711","occurred_at":"2026-01-01"}
{"key":"b","content":"The gate code is 0815, no longer the old one","occurred_at":"2026-02-01"}
"#;
    let golden = r#"{"query":"gate code","expected":["a"],"versions":["a","b"],"group":"one"}
{"query":"gate code","expected":["b"],"versions":["a","b"],"group":"other"}
{"query":"gate code","expected":["a","b"],"group":"both"}
"#;
    let (golden_file, corpus) = files(&setup, golden, corpus);
    let args = ["eval", &golden_file, "--corpus", &corpus];
    let measured = report(&setup.run(&[&args[..], &["--json"]].concat()));
    assert_eq!(measured["overall"]["right_version"], 0.5, "{measured}");
    let groups = &measured["groups"];
    assert!(groups["both"]["right_version"].is_null(), "{groups}");
    let shares = [&groups["one"], &groups["other"]].map(|group| group["right_version"].as_f64());
    assert!(
        shares.contains(&Some(1.0)) && shares.contains(&Some(0.0)),
        "{groups}"
    );
    let table = setup.run(&args).stdout;
    assert!(table.contains("precedes the others in 50.0 %"), "{table}");
    setup.file(
        "golden.jsonl",
        "{\"query\":\"gate code\",\"expected\":[\"a\"],\"versions\":[\"b\"]}\n",
    );
    let refused = setup.run(&args);
    assert!(
        refused.code == Some(64)
            && refused
                .stderr
                .contains("versions: expected all entries of expected"),
        "{}",
        refused.stderr
    );
}

/// The small model of the tests has no calibration of its own.
#[test]
fn a_corpus_with_credentials_is_measured_as_it_is() {
    let setup = Setup::new();
    let corpus = r#"{"key":"wlan","content":"The WLAN password of the cabin is Kd83jfQ92mXz"}"#;
    let golden = r#"{"query":"WLAN cabin","expected":["wlan"]}"#;
    let (golden, corpus) = files(&setup, golden, corpus);
    let ran = setup.run(&["eval", &golden, "--corpus", &corpus, "--json"]);
    assert_eq!(report(&ran)["overall"]["mrr"], json!(1.0));
}

#[test]
fn an_index_contains_twice_the_evidence_per_character() {
    let setup = Setup::new();
    let path = |name: &str| own(name).to_str().expect("a path").to_owned();
    let (golden, corpus) = (path("queries.jsonl"), path("memories.jsonl"));
    let ran = setup.run(&["eval", &golden, "--corpus", &corpus, "--economy", "--json"]);
    let report = report(&ran);
    let [text, index] = &report["economy"].as_array().expect("two details")[..] else {
        panic!("{}", report["economy"]);
    };
    assert_eq!(
        (&text["detail"], &index["detail"]),
        (&json!("text"), &json!("index"))
    );
    assert_eq!(text["recall_at_10"], index["recall_at_10"]);
    let number = |value: &Value| value.as_f64().expect("a number");
    let usual = number(&report["overall"]["recall_at_10"]);
    assert!(
        (number(&text["recall_at_10"]) - usual).abs() < 0.001,
        "{text}"
    );
    let evidence = |economy: &Value| number(&economy["evidence_per_1000"]);
    assert!(evidence(index) >= 2.0 * evidence(text), "{text} {index}");
}

#[test]
fn a_calibration_is_fitted_to_questions_and_accepted_as_a_setting() {
    let model = own("../data/models/distilbert-weighted");
    let setup = Setup::new()
        .env("MEMORY_EMBEDDER", "local")
        .env("MEMORY_MODEL", "owner/small")
        .env("MEMORY_MODEL_SOURCE", &model);
    let words = [
        "river", "stones", "runs", "over", "old", "the", "garden", "tea", "gate", "code", "moon",
        "sun",
    ];
    let corpus: String = (0..12)
        .map(|n| {
            format!(
                "{{\"key\":\"m{n}\",\"content\":\"{}\"}}\n",
                words[..=n].join(" ")
            )
        })
        .collect();
    let golden: String = (0..12)
        .map(|n| {
            format!(
                "{{\"query\":\"{} and {}\",\"expected\":[\"m{n}\"]}}\n",
                words[n],
                words[(n + 5) % 12]
            )
        })
        .collect();
    let (golden, corpus) = files(&setup, &golden, &corpus);
    let args = ["eval", &golden, "--corpus", &corpus, "--json"];
    let fitted = setup.run(&[&args[..], &["--calibrate"]].concat());
    let figures = report(&fitted);
    let setting = fitted
        .stderr
        .split_once("MEMORY_MODEL_CALIBRATION=")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("{}", fitted.stderr));
    let setup = setup.env("MEMORY_MODEL_CALIBRATION", setting);
    let configured = report(&setup.run(&args));
    for name in ["mrr", "not_denied", "not_doubted"] {
        assert_eq!(
            figures["overall"][name], configured["overall"][name],
            "{name}"
        );
    }
    let setup = setup.env("MEMORY_EMBEDDER", "none");
    let words_only = setup.run(&[&args[..], &["--calibrate"]].concat());
    assert!(
        words_only.code == Some(64)
            && words_only
                .stderr
                .contains("--calibrate: expected embeddings"),
        "{}",
        words_only.stderr
    );
}

#[test]
fn files_with_mistakes_are_told_line_by_line_and_nothing_is_loaded() {
    let setup = Setup::new().env("MEMORY_DATA_DIR", "data");
    let golden = "{\"query\":\"a\",\"expected\":[\"x\"]}\n{\"query\":\"a\"}\n";
    let (golden, corpus) = files(
        &setup,
        golden,
        "{\"content\":7}\n{\"key\":\"x\",\"content\":\"fine\"}\n",
    );
    let args = [
        "eval",
        &golden,
        "--corpus",
        &corpus,
        "--configured-database",
    ];
    let ran = setup.run(&args);
    assert_eq!(ran.code, Some(64), "{}", ran.stderr);
    for words in [
        "golden.jsonl line 2: expected: ",
        "corpus.jsonl line 1: content: invalid type: integer `7`",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    // Errors that only the engine detects, and names without a memory.
    setup.file("golden.jsonl", "{\"query\":\"a\",\"expected\":[\"x\"]}\n");
    setup.file(
        "corpus.jsonl",
        "{\"key\":\"x\",\"content\":\"fine\"}\n{\"content\":\" \"}\n{\"content\":\"y\",\"importance\":2}\n",
    );
    let ran = setup.run(&args);
    assert_eq!(ran.code, Some(64), "{}", ran.stderr);
    for words in [
        "corpus.jsonl line 2: content: ",
        "corpus.jsonl line 3: importance: expected a number from 0 to 1, got 2",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let stored = setup.run(&["list"]);
    assert!(
        stored.stdout.contains("Nothing is stored"),
        "{}",
        stored.stdout
    );
    setup.file(
        "golden.jsonl",
        "{\"query\":\"a\",\"expected\":[\"gone\"]}\n",
    );
    setup.file("corpus.jsonl", "{\"key\":\"x\",\"content\":\"fine\"}\n");
    let ran = setup.run(&args);
    assert!(
        ran.code == Some(64)
            && ran
                .stderr
                .contains("golden.jsonl line 1: expected: expected the key"),
        "{}",
        ran.stderr
    );
    let ran = setup.run(&["eval", "nowhere.jsonl"]);
    assert!(
        ran.code == Some(64) && ran.stderr.contains("cannot read nowhere.jsonl"),
        "{}",
        ran.stderr
    );
}

/// Returns the path of a file of the repository's golden set.
fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

#[tokio::test]
async fn an_interrupt_leaves_nothing_behind() {
    let setup = Setup::new();
    let folder = setup.path("tmp");
    std::fs::create_dir(&folder).expect("a folder");
    let setup = setup.env("TMPDIR", &folder);
    let path = |name: &str| own(name).to_str().expect("a path").to_owned();
    let mut running = Server::start(setup.command(&[
        "eval",
        &path("queries.jsonl"),
        "--corpus",
        &path("memories.jsonl"),
    ]));
    let scratch = || std::fs::read_dir(&folder).expect("a folder").next();
    eventually("its database", || {
        scratch()
            .and_then(Result::ok)
            .filter(|entry| entry.path().join("memory.db").exists())
    })
    .await;
    running.signal("INT");
    assert_eq!(running.ended().await.code(), Some(130), "{}", running.log());
    assert!(running.log().contains("interrupted"), "{}", running.log());
    assert!(scratch().is_none(), "the temporary database is still there");
}

/// Compares the metrics of a part of the golden set (`""` or `"long-"`), recalled by words, with the baseline.
fn compare_golden_set(setup: &Setup, part: &str, more: &[&str]) {
    let path = |name: &str| {
        let name = format!("{part}{name}");
        own(&name).to_str().expect("a path").to_owned()
    };
    let (queries, memories, baseline) = (
        path("queries.jsonl"),
        path("memories.jsonl"),
        path("lexical.json"),
    );
    let base = [
        "eval",
        &queries,
        "--corpus",
        &memories,
        "--baseline",
        &baseline,
    ];
    let ran = setup.run(&[&base, more].concat());
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("by words alone") && !ran.stdout.contains("other questions"),
        "{}",
        ran.stdout
    );
}

#[test]
fn the_golden_set_is_found_by_words_as_well_as_before_in_sqlite() {
    for part in ["", "long-"] {
        compare_golden_set(&Setup::new(), part, &[]);
    }
}

#[tokio::test]
async fn the_golden_set_is_found_by_words_as_well_as_before_in_postgresql() {
    needs!(Postgres);
    for part in ["", "long-"] {
        let database = Database::empty().await;
        compare_golden_set(&on_postgres(&database), part, &["--configured-database"]);
    }
}

#[test]
fn scripts_without_spaces_are_found_by_words() {
    let setup = Setup::new();
    let path = |name: &str| own(name).to_str().expect("a path").to_owned();
    let (queries, memories) = (
        path("scripts-queries.jsonl"),
        path("scripts-memories.jsonl"),
    );
    let report = report(&setup.run(&["eval", &queries, "--corpus", &memories, "--json"]));
    for script in ["hangul", "katakana", "khmer", "lao", "thai"] {
        let group = &report["groups"][script];
        assert!(
            group["answerable"].as_u64().expect("a number") >= 10,
            "{group}"
        );
        assert!(
            group["recall_at_10"].as_f64().expect("a share") >= 0.9,
            "{script}: {group}"
        );
        // All memories of a script fit into few pages, so the rank is more informative.
        assert!(
            group["mrr"].as_f64().expect("a number") >= 0.9,
            "{script}: {group}"
        );
    }
}
