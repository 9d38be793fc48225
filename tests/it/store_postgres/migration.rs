//! Migrations of stored data.

use super::*;

/// Databases from before the migration that counts versions already have a history.
#[tokio::test]
async fn earlier_versions_are_counted_by_the_migration() {
    needs!(Postgres);
    let (database, store) = prepared().await;
    let item = note("first");
    self::store(&store, vec![item.clone()]).await.unwrap();
    let patch = Patch {
        content: Some("second".into()),
        ..Patch::default()
    };
    let update = Update {
        id: item.id,
        expected_version: None,
        patch,
        reason: Some("why".into()),
        now: now(),
    };
    store.update(&scope(), update).await.unwrap();
    store.close().await;
    let mut connection = database.connection().await;
    let counted = async |connection: &mut sqlx::PgConnection| {
        let sum = sqlx::query_scalar::<_, i64>("SELECT sum(history_bytes)::bigint FROM usage")
            .fetch_one(connection);
        sum.await.unwrap()
    };
    let expected: i64 =
        sqlx::query_scalar("SELECT (octet_length(old::text) + 3)::bigint FROM history")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(counted(&mut connection).await, expected);
    let before = "DROP TRIGGER history_inserted ON history; DROP TRIGGER history_deleted ON history; \
        DROP FUNCTION history_inserted, history_deleted, history_bytes; DROP INDEX history_time, idempotency_time, \
        idempotency_project_time; ALTER TABLE usage DROP COLUMN history_bytes; \
        DELETE FROM schema_migration WHERE name LIKE '%\\_history'";
    sqlx::raw_sql(before)
        .execute(&mut connection)
        .await
        .unwrap();
    let store = database.store();
    store.prepare().await.unwrap();
    assert_eq!(counted(&mut connection).await, expected);
    store
        .forget(&scope(), &[item.id], ForgetMode::Purge, None, now())
        .await
        .unwrap();
    assert_eq!(counted(&mut connection).await, 0);
    store.close().await;
}

/// Vectors of 32-bit numbers, as in databases before migration 6, are found after it and indexed again.
#[tokio::test]
async fn vectors_stay_when_they_become_halves() {
    needs!(Postgres);
    let database = Database::migrated().await;
    let mut connection = database.connection().await;
    let before = "ALTER TABLE embedding ALTER COLUMN vector TYPE vector USING vector::vector; \
        DELETE FROM schema_migration WHERE version = 6; \
        INSERT INTO project (name) VALUES ('default'); \
        INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, \
            occurred_at, created_at, created_by, updated_at) \
        SELECT p.id, n, gen_random_uuid(), 'note', 'text ' || n, sha256(n::text::bytea), 2, '{}', 0.5, '{}', now(), now(), \
            'test', now() FROM project p, generate_series(1, 3) n; \
        INSERT INTO embedding SELECT m.project_id, m.seq, 'm', 0, 2, m.content_hash, \
            ('[' || cos(m.seq) || ',' || sin(m.seq) || ']')::vector, now() FROM memory m; \
        CREATE INDEX embedding_nearest_2 ON embedding USING hnsw ((vector::vector(2)) vector_cosine_ops) WHERE dimension = 2";
    sqlx::raw_sql(before)
        .execute(&mut connection)
        .await
        .unwrap();

    let store = database.store();
    assert_eq!(store.pending_migrations().await.unwrap(), ["0006_half"]);
    store.prepare().await.unwrap();
    store.prepare_vectors("m", 2).await.unwrap();
    let query = VectorQuery {
        model: "m".to_owned(),
        vector: [2_f32.cos(), 2_f32.sin()].into(),
        filter: Filter::at(Utc::now()),
        limit: 3,
    };
    let hits = store.search_vectors(&scope(), &query).await.unwrap();
    let found: Vec<(i64, f64)> = hits
        .iter()
        .map(|hit| (hit.seq, hit.cosine.unwrap()))
        .collect();
    assert_eq!(
        found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        [2, 3, 1]
    );
    for (seq, cosine) in found {
        assert!(
            (cosine - f64::from(seq as i32 - 2).cos()).abs() < 1e-3,
            "{seq}: {cosine}"
        );
    }
    let index = "SELECT pg_get_indexdef('embedding_nearest_2'::regclass)";
    let made: String = sqlx::query_scalar(index)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(made.contains("halfvec_cosine_ops"), "{made}");
}
