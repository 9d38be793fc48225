//! Row security of PostgreSQL.

use cognitive_memory_mcp::store::postgres::PostgresStore;

use super::*;

async fn run(connection: &mut PgConnection, sql: String) -> sqlx::Result<u64> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?
        .rows_affected())
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn postgres_itself_keeps_projects_apart() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store().with_row_security(RowSecurity::On);
    store.prepare().await.unwrap();
    let role = store
        .working_role()
        .expect("row-level security is in force");
    for project in ["a", "b"] {
        for number in 0..3 {
            let item = NewMemory {
                tags: vec!["tag".into()],
                ..note(&format!("{project} {number}"))
            };
            store_one(&store, &Scope::new(project, "tester"), item).await;
        }
    }
    let mut connection = database.connection().await;
    let tables = list_secured_tables(&mut connection, &role).await;
    assert_eq!(count(&mut connection, "memory").await, 6);

    run(&mut connection, format!("SET ROLE \"{role}\""))
        .await
        .unwrap();
    for (table, secured) in &tables {
        assert!(secured, "{table} has no row-level security");
        assert_eq!(
            count(&mut connection, table).await,
            0,
            "{table} shows rows to a session that was told nothing"
        );
    }
    run(
        &mut connection,
        "SET memory.projects = '{a}'; SET memory.project = 'a'".to_owned(),
    )
    .await
    .unwrap();
    for (table, rows) in [
        ("memory", 3),
        ("project", 1),
        ("posting", 6),
        ("index_job", 3),
    ] {
        assert_eq!(count(&mut connection, table).await, rows, "{table}");
    }
    let tagged: Vec<i64> = sqlx::query_scalar("SELECT memory_tagged('{tag}')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(tagged.len(), 3);
    check_writes_of_one_project(&mut connection, &role).await;
}

/// Checks that reading another project does not allow changing it.
async fn check_writes_of_one_project(connection: &mut PgConnection, role: &str) {
    run(connection, "SET memory.projects = '{a,b}'".to_owned())
        .await
        .unwrap();
    assert_eq!(count(connection, "memory").await, 6);
    assert_eq!(
        run(connection, "UPDATE memory SET importance = 1".to_owned())
            .await
            .unwrap(),
        3
    );
    let foreign = "INSERT INTO index_job (project_id, memory_seq) \
        SELECT project_id, -1 FROM memory WHERE content = 'b 0'";
    let refused = run(connection, foreign.to_owned()).await.unwrap_err();
    assert_eq!(
        refused
            .as_database_error()
            .and_then(|error| error.code())
            .as_deref(),
        Some("42501"),
        "{refused}"
    );
    assert_eq!(
        run(connection, "DELETE FROM memory".to_owned())
            .await
            .unwrap(),
        3
    );
    run(connection, "RESET ROLE".to_owned()).await.unwrap();
    assert_eq!(count(connection, "memory").await, 3);
    // The role cannot access tokens except by reading their hashes.
    run(connection, format!("SET ROLE \"{role}\""))
        .await
        .unwrap();
    assert!(
        run(connection, "DELETE FROM token".to_owned())
            .await
            .is_err()
    );
}

/// Tables with rows of projects, and whether row security is on. The role owns none of them.
async fn list_secured_tables(connection: &mut PgConnection, role: &str) -> Vec<(String, bool)> {
    let tables: Vec<(String, bool)> = sqlx::query(
        "SELECT c.relname::text AS name, c.relrowsecurity AS secured FROM pg_class c \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND (c.relname = 'project' OR EXISTS \
            (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id')) ORDER BY 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap()
    .iter()
    .map(|row| (row.get("name"), row.get("secured")))
    .collect();
    assert!(tables.len() > 10, "{tables:?}");
    let owned: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = $1",
    )
    .bind(role)
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert_eq!(owned, 0, "who owns a table is not held by its policies");
    assert_eq!(count(&mut *connection, "memory").await, 6);
    tables
}

