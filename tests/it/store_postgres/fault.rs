//! Servers that are away, refuse or are damaged.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_silent_or_away_is_named_in_time() {
    needs!(OwnPostgres);
    let mut server = Server::start();
    let database = Database::on(server.options.clone(), None).await;
    let store = database.store();
    store.prepare().await.unwrap();
    self::store(&store, vec![note("before")]).await.unwrap();
    for (away, back) in [("freeze", "thaw"), ("stop", "start")] {
        server.steer(away);
        for _ in 0..2 {
            let begin = Instant::now();
            let written = self::store(&store, vec![note(format!("while {away}"))]).await;
            let read = store.browse(&scope(), &Filter::at(now()), None, 1).await;
            for refused in [written.map(|_| ()), read.map(|_| ())] {
                let text = refused.as_ref().unwrap_err().to_string();
                assert!(
                    matches!(refused, Err(StoreError::Unavailable { .. })),
                    "{text}"
                );
                assert!(!text.contains("postgres:"), "{text}");
            }
            assert!(
                begin.elapsed() < Duration::from_secs(13),
                "{:?}",
                begin.elapsed()
            );
        }
        server.steer(back);
        self::store(&store, vec![note(format!("after {back}"))])
            .await
            .unwrap();
        assert!(
            !store
                .browse(&scope(), &Filter::at(now()), None, 1)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

/// Tools still read, but the service is not ready, because it cannot do its main task.
#[tokio::test]
async fn a_server_that_accepts_no_writes_is_not_ready() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let name = database.options().get_database().unwrap().to_owned();
    let mut connection = database.connection().await;
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    connection
        .execute(AssertSqlSafe(set).into_sql_str())
        .await
        .unwrap();
    let says = |error: &StoreError| {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("accepts no writes"), "{error}");
    };
    says(&database.store().prepare().await.unwrap_err());
    // Existing sessions keep their settings; a failed write ends them.
    store.close().await;
    let later = database.store();
    says(&later.prepare().await.unwrap_err());
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    let mut writing = database.connection().await;
    sqlx::raw_sql("SET default_transaction_read_only = off")
        .execute(&mut writing)
        .await
        .unwrap();
    writing
        .execute(AssertSqlSafe(reset).into_sql_str())
        .await
        .unwrap();
    later.prepare().await.unwrap();
    assert!(self::store(&later, vec![note("written")]).await.unwrap()[0].created);
}

async fn expect_setup_error(options: PgConnectOptions, words: &str) {
    let error = open_store(options).prepare().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Setup { .. }) && error.to_string().contains(words),
        "{error}"
    );
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
}

fn open_store(options: PgConnectOptions) -> PostgresStore {
    PostgresStore::new(options, 2, Arc::new(Analyzer::new(Language::English)))
}

#[tokio::test]
async fn setup_errors_name_the_next_step() {
    needs!(Postgres);
    let database = Database::migrated().await;
    expect_setup_error(
        database.options().password("wrong-secret"),
        "MEMORY_DATABASE_PASSWORD",
    )
    .await;
    expect_setup_error(
        database.options().database("no_such_database"),
        "CREATE DATABASE \"no_such_database\"",
    )
    .await;
    let nobody = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(1)
        .password("wrong-secret");
    let error = open_store(nobody).prepare().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { .. })
            && error.to_string().contains("127.0.0.1:1"),
        "{error}"
    );

    let mut connection = database.connection().await;
    let newer = "INSERT INTO schema_migration VALUES (9999, 'future', '')";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    expect_setup_error(database.options(), "upgrade the program").await;
    sqlx::query("DELETE FROM schema_migration WHERE version = 9999")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("UPDATE schema_migration SET checksum = ''")
        .execute(&mut connection)
        .await
        .unwrap();
    expect_setup_error(database.options(), "in another form").await;
}

