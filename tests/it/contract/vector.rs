//! Vectors: waiting memories get them, stale ones are never kept, and a search finds the same as plain
//! arithmetic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use cognitive_memory_mcp::domain::{AsOf, Filter, Hit, Kind, Memory, NewMemory, Patch, Scope};
use cognitive_memory_mcp::store::{
    Embedded, ForgetMode, IndexJob, MemoryKey, Store, Update, VectorQuery,
};
use uuid::Uuid;

use super::{at, episode, forget, note, remember, scope, store_one, turn};

const MODEL: &str = "test/model";

/// Returns a direction that is derived from the text.
pub(crate) fn direction(text: &str) -> Vec<f32> {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 2_000) as f32 / 1_000.0 - 1.0
    };
    let vector: Vec<f32> = (0..8).map(|_| next()).collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

/// Embeds all waiting memories.
async fn embed_all(store: &dyn Store, model: &str) {
    loop {
        let jobs = store.claim_index_jobs(50, at(100)).await.unwrap();
        if jobs.is_empty() {
            return;
        }
        let embedded: Vec<Embedded> = jobs.iter().map(embedded).collect();
        assert_eq!(
            store.save_vectors(model, &embedded, at(100)).await.unwrap(),
            jobs.len() as u64
        );
    }
}

fn embedded(job: &IndexJob) -> Embedded {
    Embedded {
        key: job.key,
        version: job.version,
        first_passage: 0,
        vectors: vec![direction(&job.text)],
    }
}

fn query(text: &str, limit: usize) -> VectorQuery {
    VectorQuery {
        model: MODEL.to_owned(),
        vector: Arc::from(direction(text)),
        filter: Filter::at(at(10)),
        limit,
    }
}

async fn near(store: &dyn Store, scope: &Scope, text: &str) -> Vec<Hit> {
    store.search_vectors(scope, &query(text, 10)).await.unwrap()
}

async fn ids(store: &dyn Store, scope: &Scope, text: &str) -> Vec<Uuid> {
    near(store, scope, text)
        .await
        .into_iter()
        .map(|hit| hit.id)
        .collect()
}

pub(crate) async fn who_waits_gets_vectors(store: Arc<dyn Store>) {
    let scope = scope();
    store.prepare_vectors(MODEL, 8).await.unwrap();
    let first = store_one(&*store, &scope, note("the first")).await;
    store_one(
        &*store,
        &scope,
        NewMemory {
            speaker: Some("Ada".into()),
            ..turn("s", 1, "the second")
        },
    )
    .await;
    store_one(
        &*store,
        &scope,
        episode("the third", "a situation", "a lesson"),
    )
    .await;
    assert!(near(&*store, &scope, "the first").await.is_empty());
    assert_eq!(store.index_backlog().await.unwrap(), 3);
    let jobs = store.claim_index_jobs(2, at(100)).await.unwrap();
    let texts: Vec<&str> = jobs.iter().map(|job| job.text.as_str()).collect();
    assert_eq!(
        texts,
        ["the third\na situation\na lesson", "the second"],
        "the newest first"
    );
    let two: Vec<Embedded> = jobs.iter().map(embedded).collect();
    assert_eq!(store.save_vectors(MODEL, &two, at(100)).await.unwrap(), 2);
    assert_eq!(store.index_backlog().await.unwrap(), 1);
    assert_eq!(
        store.counts(&scope, at(100)).await.unwrap().index_backlog,
        1
    );
    embed_all(&*store, MODEL).await;
    assert_eq!(store.index_backlog().await.unwrap(), 0);
    let hits = near(&*store, &scope, "the first").await;
    assert_eq!((hits.len(), hits[0].id), (3, first));
    assert!((hits[0].cosine.unwrap() - 1.0).abs() < 1e-6, "{hits:?}");
    assert!(
        near(&*store, &super::scope(), "the first").await.is_empty(),
        "another project"
    );
    let other = VectorQuery {
        model: "another".to_owned(),
        ..query("the first", 10)
    };
    assert!(
        store
            .search_vectors(&scope, &other)
            .await
            .unwrap()
            .is_empty(),
        "another model"
    );
}