/// Checks the isolation of entities, relations, mentions, working memory and reviews.
#[tokio::test]
async fn postgres_itself_keeps_graph_focus_and_reviews_apart() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store().with_row_security(RowSecurity::On);
    store.prepare().await.unwrap();
    let role = store.working_role().unwrap();
    for project in ["a", "b"] {
        store_everything(&store, project).await;
    }
    let mut connection = database.connection().await;
    let rows = [
        ("entity", 2),
        ("relation", 1),
        ("mention", 2),
        ("focus", 1),
        ("focus_archive", 1),
        ("review", 1),
    ];
    for (table, each) in rows {
        assert_eq!(count(&mut connection, table).await, 2 * each, "{table}");
    }
    run(&mut connection, format!("SET ROLE \"{role}\""))
        .await
        .unwrap();
    for (table, _) in rows {
        assert_eq!(count(&mut connection, table).await, 0, "{table}");
    }
    run(
        &mut connection,
        "SET memory.projects = '{a,b}'; SET memory.project = 'a'".to_owned(),
    )
    .await
    .unwrap();
    for (table, each) in rows {
        assert_eq!(count(&mut connection, table).await, 2 * each, "{table}");
    }
    // Dependent rows are deleted with the row that they refer to.
    for table in [
        "mention",
        "relation",
        "entity",
        "focus",
        "focus_archive",
        "review",
    ] {
        let each = rows.iter().find(|row| row.0 == table).unwrap().1;
        let deleted = run(&mut connection, format!("DELETE FROM {table}"))
            .await
            .unwrap();
        assert_eq!(deleted, each.unsigned_abs(), "{table}");
        assert_eq!(count(&mut connection, table).await, each, "{table}");
    }
}

/// Stores a memory, a relation, items of working memory and a review.
async fn store_everything(store: &PostgresStore, project: &str) {
    let scope = Scope::new(project, "tester");
    let relation = NewRelation {
        from: "Ada".into(),
        to: "Grace".into(),
        kind: Some("knows".into()),
        weight: None,
        properties: serde_json::Map::new(),
        valid_from: None,
        valid_to: None,
        never_ends: false,
        unlink: None,
    };
    let links = Links {
        entities: Vec::new(),
        relations: vec![relation],
    };
    let id = store_one(
        store,
        &scope,
        NewMemory {
            links,
            ..note("they met")
        },
    )
    .await;
    let focus = |second| NewFocus {
        id: new_id(),
        content: format!("item {second}"),
        importance: 0.5,
        now: at(second),
    };
    store.focus_add(&scope, "s", focus(1), 1).await.unwrap();
    store.focus_add(&scope, "s", focus(2), 1).await.unwrap();
    let review = NewReview {
        id: new_id(),
        memory: id,
        proposal: Proposal::Delete,
        reason: None,
        now: at(1),
        expires_at: at(100),
    };
    store.propose(&scope, &[review]).await.unwrap();
}

#[tokio::test]
async fn rights_that_a_restored_dump_lacks_are_given_again() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store().with_row_security(RowSecurity::On);
    store.prepare().await.unwrap();
    let role = store.working_role().unwrap();
    store.close().await;
    let mut connection = database.connection().await;
    run(
        &mut connection,
        format!("REVOKE ALL ON memory, token FROM \"{role}\""),
    )
    .await
    .unwrap();
    let again = database.store().with_row_security(RowSecurity::On);
    again.prepare().await.unwrap();
    assert_eq!(again.working_role(), Some(role));
    store_one(&again, &Scope::new("a", "tester"), note("after")).await;
    assert!(again.tokens().await.unwrap().is_empty());
}

/// A statement without its condition shows only the rows of the scope.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_change_hands_without_mixing_projects() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store_with(2, cognitive_memory_mcp::domain::Language::English);
    store.prepare().await.unwrap();
    let store = Arc::new(store);
    let tasks = (0..8).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let own = Scope::new(format!("p{}", number % 4), "tester");
            for round in 0..20 {
                store_one(
                    &*store,
                    &own,
                    note(&format!("p{} {number} {round}", number % 4)),
                )
                .await;
                let seen = store
                    .browse(&own, &Filter::at(at(1)), None, 100)
                    .await
                    .unwrap();
                assert!(seen.iter().all(|memory| memory.project == own.project()));
                assert!(!seen.is_empty());
                store.info().await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let all = Scope::new("reader", "tester").reading((0..4).map(|number| format!("p{number}")));
    assert_eq!(
        store
            .browse(&all, &Filter::at(at(1)), None, 1_000)
            .await
            .unwrap()
            .len(),
        160
    );
}

#[tokio::test]
async fn without_row_security_everything_works_as_the_owner() {
    needs!(Postgres);
    let database = Database::empty().await;
    let store = database.store().with_row_security(RowSecurity::Off);
    store.prepare().await.unwrap();
    assert_eq!(store.working_role(), None);
    let scope = Scope::new("a", "tester");
    let item = NewMemory {
        tags: vec!["tag".into()],
        ..note("plain")
    };
    store_one(&store, &scope, item).await;
    let tagged = Filter {
        tags: vec!["tag".into()],
        ..Filter::at(at(1))
    };
    assert_eq!(
        store.browse(&scope, &tagged, None, 10).await.unwrap().len(),
        1
    );
}