#[tokio::test]
async fn setup_errors_name_missing_rights() {
    needs!(Postgres);
    let empty = Database::empty().await;
    let mut connection = empty.connection().await;
    let role = format!("role_{}", Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'wrong-secret'");
    connection
        .execute(AssertSqlSafe(create).into_sql_str())
        .await
        .unwrap();
    let options = || empty.options().username(&role).password("wrong-secret");
    expect_setup_error(options(), "GRANT CREATE, USAGE ON SCHEMA").await;
    let grant = format!("GRANT CREATE, USAGE ON SCHEMA public TO {role}");
    connection
        .execute(AssertSqlSafe(grant).into_sql_str())
        .await
        .unwrap();
    expect_setup_error(options(), "CREATE EXTENSION vector").await;
    // A grant is advised only if it helps.
    let grant = format!(
        "GRANT CREATE ON DATABASE \"{}\" TO \"{role}\"",
        options().get_database().unwrap()
    );
    let refused = open_store(options())
        .prepare()
        .await
        .unwrap_err()
        .to_string();
    let trusted: bool = sqlx::query_scalar(
        "SELECT trusted FROM pg_available_extension_versions JOIN pg_available_extensions USING (name) \
         WHERE name = 'vector' AND version = default_version",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(refused.contains(&grant), trusted, "{refused}");
    if trusted {
        connection
            .execute(AssertSqlSafe(grant).into_sql_str())
            .await
            .unwrap();
        let helped = open_store(options());
        helped.prepare().await.unwrap();
        helped.close().await;
        let owned =
            format!("DROP OWNED BY {role} CASCADE; GRANT CREATE, USAGE ON SCHEMA public TO {role}");
        sqlx::raw_sql(AssertSqlSafe(owned))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection
        .execute("CREATE EXTENSION IF NOT EXISTS vector")
        .await
        .unwrap();
    // With the extension installed, no more rights are needed.
    let store = open_store(options());
    store.prepare().await.unwrap();
    assert!(
        self::store(&store, vec![note("by an ordinary role")])
            .await
            .unwrap()[0]
            .created
    );
    store.close().await;
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deep_check_finds_what_the_indexes_lack_and_what_they_have_too_much() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    for content in ["walrus and zeppelin", "rhubarb"] {
        let command = Remember {
            items: analyzed(vec![note(content)]),
            idempotency: None,
            now: now(),
        };
        store.remember(&scope(), command).await.unwrap();
    }
    assert_eq!(store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(), []);
    let mut connection = database.connection().await;
    let damages = [
        "DELETE FROM posting WHERE term = 'walrus'",
        "INSERT INTO posting SELECT project_id, 'quagmire', memory_seq, 1, length FROM posting WHERE term = 'rhubarb'",
        "UPDATE posting SET frequency = frequency + 1 WHERE term = 'rhubarb'",
        "INSERT INTO posting SELECT project_id, term, memory_seq + 1000, frequency, length FROM posting",
    ];
    for damage in damages {
        sqlx::raw_sql(damage)
            .execute(&mut connection)
            .await
            .unwrap();
        let findings = store.inspect_deeply(Pace::FULL_SPEED).await.unwrap();
        assert_eq!(
            findings
                .iter()
                .map(|finding| finding.subject)
                .collect::<Vec<_>>(),
            [Subject::WordIndex],
            "{damage}"
        );
        store.request_index_rebuild().await.unwrap();
        store.prepare().await.unwrap();
        assert_eq!(
            store.inspect_deeply(Pace::FULL_SPEED).await.unwrap(),
            [],
            "{damage}"
        );
    }
    sqlx::raw_sql("DELETE FROM index_job")
        .execute(&mut connection)
        .await
        .unwrap();
    let findings = store.inspect_deeply(Pace::FULL_SPEED).await.unwrap();
    assert_eq!(findings[0].subject, Subject::Vectors, "{findings:?}");
    store.close().await;
}

#[tokio::test]
async fn a_deep_check_reads_the_pages_of_indexes_with_amcheck() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let items = ["one", "two", "three"].map(note).to_vec();
    store
        .remember(
            &scope(),
            Remember {
                items: analyzed(items),
                idempotency: None,
                now: now(),
            },
        )
        .await
        .unwrap();
    let mut owner = database.connection().await;
    let unchecked =
        async |store: &PostgresStore, words: &str| match store.inspect_index_pages().await.unwrap()
        {
            IndexPages::Unchecked(reason) => assert!(reason.contains(words), "{reason}"),
            checked => panic!("{checked:?}"),
        };
    unchecked(&store, "CREATE EXTENSION amcheck").await;
    // In a separate schema that is not on the search path.
    let install = "CREATE SCHEMA \"Tools\"; CREATE EXTENSION amcheck SCHEMA \"Tools\"";
    sqlx::raw_sql(install).execute(&mut owner).await.unwrap();
    assert_eq!(
        store.inspect_index_pages().await.unwrap(),
        IndexPages::Checked(Vec::new())
    );
    // An index whose order changed, as after an upgrade of the collation library.
    let damage = "CREATE FUNCTION fickle(bigint, bigint) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint8cmp($1, $2)'; \
        CREATE OPERATOR CLASS fickle_ops FOR TYPE bigint USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, \
        OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 fickle(bigint, bigint); \
        CREATE INDEX memory_fickle ON memory (seq fickle_ops); \
        CREATE OR REPLACE FUNCTION fickle(bigint, bigint) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint8cmp($2, $1)'";
    sqlx::raw_sql(damage).execute(&mut owner).await.unwrap();
    let IndexPages::Checked(findings) = store.inspect_index_pages().await.unwrap() else {
        panic!("not checked")
    };
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0]
            .remedy
            .contains("REINDEX INDEX CONCURRENTLY memory_fickle"),
        "{findings:?}"
    );
    // A role without the right to use it.
    let role = format!("reader_{}", Uuid::new_v4().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(grants))
        .execute(&mut owner)
        .await
        .unwrap();
    let options = database.options().username(&role).password("x");
    let restricted = PostgresStore::new(options, 1, analyzer());
    unchecked(
        &restricted,
        &format!("GRANT EXECUTE ON FUNCTION \"Tools\".bt_index_check(regclass) TO {role}"),
    )
    .await;
    restricted.close().await;
    store.close().await;
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut owner)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_write_that_the_server_refuses_is_remembered_until_one_succeeds() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let mut owner = database.connection().await;
    sqlx::raw_sql("SET default_transaction_read_only = off")
        .execute(&mut owner)
        .await
        .unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    let set = |value: &str| {
        AssertSqlSafe(format!(
            "ALTER DATABASE \"{name}\" SET default_transaction_read_only = {value}"
        ))
    };
    sqlx::raw_sql(set("on")).execute(&mut owner).await.unwrap();
    // Sessions keep their initial settings.
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::raw_sql(others).execute(&mut owner).await.unwrap();
    let failure = store.write_failure();
    let command = || Remember {
        items: analyzed(vec![note("walrus")]),
        idempotency: None,
        now: now(),
    };
    assert!(matches!(
        store.remember(&scope(), command()).await,
        Err(StoreError::Unavailable { .. })
    ));
    let reason = failure.borrow().clone().expect("a failure").reason;
    assert!(reason.contains("accepts no writes"), "{reason}");
    assert!(store.probe_write().await.is_err());
    sqlx::raw_sql(set("off")).execute(&mut owner).await.unwrap();
    store.probe_write().await.unwrap();
    assert_eq!(*failure.borrow(), None);
    store.remember(&scope(), command()).await.unwrap();
    store.close().await;
}

/// Inserting a vector into a large index takes long. One statement for all vectors of a batch would exceed the limits
/// of ordinary statements and never succeed.
#[tokio::test]
async fn vectors_are_saved_into_a_slow_index() {
    needs!(Postgres);
    let (database, postgres) = prepared().await;
    database
        .connection()
        .await
        .execute(
            "CREATE FUNCTION wait_a_little() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.015); RETURN NEW; END $$; \
             CREATE TRIGGER slow BEFORE INSERT ON embedding FOR EACH ROW EXECUTE FUNCTION wait_a_little()",
        )
        .await
        .unwrap();
    let items = (0..4)
        .map(|number| note(format!("memory {number}")))
        .collect();
    store(&postgres, items).await.unwrap();
    let jobs = postgres.claim_index_jobs(10, now()).await.unwrap();
    let embedded: Vec<Embedded> = jobs
        .iter()
        .map(|job| Embedded {
            key: job.key,
            version: job.version,
            first_passage: 0,
            vectors: vec![vec![0.6, 0.8]; 100],
        })
        .collect();
    let saved = postgres.save_vectors("m", &embedded, now()).await;
    assert_eq!(saved.unwrap(), 4);
    assert_eq!(postgres.index_backlog().await.unwrap(), 0);
}