pub(crate) async fn stale_vectors_are_not_kept(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("as it was")).await;
    let jobs = store.claim_index_jobs(10, at(1)).await.unwrap();
    let patch = |text: &str| Update {
        id,
        expected_version: None,
        patch: Patch {
            content: Some(text.to_owned()),
            ..Patch::default()
        },
        reason: None,
        now: at(2),
    };
    store.update(&scope, patch("as it is")).await.unwrap();
    let stale: Vec<Embedded> = jobs.iter().map(embedded).collect();
    assert_eq!(store.save_vectors(MODEL, &stale, at(3)).await.unwrap(), 0);
    assert!(near(&*store, &scope, "as it was").await.is_empty());
    let jobs = store.claim_index_jobs(10, at(4)).await.unwrap();
    assert_eq!(
        jobs.iter().map(|job| job.text.as_str()).collect::<Vec<_>>(),
        ["as it is"],
        "queued anew"
    );
    let fresh: Vec<Embedded> = jobs.iter().map(embedded).collect();
    assert_eq!(store.save_vectors(MODEL, &fresh, at(5)).await.unwrap(), 1);
    assert_eq!(ids(&*store, &scope, "as it is").await, [id]);
    // The text changed, so the old vector is removed at once.
    store
        .update(&scope, patch("quite different"))
        .await
        .unwrap();
    assert!(near(&*store, &scope, "as it is").await.is_empty());
    assert_eq!(store.index_backlog().await.unwrap(), 1);
    // Changes of other fields keep the vector.
    embed_all(&*store, MODEL).await;
    let tags = Patch {
        tags: Some(vec!["t".to_owned()]),
        ..Patch::default()
    };
    store
        .update(
            &scope,
            Update {
                patch: tags,
                ..patch("")
            },
        )
        .await
        .unwrap();
    assert_eq!(ids(&*store, &scope, "quite different").await, [id]);
}

pub(crate) async fn forgotten_memories_have_no_nearness(store: Arc<dyn Store>) {
    let scope = scope();
    let (a, b) = (
        store_one(&*store, &scope, note("one")).await,
        store_one(&*store, &scope, note("two")).await,
    );
    let jobs = store.claim_index_jobs(10, at(1)).await.unwrap();
    forget(&*store, &scope, b, ForgetMode::Delete).await;
    let both: Vec<Embedded> = jobs.iter().map(embedded).collect();
    assert_eq!(
        store.save_vectors(MODEL, &both, at(2)).await.unwrap(),
        1,
        "nothing for the deleted one"
    );
    assert_eq!(ids(&*store, &scope, "two").await, [a]);
    forget(&*store, &scope, b, ForgetMode::Restore).await;
    embed_all(&*store, MODEL).await;
    assert_eq!(ids(&*store, &scope, "two").await, [b, a]);
    forget(&*store, &scope, a, ForgetMode::Delete).await;
    assert_eq!(ids(&*store, &scope, "one").await, [b]);
    forget(&*store, &scope, a, ForgetMode::Purge).await;
    forget(&*store, &scope, b, ForgetMode::Purge).await;
    assert!(near(&*store, &scope, "one").await.is_empty());
    assert_eq!(store.index_backlog().await.unwrap(), 0);
}