/// An owner of a database on a managed server is not a superuser, and may even lack the right to create roles.
#[tokio::test]
async fn a_plain_owner_gets_row_security_when_the_role_is_there() {
    needs!(Postgres);
    let database = Database::empty().await;
    let mut admin = database.connection().await;
    let owner = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let name = database.options().get_database().unwrap().to_owned();
    run(
        &mut admin,
        format!("CREATE EXTENSION vector; CREATE ROLE {owner} LOGIN PASSWORD 'secret'"),
    )
    .await
    .unwrap();
    run(
        &mut admin,
        format!("ALTER DATABASE {name} OWNER TO {owner}; GRANT ALL ON SCHEMA public TO {owner}"),
    )
    .await
    .unwrap();
    let options = database.options().username(&owner).password("secret");
    let make = |row_security| {
        PostgresStore::new(options.clone(), 2, analyzer()).with_row_security(row_security)
    };
    let insisting = make(RowSecurity::On);
    let error = insisting.prepare().await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("CREATE ROLE \"{owner}_app\" NOLOGIN")),
        "{error}"
    );
    let without = make(RowSecurity::Auto);
    without.prepare().await.unwrap();
    assert_eq!(without.working_role(), None);
    store_one(&without, &Scope::new("a", "tester"), note("before")).await;

    run(
        &mut admin,
        format!("CREATE ROLE {owner}_app NOLOGIN; GRANT {owner}_app TO {owner}"),
    )
    .await
    .unwrap();
    insisting.prepare().await.unwrap();
    assert_eq!(insisting.working_role(), Some(format!("{owner}_app")));
    let scope = Scope::new("a", "tester");
    store_one(&insisting, &scope, note("after")).await;
    assert_eq!(
        insisting
            .browse(&scope, &Filter::at(at(1)), None, 10)
            .await
            .unwrap()
            .len(),
        2
    );
    insisting.close().await;
    without.close().await;
    let tidy = format!(
        "REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}, {owner}_app; DROP ROLE {owner}_app, {owner}"
    );
    run(&mut admin, tidy).await.unwrap();
}

/// Managed servers install extensions in a separate schema, whose use must be granted.
#[tokio::test]
async fn row_security_reaches_pgvector_in_another_schema() {
    needs!(Postgres);
    let database = Database::empty().await;
    let mut admin = database.connection().await;
    run(
        &mut admin,
        "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions".to_owned(),
    )
    .await
    .unwrap();
    let owner = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let name = database.options().get_database().unwrap().to_owned();
    let make = format!(
        "CREATE ROLE {owner} LOGIN PASSWORD 'secret'; CREATE ROLE {owner}_app NOLOGIN; GRANT {owner}_app TO {owner}; \
         ALTER DATABASE {name} OWNER TO {owner}; GRANT ALL ON SCHEMA public TO {owner}; \
         GRANT USAGE ON SCHEMA extensions TO {owner}"
    );
    run(&mut admin, make).await.unwrap();
    let options = database.options().username(&owner).password("secret");
    let plain = PostgresStore::new(options, 2, analyzer()).with_row_security(RowSecurity::On);
    let error = plain.prepare().await.unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "GRANT USAGE ON SCHEMA \"extensions\" TO \"{owner}_app\""
        )),
        "{error}"
    );

    // An owner who may grant the right does so without being asked.
    for way in [VectorSearch::Exact, VectorSearch::Index] {
        let store = database
            .store()
            .with_row_security(RowSecurity::On)
            .with_vector_search(way);
        store.prepare().await.unwrap();
        search_by_meaning(&store, &format!("found by {way:?} search")).await;
        store.close().await;
    }
    plain.close().await;
    let tidy = format!(
        "REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}, {owner}_app; DROP ROLE {owner}_app, {owner}"
    );
    run(&mut admin, tidy).await.unwrap();
}

async fn search_by_meaning(store: &dyn Store, text: &str) {
    let scope = Scope::new("a", "tester");
    let id = store_one(store, &scope, note(text)).await;
    let jobs = store.claim_index_jobs(10, at(1)).await.unwrap();
    let embedded: Vec<Embedded> = jobs
        .iter()
        .map(|job| Embedded {
            key: job.key,
            version: job.version,
            first_passage: 0,
            vectors: vec![vec![0.6, 0.8]],
        })
        .collect();
    assert_eq!(store.save_vectors("m", &embedded, at(1)).await.unwrap(), 1);
    store.prepare_vectors("m", 2).await.unwrap();
    let query = VectorQuery {
        model: "m".to_owned(),
        vector: [1.0, 0.0].into(),
        filter: Filter::at(at(1)),
        limit: 5,
    };
    let hits = store.search_vectors(&scope, &query).await.unwrap();
    assert!((hits[0].cosine.unwrap() - 0.6).abs() < 1e-3 && hits[0].id == id);
}
