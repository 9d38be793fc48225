//! Plans and limits of searches.

use super::*;

/// Otherwise a bulk load would use plans for empty tables until the server analyzes them.
#[tokio::test]
async fn tables_that_have_grown_are_analyzed() {
    needs!(Postgres);
    let (database, postgres) = prepared().await;
    let mut connection = database.connection().await;
    // The server analyzes nothing by itself meanwhile.
    connection
        .execute("ALTER TABLE memory SET (autovacuum_enabled = false)")
        .await
        .unwrap();
    let mut filled = 0;
    for (count, looked_at) in [(300, true), (100, false), (400, true)] {
        let items = (filled..filled + count)
            .map(|number| note(format!("memory {number}")))
            .collect();
        store(&postgres, items).await.unwrap();
        filled += count;
        let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM memory")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(counted, filled);
        // A session reports its changes with a later transaction, or after it was idle for a while.
        let changes = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'memory'";
        let end = Instant::now() + Duration::from_secs(30);
        while sqlx::query_scalar::<_, i64>(changes)
            .fetch_one(&mut connection)
            .await
            .unwrap()
            < filled
        {
            assert!(Instant::now() < end, "the session never told");
            postgres.info().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        postgres.refresh_statistics().await.unwrap();
        let known: f32 =
            sqlx::query_scalar("SELECT reltuples FROM pg_class WHERE oid = 'memory'::regclass")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        assert_eq!(
            known as i64 == filled,
            looked_at,
            "{known} of {filled} are known"
        );
    }
}

#[tokio::test]
async fn another_language_rebuilds_the_index() {
    needs!(Postgres);
    let (database, english) = prepared().await;
    let items: Vec<NewMemory> = (0..450)
        .map(|n| note(format!("running number {n}")))
        .collect();
    let ids: Vec<Uuid> = items.iter().map(|item| item.id).collect();
    for part in items.chunks(200) {
        self::store(&english, part.to_vec()).await.unwrap();
    }
    english
        .forget(&scope(), &ids[..10], ForgetMode::Delete, None, now())
        .await
        .unwrap();
    let plain = database.store_with(2, Language::None);
    plain.prepare().await.unwrap();
    let stats = plain
        .corpus_stats(&scope(), &["run".into(), "running".into()])
        .await
        .unwrap();
    assert_eq!(
        (stats.documents, stats.document_frequencies),
        (440, vec![0, 440])
    );
    let refused = self::store(
        &english,
        vec![note("written by a server of the other language")],
    )
    .await;
    assert!(
        matches!(refused, Err(StoreError::Setup { .. })),
        "{refused:?}"
    );
    let answer = self::store(&plain, vec![note("and of this one")])
        .await
        .unwrap();
    assert!(answer[0].created);
}

/// With many vectors, the nearest come from the index, under row-level security; if a filter leaves few, all of them
/// are found.
#[tokio::test]
async fn the_nearest_of_many_are_found_by_the_index() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let store = database.store();
    store.prepare().await.unwrap();
    assert!(store.working_role().is_some());
    let mut connection = database.connection().await;
    fill_with_vectors(&mut connection).await;
    store.prepare_vectors("m", 8).await.unwrap();
    // The store counts 12,000 memories, which is a large share of all.
    let counted = "INSERT INTO corpus (project_id, shard, documents, total_length) \
        SELECT p.id, 0, 12000, 24000 FROM project p";
    sqlx::raw_sql(counted)
        .execute(&mut connection)
        .await
        .unwrap();
    let exact_store = database.store().with_vector_search(VectorSearch::Exact);
    exact_store.prepare().await.unwrap();

    let search = async |store: &PostgresStore, place: usize, filter: Filter| {
        let vector: Arc<[f32]> = (0..8)
            .map(|n| {
                if n == place % 8 {
                    0.9
                } else {
                    0.1 * place as f32
                }
            })
            .collect();
        let query = VectorQuery {
            model: "m".to_owned(),
            vector,
            filter,
            limit: 10,
        };
        let hits = store.search_vectors(&scope(), &query).await.unwrap();
        hits.iter().map(|hit| hit.seq).collect::<Vec<i64>>()
    };
    let all = || Filter::at(Utc::now());
    let mut alike = 0;
    for place in 0..16 {
        let exact = search(&exact_store, place, all()).await;
        alike += search(&store, place, all())
            .await
            .iter()
            .filter(|seq| exact.contains(seq))
            .count();
    }
    assert!(alike >= 150, "{alike} of 160");
    let important = Filter {
        min_importance: Some(0.8),
        ..all()
    };
    let found = search(&store, 1, important).await;
    assert_eq!(
        found.len(),
        10,
        "all that pass, though the index gave up before: {found:?}"
    );
    let session = Filter {
        session: Some("s7".to_owned()),
        ..all()
    };
    let found = search(&store, 1, session).await;
    assert!(
        found.len() == 10 && found.iter().all(|seq| seq / 20 == 7),
        "{found:?}"
    );

    // The server counts index scans when a session is idle.
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let count =
            "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'embedding_nearest_8'";
        let scans: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if scans >= 16 {
            break;
        }
        assert!(Instant::now() < end, "{scans} scans");
        search(&store, 1, all()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Stores 12,000 memories with vectors.
async fn fill_with_vectors(connection: &mut sqlx::PgConnection) {
    let fill = "SELECT setseed(0.5); INSERT INTO project (name) VALUES ('default'); \
        INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
            occurred_at, created_at, created_by, updated_at, session, turn, turn_claim) \
        SELECT p.id, n, gen_random_uuid(), 'dialogue', 'text ' || n, sha256(n::text::bytea), 2, '{}', \
            CASE WHEN n % 1200 = 0 THEN 0.9 ELSE 0.5 END, '{}', now(), now(), 'test', now(), 's' || n / 20, n % 20, true \
        FROM project p, generate_series(1, 12000) n; \
        INSERT INTO embedding SELECT m.project_id, m.seq, 'm', 0, 8, m.content_hash, (SELECT array_agg(random() - 0.5) \
            FROM generate_series(1, 8 + 0 * m.seq))::real[]::halfvec, now() FROM memory m; ANALYZE";
    sqlx::raw_sql(fill).execute(connection).await.unwrap();
}

/// Finds substitutes for an unknown word without reading the words after it, even under row-level security.
#[tokio::test]
async fn similar_words_are_found_without_reading_all_words() {
    needs!(Postgres);
    const QUESTIONS: i64 = 20;
    let (database, store) = prepared().await;
    assert!(store.working_role().is_some());
    let items = (0..200)
        .map(|n| {
            note(
                (0..20)
                    .map(|m| format!("word{n}x{m} "))
                    .collect::<String>()
                    .trim_end(),
            )
        })
        .collect();
    self::store(&store, items).await.unwrap();
    let terms = ["aardvark".to_owned()];
    for _ in 0..QUESTIONS {
        let lexicon = store
            .lexicon(&scope(), &terms, &list_candidates(&terms))
            .await
            .unwrap();
        assert!(lexicon.matches.is_empty(), "{:?}", lexicon.matches);
    }
    store.close().await;
    let read = read_through(&database, "posting_pkey").await;
    assert!(
        read < 100 * QUESTIONS,
        "{read} of 4,000 postings read by {QUESTIONS} questions"
    );
}

/// A late page costs no more than the first one, even under row-level security.
#[tokio::test]
async fn a_late_page_does_not_read_those_before() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    assert!(store.working_role().is_some());
    let items = (0..500).map(|n| note(format!("note {n}"))).collect();
    self::store(&store, items).await.unwrap();
    let mut connection = database.connection().await;
    sqlx::raw_sql("ANALYZE")
        .execute(&mut connection)
        .await
        .unwrap();
    let late: i64 = sqlx::query_scalar("SELECT min(seq) + 20 FROM memory")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    store.close().await;
    let before = read_through(&database, "memory_pkey").await;
    let reader = database.store();
    reader.prepare().await.unwrap();
    for _ in 0..20 {
        let page = reader
            .browse(&scope(), &Filter::at(now()), Some(late), 5)
            .await
            .unwrap();
        assert_eq!(page.len(), 5);
    }
    reader.close().await;
    let read = read_through(&database, "memory_pkey").await - before;
    assert!(
        (100..1_000).contains(&read),
        "{read} keys read for twenty pages of five among 500"
    );
}

