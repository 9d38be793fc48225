//! The report of `doctor` about a healthy service, and about several faults.

use serde_json::Value;
use sqlx::{ConnectOptions, Connection};

use crate::postgres_server::Database;
use crate::process::{Ran, Setup};
use crate::requirement::needs;
use crate::transfer::on_postgres;

fn verdicts(ran: &Ran) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().expect("a list");
    checks
        .iter()
        .map(|f| (text(f, "check"), text(f, "verdict"), text(f, "remedy")))
        .collect()
}

fn failed(setup: &Setup) -> Vec<(String, String)> {
    let ran = setup.run(&["doctor", "--json"]);
    let failed: Vec<_> = verdicts(&ran)
        .into_iter()
        .filter(|(_, verdict, _)| verdict == "failed")
        .collect();
    assert_eq!(
        ran.code,
        Some(i32::from(!failed.is_empty())),
        "{}",
        ran.stdout
    );
    failed
        .into_iter()
        .map(|(check, _, remedy)| (check, remedy))
        .collect()
}

#[tokio::test]
async fn a_healthy_service_passes() {
    let setup = Setup::new();
    assert_eq!(failed(&setup), [], "before the first start");
    let server = setup.serve().await;
    server.client().remember("something").await;
    let ran = setup.run(&["doctor", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let found = verdicts(&ran);
    for check in [
        "clock",
        "configuration",
        "tokens",
        "data folder",
        "database",
        "integrity",
        "lock",
        "service",
    ] {
        assert!(
            found
                .iter()
                .any(|(name, verdict, _)| name == check && verdict == "ok"),
            "{check}: {found:?}"
        );
    }
    let text = setup.run(&["doctor"]);
    assert!(
        text.stdout.contains("integrity") && !text.stdout.contains('\x1b'),
        "{}",
        text.stdout
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_comes_with_a_remedy() {
    let setup = Setup::new().env("MEMORY_LISTEN", "nowhere");
    let found = failed(&setup);
    assert!(
        found[0].0 == "configuration" && found[0].1.contains("config show"),
        "{found:?}"
    );

    let setup = Setup::new().env(
        "MEMORY_DATABASE_URL",
        "postgres://memory@127.0.0.1:9/memory",
    );
    let found = failed(&setup);
    assert!(
        found[0].0 == "database" && found[0].1.contains("start the database"),
        "{found:?}"
    );

    // Rows and index disagree.
    let setup = Setup::new();
    let server = setup.serve().await;
    server.client().remember("something to be lost").await;
    server.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(setup.database());
    let mut connection = options.connect().await.expect("a database");
    let sql = "INSERT INTO memory_term (memory_term) VALUES ('delete-all')";
    sqlx::raw_sql(sql)
        .execute(&mut connection)
        .await
        .expect("done");
    connection.close().await.expect("closed");
    let found = failed(&setup);
    assert!(
        found[0].0 == "integrity" && found[0].1.contains("doctor --repair"),
        "{found:?}"
    );
    let repaired = setup.run(&["doctor", "--repair", "--deep", "--json"]);
    assert_eq!(repaired.code, Some(0), "{}", repaired.stdout);
    assert_eq!(failed(&setup), [], "the index is whole again");

    // The database does not exist.
    let setup = Setup::new();
    setup.file(
        "share/cognitive-memory-mcp/memory.db",
        "these are holiday pictures ".repeat(400),
    );
    let found = failed(&setup);
    assert!(
        found[0].0 == "database" && !found[0].1.is_empty(),
        "{found:?}"
    );
}

#[tokio::test]
async fn only_a_deep_look_finds_a_word_too_much() {
    let setup = Setup::new();
    let server = setup.serve().await;
    server.client().remember("something that stays").await;
    server.stop().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(setup.database());
    let mut connection = options.connect().await.expect("a database");
    let sql = "INSERT INTO memory_term (rowid, terms) VALUES (1, '1:walrus')";
    sqlx::raw_sql(sql)
        .execute(&mut connection)
        .await
        .expect("done");
    connection.close().await.expect("closed");
    assert_eq!(failed(&setup), []);
    let deep = setup.run(&["doctor", "--deep", "--json"]);
    assert_eq!(deep.code, Some(1), "{}", deep.stdout);
    let found = verdicts(&deep);
    let (_, _, remedy) = found
        .iter()
        .find(|(_, verdict, _)| verdict == "failed")
        .expect("a finding");
    assert!(remedy.contains("doctor --repair"), "{found:?}");
    // A running service has exclusive use of the file.
    let server = setup.serve().await;
    let refused = setup.run(&["doctor", "--repair"]);
    assert!(
        refused.code == Some(1) && refused.stdout.contains("stop the service"),
        "{}",
        refused.stdout
    );
    server.stop().await;
    let repaired = setup.run(&["doctor", "--deep", "--repair"]);
    assert_eq!(repaired.code, Some(0), "{}", repaired.stdout);
}

#[tokio::test]
async fn a_deep_look_at_postgresql_says_whether_pages_were_read() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let setup = on_postgres(&database);
    let without = setup.run(&["doctor", "--deep"]);
    assert_eq!(without.code, Some(0), "{}", without.stdout);
    assert!(
        without.stdout.contains("CREATE EXTENSION amcheck"),
        "{}",
        without.stdout
    );
    assert!(
        !without.stdout.contains("every page is sound"),
        "{}",
        without.stdout
    );
    sqlx::raw_sql("CREATE EXTENSION amcheck")
        .execute(&mut database.connection().await)
        .await
        .expect("installed");
    let with = setup.run(&["doctor", "--deep"]);
    assert!(
        with.code == Some(0) && with.stdout.contains("every page is sound"),
        "{}",
        with.stdout
    );
}

#[tokio::test]
async fn a_database_that_is_gone_is_named() {
    let setup = Setup::new();
    let server = setup.serve().await;
    server.client().remember("something").await;
    server.stop().await;
    std::fs::remove_file(setup.database()).expect("removed");
    let found = failed(&setup);
    assert!(
        found[0].0 == "database" && found[0].1.contains("mount its volume"),
        "{found:?}"
    );
}