pub(crate) async fn filters_hold_for_vectors(store: Arc<dyn Store>) {
    let (here, there) = (scope(), scope());
    store.prepare_vectors(MODEL, 8).await.unwrap();
    let mut items = varied_memories();
    let second = items.split_off(80);
    remember(&*store, &here, items).await.unwrap();
    remember(&*store, &there, second).await.unwrap();
    embed_all(&*store, MODEL).await;
    let both = Scope::new(here.project(), "tester").reading([there.project().to_owned()]);
    let all = Filter {
        include_outdated: true,
        ..Filter::at(at(10))
    };
    let plain = Filter::at(at(10));
    let filters = [
        plain.clone(),
        all.clone(),
        Filter {
            kinds: vec![Kind::Episode, Kind::Note],
            ..plain.clone()
        },
        Filter {
            tags: vec!["rare".to_owned()],
            ..plain.clone()
        },
        Filter {
            session: Some("s".to_owned()),
            speaker: Some("Ada".to_owned()),
            ..plain.clone()
        },
        Filter {
            since: Some(at(-50)),
            until: Some(at(-20)),
            ..plain.clone()
        },
        Filter {
            min_importance: Some(0.9),
            ..all.clone()
        },
        Filter {
            tags: vec!["unknown".to_owned()],
            ..plain
        },
        Filter {
            as_of: AsOf::KnownThen,
            ..Filter::at(at(500))
        },
        Filter {
            as_of: AsOf::KnownThen,
            ..Filter::at(at(-1))
        },
    ];
    for scope in [&here, &both] {
        let memories = store.browse(scope, &all, None, 1_000).await.unwrap();
        for filter in &filters {
            let query = VectorQuery {
                filter: filter.clone(),
                ..query("which one", 7)
            };
            let found = store.search_vectors(scope, &query).await.unwrap();
            let expected = naive(&memories, filter, &query.vector, 7);
            let cosines: BTreeMap<Uuid, f64> = found
                .iter()
                .map(|hit| (hit.id, hit.cosine.unwrap()))
                .collect();
            assert_eq!(found.len(), expected.len(), "{filter:?}");
            for (id, cosine) in expected {
                let got = cosines
                    .get(&id)
                    .unwrap_or_else(|| panic!("{id} is missing under {filter:?}"));
                // PostgreSQL stores numbers of 16 bits.
                assert!((got - cosine).abs() < 5e-4, "{got} for {cosine}");
            }
        }
    }
}

fn varied_memories() -> Vec<NewMemory> {
    let mut items = Vec::new();
    for n in 0..160_u32 {
        let mut item = match n % 3 {
            0 => note(&format!("text {n}")),
            1 => NewMemory {
                speaker: Some("Ada".into()),
                ..turn("s", n.into(), &format!("text {n}"))
            },
            _ => episode(&format!("text {n}"), "s", "l"),
        };
        item.importance = f64::from(n % 10) / 10.0;
        item.tags = if n % 7 == 0 {
            vec!["rare".to_owned()]
        } else {
            Vec::new()
        };
        item.occurred_at = at(-i64::from(n));
        item.valid_until = (n % 5 == 0).then(|| at(if n % 2 == 0 { 0 } else { 1_000 }));
        items.push(item);
    }
    items
}

fn naive(memories: &[Memory], filter: &Filter, vector: &[f32], limit: usize) -> Vec<(Uuid, f64)> {
    let cosine = |memory: &Memory| {
        direction(&memory.embedded_text())
            .iter()
            .zip(vector)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let mut all: Vec<(Uuid, f64)> = memories
        .iter()
        .filter(|memory| filter.admits(memory))
        .map(|memory| (memory.id, cosine(memory)))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(limit);
    all
}

pub(crate) async fn long_texts_are_found_by_each_part(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("long")).await;
    store_one(&*store, &scope, note("short")).await;
    let jobs = store.claim_index_jobs(10, at(1)).await.unwrap();
    let parts = ["beginning", "middle", "end"];
    // More than a search reads at first, and all nearer than the other memory.
    let passages = || std::iter::repeat_n("beginning", 100).chain(parts);
    let embedded: Vec<Embedded> = jobs
        .iter()
        .map(|job| Embedded {
            first_passage: u32::from(job.text == "long"),
            vectors: if job.text == "long" {
                passages().map(direction).collect()
            } else {
                vec![direction("short")]
            },
            ..embedded(job)
        })
        .collect();
    store.save_vectors(MODEL, &embedded, at(2)).await.unwrap();
    for (part, number) in parts.into_iter().zip(101..) {
        let hits = near(&*store, &scope, part).await;
        assert_eq!((hits.len(), hits[0].id), (2, id), "each memory once");
        assert!((hits[0].cosine.unwrap() - 1.0).abs() < 1e-6);
        if part != "beginning" {
            assert_eq!(hits[0].passage, number, "the nearest passage");
        }
        assert_eq!(hits[1].passage, 0, "a short text is its only passage");
    }
}