/// Returns the number of index entries read after all sessions ended, because the server counts them then.
async fn read_through(database: &Database, index: &str) -> i64 {
    let mut connection = database.connection().await;
    let others = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let end = Instant::now() + Duration::from_secs(20);
    while sqlx::query_scalar::<_, i64>(others)
        .fetch_one(&mut connection)
        .await
        .unwrap()
        > 0
    {
        assert!(Instant::now() < end, "sessions do not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1";
    sqlx::query_scalar(read)
        .bind(index)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_search_that_takes_too_long_costs_no_connection() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    self::store(&store, vec![note("a walrus")]).await.unwrap();
    let search = async |patience| {
        let query = SimilarQuery {
            terms: vec!["walrus".to_owned()],
            exact: [0; 32],
            budget: u64::MAX,
            filter: Filter::at(now()),
            limit: 10,
            patience: Duration::from_millis(patience),
        };
        store.search_similar(&scope(), &query).await
    };
    assert_eq!(search(3_000).await.unwrap().len(), 1);
    let mut connection = database.connection().await;
    let mut sessions = async || -> Vec<i32> {
        let sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
            AND application_name = 'cognitive-memory-mcp' ORDER BY pid";
        sqlx::query_scalar(sessions)
            .fetch_all(&mut connection)
            .await
            .unwrap()
    };
    let before = sessions().await;
    let mut other = database.connection().await;
    let mut lock = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE posting")
        .execute(&mut *lock)
        .await
        .unwrap();
    let begin = Instant::now();
    let refused = search(100).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    lock.rollback().await.unwrap();
    assert_eq!(
        search(3_000).await.unwrap().len(),
        1,
        "the limit ended with its transaction"
    );
    assert_eq!(sessions().await, before);
}
