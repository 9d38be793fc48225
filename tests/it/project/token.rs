//! Tokens in the database.

use super::*;

fn token(name: &str, secret: u8) -> StoredToken {
    StoredToken {
        token: Token {
            name: name.to_owned(),
            project: "work".to_owned(),
            reads: vec!["shared".to_owned(), "team".to_owned()],
            prefix: format!("cmm_{secret:06}"),
            created_at: at(0),
            expires_at: Some(at(100)),
            revoked_at: None,
        },
        sha256: [secret; 32],
    }
}

async fn tokens_live_and_end(store: &dyn Store) {
    assert!(store.tokens().await.unwrap().is_empty());
    let laptop = token("laptop", 1);
    store.create_token(&laptop).await.unwrap();
    store.create_token(&token("desktop", 2)).await.unwrap();
    assert_eq!(
        store.tokens().await.unwrap(),
        [token("desktop", 2), laptop.clone()]
    );
    let again = store.create_token(&token("laptop", 3)).await.unwrap_err();
    assert!(matches!(again, StoreError::TokenExists { name } if name == "laptop"));

    let renewed = store
        .rotate_token("laptop", [4; 32], "cmm_fourth", at(5))
        .await
        .unwrap();
    assert_eq!(
        (
            renewed.prefix.as_str(),
            renewed.created_at,
            renewed.reads.len()
        ),
        ("cmm_fourth", at(5), 2)
    );
    assert_eq!(store.tokens().await.unwrap()[1].sha256, [4; 32]);

    let revoked = store.revoke_token("laptop", at(6)).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(at(6)));
    assert_eq!(
        store
            .revoke_token("laptop", at(7))
            .await
            .unwrap()
            .revoked_at,
        Some(at(6)),
        "once is enough"
    );
    for error in [
        store
            .rotate_token("laptop", [5; 32], "cmm_fifth", at(8))
            .await
            .unwrap_err(),
        store
            .rotate_token("nobody", [5; 32], "cmm_fifth", at(8))
            .await
            .unwrap_err(),
        store.revoke_token("nobody", at(8)).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::TokenUnknown { .. }), "{error}");
    }
    // The name is available again.
    store.create_token(&token("laptop", 9)).await.unwrap();
    assert_eq!(store.tokens().await.unwrap()[1], token("laptop", 9));
}

#[tokio::test]
async fn tokens_live_and_end_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    tokens_live_and_end(&*sqlite(folder.path(), Limits::default()).await).await;
}

#[tokio::test]
async fn tokens_live_and_end_in_postgres() {
    needs!(Postgres);
    let database = Database::migrated().await;
    tokens_live_and_end(&*postgres(&database, Limits::default()).await).await;
}