pub(crate) async fn a_search_during_a_save_misses_no_memory(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("text")).await;
    let jobs = store.claim_index_jobs(10, at(1)).await.unwrap();
    let whole = [embedded(&jobs[0])];
    let by_passage = [Embedded {
        first_passage: 1,
        vectors: vec![direction("beginning"), direction("text")],
        ..whole[0].clone()
    }];
    store.save_vectors(MODEL, &whole, at(2)).await.unwrap();
    let is_saved = AtomicBool::new(false);
    let saving = async {
        for _ in 0..100 {
            store.save_vectors(MODEL, &by_passage, at(3)).await.unwrap();
            store.save_vectors(MODEL, &whole, at(4)).await.unwrap();
        }
        is_saved.store(true, Ordering::Relaxed);
    };
    let searching = async {
        while !is_saved.load(Ordering::Relaxed) {
            let hits = near(&*store, &scope, "text").await;
            assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [id]);
            assert!((hits[0].cosine.unwrap() - 1.0).abs() < 1e-6, "{hits:?}");
        }
    };
    tokio::join!(saving, searching);
}

/// The backlog says that a memory can be found.
pub(crate) async fn a_memory_without_a_waiting_job_is_found(store: Arc<dyn Store>) {
    let scope = scope();
    for round in 0..60 {
        let text = format!("text {round}");
        let id = store_one(&*store, &scope, note(&text)).await;
        let jobs = store.claim_index_jobs(10, at(1)).await.unwrap();
        let whole = [embedded(&jobs[0])];
        let saver = Arc::clone(&store);
        let saving =
            tokio::spawn(async move { saver.save_vectors(MODEL, &whole, at(2)).await.unwrap() });
        while store.index_backlog().await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        let hits = near(&*store, &scope, &text).await;
        assert!(hits.iter().any(|hit| hit.id == id), "{text}: {hits:?}");
        saving.await.unwrap();
    }
}

pub(crate) async fn vectors_of_whole_long_texts_are_replaced(store: Arc<dyn Store>) {
    let scope = scope();
    store_one(&*store, &scope, note("short")).await;
    store_one(&*store, &scope, note(&"a long text ".repeat(20))).await;
    store_one(&*store, &scope, turn("s", 1, &"a long turn ".repeat(20))).await;
    store_one(&*store, &scope, turn("s", 2, &"a long speech ".repeat(40))).await;
    let by_lesson = episode("e", "s", &"a long lesson ".repeat(20));
    store_one(&*store, &scope, by_lesson).await;
    embed_all(&*store, MODEL).await;
    queue(&*store, Some((MODEL, 8))).await;
    let jobs = store.claim_index_jobs(10, at(100)).await.unwrap();
    let long = jobs.iter().filter(|job| job.text.contains("long"));
    assert_eq!((jobs.len(), long.count()), (3, 3), "the long ones only");
    assert_eq!(jobs.iter().filter(|job| job.is_turn).count(), 1);
    assert_eq!(
        near(&*store, &scope, "short").await.len(),
        5,
        "found by the former vectors meanwhile"
    );
    let by_passage = jobs.iter().map(|job| Embedded {
        first_passage: 1,
        vectors: vec![direction(&job.text), direction("another passage")],
        ..embedded(job)
    });
    let by_passage: Vec<Embedded> = by_passage.collect();
    store
        .save_vectors(MODEL, &by_passage, at(100))
        .await
        .unwrap();
    queue(&*store, Some((MODEL, 8))).await;
    assert_eq!(store.index_backlog().await.unwrap(), 0, "only once");
}

