//! Callers and servers that work at the same time.

use super::*;

/// Counts the statements that stored the memories.
async fn statements(database: &Database) -> i64 {
    let counted = sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM memory");
    counted
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn small_stores_at_the_same_time_share_a_statement() {
    needs!(Postgres);
    let (database, postgres) = prepared().await;
    let said = |turn: i64, content: &str| NewMemory {
        kind: Kind::Dialogue,
        session: Some("s".to_owned()),
        turn: Some(turn),
        ..note(content)
    };
    store(&postgres, vec![said(1, "as it was said")])
        .await
        .unwrap();
    let before = statements(&database).await;
    let commands: Vec<Vec<NewMemory>> = (0..30)
        .map(|number| match number {
            10 => vec![note("the same"), note("the same")],
            20 => vec![note("ten"), note("the same"), note("more")],
            _ => vec![note(format!("number {number}"))],
        })
        .collect();
    let answers = join_all(commands.iter().map(|items| store(&postgres, items.clone()))).await;
    assert!(
        statements(&database).await - before <= 4,
        "the first alone, then all that waited meanwhile"
    );
    let answers: Vec<Vec<Remembered>> = answers.into_iter().map(Result::unwrap).collect();
    for (items, answer) in commands.iter().zip(&answers) {
        let own = items
            .iter()
            .map(|item| item.content != "the same")
            .collect::<Vec<_>>();
        assert_eq!(answer.len(), items.len());
        for ((item, answer), own) in items.iter().zip(answer).zip(own) {
            assert!(
                !own || (answer.created && answer.id == item.id),
                "{}: {answer:?}",
                item.content
            );
        }
    }
    let same = [&answers[10][0], &answers[10][1], &answers[20][1]];
    assert!(
        same.iter().all(|answer| answer.id == same[0].id),
        "{same:?}"
    );
    assert_eq!(same.iter().filter(|answer| answer.created).count(), 1);

    // Only the caller with the fault fails, although several share the statement.
    let others: Vec<Vec<NewMemory>> = (0..9)
        .map(|number| match number {
            4 => vec![note("beside it"), said(1, "as it was not said")],
            5 => vec![note("no\0text")],
            _ => vec![note(format!("further {number}"))],
        })
        .collect();
    let answers = join_all(others.iter().map(|items| store(&postgres, items.clone()))).await;
    for (place, answer) in answers.iter().enumerate() {
        match place {
            4 => assert!(
                matches!(answer, Err(StoreError::TurnExists { turn: 1, .. })),
                "{answer:?}"
            ),
            5 => assert!(matches!(answer, Err(StoreError::Invalid(_))), "{answer:?}"),
            _ => assert!(
                answer.as_ref().is_ok_and(|answer| answer[0].created),
                "{answer:?}"
            ),
        }
    }
    assert!(search(&postgres, "beside it").await.unwrap().is_empty());
}

/// The caller that sends the shared statement is cancelled; the work is still done, and only once.
#[tokio::test]
async fn nothing_is_lost_with_a_caller_who_stores_for_others() {
    needs!(Postgres);
    let (database, postgres) = prepared().await;
    store(&postgres, vec![note("at the beginning")])
        .await
        .unwrap();
    let mut locking = database.connection().await;
    let mut lock = locking.begin().await.unwrap();
    lock.execute("LOCK TABLE memory IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut first = Box::pin(store(&postgres, vec![note("river")]));
    let mut second = Box::pin(store(&postgres, vec![note("mountain")]));
    let mut third = Box::pin(store(&postgres, vec![note("valley")]));
    let waiting = async {
        let mut watching = database.connection().await;
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let end = Instant::now() + Duration::from_secs(10);
        // The first, and the second together with the third.
        while sqlx::query_scalar::<_, i64>(blocked)
            .fetch_one(&mut watching)
            .await
            .unwrap()
            < 2
        {
            assert!(Instant::now() < end, "nobody waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        biased;
        _ = &mut first => panic!("it is locked"),
        _ = &mut second => panic!("it is locked"),
        _ = &mut third => panic!("it is locked"),
        () = waiting => {}
    }
    drop(second);
    let release = async { lock.rollback().await.unwrap() };
    let (first, third, ()) = tokio::join!(first, third, release);
    assert!(first.unwrap()[0].created && third.unwrap()[0].created);
    for word in ["river", "valley"] {
        assert_eq!(search(&postgres, word).await.unwrap().len(), 1, "{word}");
    }
}

#[tokio::test]
async fn several_servers_prepare_an_empty_database_at_once() {
    needs!(Postgres);
    let database = Database::empty().await;
    let stores: Vec<Arc<PostgresStore>> = (0..4).map(|_| Arc::new(database.store())).collect();
    assert_eq!(
        stores[0].pending_migrations().await.unwrap()[0],
        "0001_foundation"
    );
    assert!(matches!(
        stores[0].info().await,
        Err(StoreError::Unavailable { .. })
    ));
    let preparing = stores.iter().map(|store| store.prepare());
    for result in futures_util::future::join_all(preparing).await {
        result.unwrap();
    }
    assert!(stores[0].pending_migrations().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_work_side_by_side() {
    needs!(Postgres);
    let (database, one) = prepared().await;
    let two = database.store();
    two.prepare().await.unwrap();
    let servers = [Arc::new(one), Arc::new(two)];
    let tasks = (0..8).map(|task| {
        let store = Arc::clone(&servers[task % 2]);
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for round in 0..25 {
                // All callers store the same three texts, in opposite orders, and one different text each.
                let mut items: Vec<NewMemory> = (0..3)
                    .map(|n| note(format!("shared {round} {n}")))
                    .collect();
                if task % 4 < 2 {
                    items.reverse();
                }
                items.push(note(format!("own {task} {round}")));
                let answer = self::store(&store, items).await.unwrap();
                acknowledged.extend(answer.into_iter().map(|stored| stored.id));
            }
            acknowledged
        })
    });
    let mut acknowledged: Vec<Uuid> = Vec::new();
    for task in futures_util::future::join_all(tasks).await {
        acknowledged.extend(task.unwrap());
    }
    acknowledged.sort_unstable();
    acknowledged.dedup();
    let expected = 25 * 3 + 25 * 8;
    assert_eq!(acknowledged.len(), expected);
    for store in servers {
        assert_eq!(
            store
                .get(&scope(), &acknowledged, false)
                .await
                .unwrap()
                .len(),
            expected
        );
        assert_eq!(
            store.corpus_stats(&scope(), &[]).await.unwrap().documents,
            expected as u64
        );
        assert_eq!(
            store.counts(&scope(), now()).await.unwrap().index_backlog,
            expected as u64
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_answer_one_idempotency_key_alike() {
    needs!(Postgres);
    let (database, one) = prepared().await;
    let two = database.store();
    two.prepare().await.unwrap();
    let old = note("to be replaced");
    self::store(&one, vec![old.clone()]).await.unwrap();
    let key = Some(Idempotency {
        key: "once".into(),
        request_hash: [7; 32],
    });
    let ask = |supersedes: Vec<Uuid>| {
        let item = NewMemory {
            supersedes,
            ..note("stored by one of two")
        };
        Remember {
            items: analyzed(vec![item]),
            idempotency: key.clone(),
            now: now(),
        }
    };
    for supersedes in [Vec::new(), vec![old.id]] {
        let project = Scope::new(
            if supersedes.is_empty() {
                "simple"
            } else {
                "default"
            },
            "test",
        );
        let (first, second) = (ask(supersedes.clone()), ask(supersedes));
        let (first, second) = tokio::join!(
            one.remember(&project, first),
            two.remember(&project, second)
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first[0].id, second[0].id);
        assert_ne!(first[0].created, second[0].created);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_database_is_killed() {
    needs!(OwnPostgres);
    let mut server = Server::start();
    let database = Database::on(server.options.clone(), None).await;
    let store = Arc::new(database.store());
    store.prepare().await.unwrap();
    let running = Arc::new(AtomicBool::new(true));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, running) = (Arc::clone(&store), Arc::clone(&running));
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), 0);
                for n in 0.. {
                    if !running.load(Ordering::Relaxed) {
                        break;
                    }
                    let begin = Instant::now();
                    match self::store(&store, vec![note(format!("writer {writer} memory {n}"))])
                        .await
                    {
                        Ok(answer) => acknowledged.push(answer[0].id),
                        Err(StoreError::Unavailable { .. }) => {
                            refused += 1;
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                    assert!(
                        begin.elapsed() < Duration::from_secs(7),
                        "{:?}",
                        begin.elapsed()
                    );
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let steering = tokio::task::spawn_blocking(move || {
            server.steer("kill");
            std::thread::sleep(Duration::from_millis(200));
            server.steer("start");
            server
        });
        server = steering.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    running.store(false, Ordering::Relaxed);
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for writer in writers {
        let (ids, times) = writer.await.unwrap();
        acknowledged.extend(ids);
        refused += times;
    }
    assert!(
        refused > 0 && acknowledged.len() > 20,
        "{refused} refused, {} stored",
        acknowledged.len()
    );
    for part in acknowledged.chunks(1_000) {
        assert_eq!(
            store.get(&scope(), part, false).await.unwrap().len(),
            part.len()
        );
    }
    let documents = store.corpus_stats(&scope(), &[]).await.unwrap().documents;
    let found = store.counts(&scope(), now()).await.unwrap().by_kind["note"];
    assert!(documents == found && found >= acknowledged.len() as u64);
    drop(database);
}