pub(crate) async fn another_model_recomputes_all_vectors(store: Arc<dyn Store>) {
    let scope = scope();
    let id = store_one(&*store, &scope, note("kept")).await;
    let gone = store_one(&*store, &scope, note("deleted")).await;
    embed_all(&*store, MODEL).await;
    forget(&*store, &scope, gone, ForgetMode::Delete).await;
    assert_eq!(store.queued_model().await.unwrap(), None);
    store.set_queued_model(MODEL).await.unwrap();
    assert_eq!(store.queued_model().await.unwrap().as_deref(), Some(MODEL));
    queue(&*store, Some((MODEL, 8))).await;
    assert_eq!(
        store.index_backlog().await.unwrap(),
        0,
        "it has vectors of this one"
    );
    queue(&*store, Some(("another", 8))).await;
    assert_eq!(store.index_backlog().await.unwrap(), 1);
    assert_eq!(
        ids(&*store, &scope, "kept").await,
        [id],
        "found by the old vectors meanwhile"
    );
    embed_all(&*store, "another").await;
    assert!(
        near(&*store, &scope, "kept").await.is_empty(),
        "vectors of two models are never mixed"
    );
    let other = VectorQuery {
        model: "another".to_owned(),
        ..query("kept", 10)
    };
    assert_eq!(store.search_vectors(&scope, &other).await.unwrap().len(), 1);
    queue(&*store, Some(("another", 9))).await;
    assert_eq!(
        store.index_backlog().await.unwrap(),
        1,
        "the same name with another dimension is another model"
    );
    embed_all(&*store, "another").await;
    queue(&*store, None).await;
    assert_eq!(store.index_backlog().await.unwrap(), 1, "no model: all");
    // A memory that was postponed because of its text is tried again at once.
    let keys: Vec<MemoryKey> = store
        .claim_index_jobs(9, at(100))
        .await
        .unwrap()
        .iter()
        .map(|job| job.key)
        .collect();
    store
        .postpone_index_jobs(&keys, Some("too long"), at(1_000))
        .await
        .unwrap();
    assert!(store.claim_index_jobs(9, at(101)).await.unwrap().is_empty());
    queue(&*store, None).await;
    assert_eq!(store.claim_index_jobs(9, at(101)).await.unwrap().len(), 1);
}

async fn queue(store: &dyn Store, model: Option<(&str, usize)>) {
    let mut place = None;
    for _ in 0..100 {
        place = store.queue_missing(model, place).await.unwrap();
        if place.is_none() {
            return;
        }
    }
    panic!("the queue has no end");
}

pub(crate) async fn what_is_put_off_comes_later(store: Arc<dyn Store>) {
    let scope = scope();
    store_one(&*store, &scope, note("put off")).await;
    let claim = async |seconds| {
        store
            .claim_index_jobs(10, at(0) + TimeDelta::seconds(seconds))
            .await
            .unwrap()
    };
    let jobs = claim(0).await;
    let keys: Vec<MemoryKey> = jobs.iter().map(|job| job.key).collect();
    store
        .postpone_index_jobs(&keys, Some("too long"), at(60))
        .await
        .unwrap();
    assert!(claim(30).await.is_empty());
    let jobs = claim(61).await;
    assert_eq!((jobs.len(), jobs[0].attempts), (1, 1));
    store
        .postpone_index_jobs(&keys, None, at(62))
        .await
        .unwrap();
    assert_eq!(claim(63).await[0].attempts, 1, "nobody's fault");
}
