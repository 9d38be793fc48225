//! Random commands on a store and on a simple model of it in memory; both must agree in every answer and in the
//! resulting state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::TimeDelta;
use cognitive_memory_mcp::domain::memory::content_hash;
use cognitive_memory_mcp::domain::repeat::merge_repeats;
use cognitive_memory_mcp::domain::{
    Change, Episode, Filter, History, Kind, Memory, NewMemory, Patch, Restated, Scope,
};
use cognitive_memory_mcp::store::{
    Counts, ForgetMode, Idempotency, Remember, Remembered, Store, StoreError, Update,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use uuid::Uuid;

use super::{analyzed, analyzer, assert_same_hits, at, naive_search, new_id, note, search};

/// A memory by its index in the order of creation; an index out of range stands for an unknown ID.
type Place = usize;

#[derive(Debug, Clone)]
struct Item {
    kind: Kind,
    content: usize,
    session: Option<u8>,
    turn: Option<i64>,
    tag: u8,
    valid_for: Option<i64>,
    sources: Vec<Place>,
    supersedes: Vec<Place>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a test has few steps, and boxes would hide what they are"
)]
#[derive(Debug, Clone)]
enum Step {
    Remember {
        items: Vec<Item>,
        key: Option<(u8, u8)>,
    },
    Update {
        place: Place,
        expected: Option<i64>,
        patch: Patch,
    },
    Forget {
        places: Vec<Place>,
        mode: ForgetMode,
    },
    NoteRecalled {
        places: Vec<Place>,
    },
}

const TEXTS: [&str; 8] = [
    "the river runs",
    "rivers and mountains",
    "getUserName()",
    "東京都",
    "👍",
    "a AND \"b\"",
    "x",
    "mountain mountain",
];

fn place() -> impl Strategy<Value = Place> {
    0..14_usize
}

fn item() -> impl Strategy<Value = Item> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let where_ = (prop::option::of(0..2_u8), prop::option::of(0..3_i64));
    let links = (
        prop::collection::vec(place(), 0..2),
        prop::collection::vec(place(), 0..2),
    );
    let rare = |list: Vec<Place>, yes: bool| if yes { list } else { Vec::new() };
    (
        kind,
        0..TEXTS.len(),
        where_,
        0..3_u8,
        prop::option::of(-5..200_i64),
        links,
        any::<[bool; 2]>(),
    )
        .prop_map(
            move |(kind, content, (session, turn), tag, valid_for, (sources, supersedes), yes)| {
                Item {
                    kind,
                    content,
                    session,
                    turn: turn.filter(|_| kind == Kind::Dialogue),
                    tag,
                    valid_for,
                    sources: rare(sources, yes[0]),
                    supersedes: rare(supersedes, yes[1]),
                }
            },
        )
}

fn patch() -> impl Strategy<Value = Patch> {
    let content = prop::option::weighted(0.4, 0..TEXTS.len());
    let lesson = prop::option::weighted(0.1, Just("patched lesson".to_owned()));
    (
        content,
        prop::option::of(0..3_u8),
        prop::option::of(any::<bool>()),
        lesson,
        prop::option::weighted(0.2, 0..2_u8),
    )
        .prop_map(|(content, tag, helpful, lesson, metadata)| Patch {
            content: content.map(|text| TEXTS[text].to_owned()),
            tags: tag.map(tags),
            helpful,
            lesson,
            metadata: metadata.map(|value| {
                let value = if value == 0 {
                    json!({"k": null})
                } else {
                    json!({"k": value})
                };
                value.as_object().unwrap().clone()
            }),
            ..Patch::default()
        })
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop::sample::select(vec![
        ForgetMode::Delete,
        ForgetMode::Restore,
        ForgetMode::Purge,
    ]);
    prop_oneof![
        5 => (prop::collection::vec(item(), 1..4), prop::option::weighted(0.2, (0..2_u8, 0..2_u8)))
            .prop_map(|(items, key)| Step::Remember { items, key }),
        3 => (place(), prop::option::weighted(0.3, 1..4_i64), patch())
            .prop_map(|(place, expected, patch)| Step::Update { place, expected, patch }),
        3 => (prop::collection::vec(place(), 1..3), mode).prop_map(|(places, mode)| Step::Forget { places, mode }),
        1 => prop::collection::vec(place(), 1..4).prop_map(|places| Step::NoteRecalled { places }),
    ]
}

fn tags(tag: u8) -> Vec<String> {
    ["a", "b"][..usize::from(tag)]
        .iter()
        .map(|tag| (*tag).to_owned())
        .collect()
}

/// The store, implemented in as few lines as possible.
#[derive(Debug, Default)]
struct Model {
    project: String,
    /// In storage order; `seq` is the index.
    memories: Vec<Memory>,
    history: Vec<History>,
    answers: HashMap<String, ([u8; 32], Vec<Uuid>)>,
    /// Every acknowledged ID, to which the indexes in commands refer.
    created: Vec<Uuid>,
    next: i64,
}

/// Returns the part of an error that must agree.
fn name(error: &StoreError) -> String {
    match error {
        StoreError::NotFound { field, ids } => {
            let mut ids = ids.clone();
            ids.sort();
            format!("not found: {field} {ids:?}")
        }
        StoreError::VersionConflict {
            id,
            expected,
            current,
        } => format!("version {id} {expected} {current}"),
        StoreError::IdempotencyConflict { key } => format!("key {key}"),
        StoreError::TurnExists { session, turn, .. } => format!("turn {session} {turn}"),
        StoreError::AlreadySuperseded { id, .. } => format!("superseded {id}"),
        StoreError::Invalid(_) => "invalid".to_owned(),
        other => format!("{other:?}"),
    }
}

impl Model {
    fn id(&self, place: Place) -> Uuid {
        self.created
            .get(place)
            .copied()
            .unwrap_or_else(|| Uuid::from_u128(place as u128))
    }

    fn find(&self, id: Uuid) -> Option<usize> {
        self.memories.iter().position(|memory| memory.id == id)
    }

    fn live(&self, id: Uuid) -> Option<usize> {
        self.find(id)
            .filter(|place| self.memories[*place].deleted_at.is_none())
    }

    fn missing(&self, field: &'static str, ids: Vec<Uuid>) -> Result<(), StoreError> {
        let mut unknown: Vec<Uuid> = ids
            .into_iter()
            .filter(|id| self.live(*id).is_none())
            .collect();
        unknown.sort();
        unknown.dedup();
        if unknown.is_empty() {
            Ok(())
        } else {
            Err(StoreError::NotFound {
                field,
                ids: unknown,
            })
        }
    }

    fn change(
        &mut self,
        place: usize,
        change: Change,
        now: i64,
        reason: Option<&str>,
        edit: impl FnOnce(&mut Memory),
    ) {
        let memory = &mut self.memories[place];
        let old = memory.snapshot();
        edit(memory);
        memory.version += 1;
        memory.updated_at = at(now);
        let (memory_id, version) = (memory.id, memory.version);
        self.note(memory_id, version, change, Some(old), now, reason);
    }

    fn note(
        &mut self,
        memory_id: Uuid,
        version: i64,
        change: Change,
        old: Option<serde_json::Value>,
        now: i64,
        reason: Option<&str>,
    ) {
        let (actor, reason) = ("tester".to_owned(), reason.map(str::to_owned));
        self.history.push(History {
            memory_id,
            version,
            change,
            old,
            actor,
            reason,
            at: at(now),
        });
    }

    fn turn(&self, session: &str, turn: i64) -> Option<&Memory> {
        self.memories.iter().find(|memory| {
            memory.deleted_at.is_none()
                && memory.superseded_by.is_none()
                && memory.session.as_deref() == Some(session)
                && memory.turn == Some(turn)
        })
    }

    fn remember(&mut self, command: &Remember, now: i64) -> Result<Vec<Remembered>, StoreError> {
        if let Some(given) = &command.idempotency
            && let Some((hash, ids)) = self.answers.get(&given.key)
        {
            if *hash != given.request_hash {
                return Err(StoreError::IdempotencyConflict {
                    key: given.key.clone(),
                });
            }
            return Ok(ids.iter().map(|id| Remembered::replayed(*id)).collect());
        }
        let given: Vec<&NewMemory> = command.items.iter().map(|item| &item.memory).collect();
        self.missing(
            "sources",
            given.iter().flat_map(|item| item.sources.clone()).collect(),
        )?;
        let going: Vec<Uuid> = given
            .iter()
            .flat_map(|item| item.supersedes.clone())
            .collect();
        self.missing("supersedes", going.clone())?;

        let mut errors: Vec<StoreError> = Vec::new();
        let mut answer: Vec<Remembered> = Vec::new();
        for (number, item) in given.iter().enumerate() {
            let before: Vec<_> = given[..number].iter().copied().zip(&answer).collect();
            let existing = match item.kind {
                Kind::Dialogue => self.find_turn(item, &before, &going, &mut errors),
                _ => self.find_equal(item, &before, &going, now),
            };
            answer.push(Remembered::new(
                existing.unwrap_or(item.id),
                existing.is_none(),
            ));
        }
        let successors = self.list_successors(&given, &answer, &mut errors);
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        for (id, by) in successors {
            let place = self.live(id).expect("was checked");
            self.change(place, Change::Superseded, now, None, |memory| {
                memory.superseded_by = Some(by)
            });
        }
        let mut analyzed = command.items.clone();
        let repeats = merge_repeats(&mut analyzed, &analyzer());
        for (place, repeat) in answer.iter_mut().zip(repeats) {
            place.repeat = repeat;
        }
        let items: Vec<NewMemory> = analyzed.into_iter().map(|item| item.memory).collect();
        self.merge_into_stored(&items, &mut answer, now);
        for (item, _) in items.iter().zip(&answer).filter(|(_, place)| place.created) {
            self.insert(item, now);
        }
        if let Some(given) = &command.idempotency {
            let ids = answer.iter().map(|place| place.id).collect();
            self.answers
                .insert(given.key.clone(), (given.request_hash, ids));
        }
        Ok(answer)
    }

    /// The turn of the same number, in the batch or stored; another text is an error.
    fn find_turn(
        &self,
        item: &NewMemory,
        before: &[(&NewMemory, &Remembered)],
        going: &[Uuid],
        errors: &mut Vec<StoreError>,
    ) -> Option<Uuid> {
        let (session, turn) = (item.session.as_ref()?, item.turn?);
        let in_batch = before
            .iter()
            .find(|(other, _)| other.session == item.session && other.turn == item.turn)
            .map(|(other, place)| (place.id, content_hash(&other.content)));
        let stored = self
            .turn(session, turn)
            .filter(|memory| !going.contains(&memory.id))
            .map(|memory| (memory.id, content_hash(&memory.content)));
        let (existing, known) = in_batch.or(stored)?;
        if known != content_hash(&item.content) {
            errors.push(StoreError::TurnExists {
                session: session.clone(),
                turn,
                existing,
            });
        }
        Some(existing)
    }

    /// A valid memory of the same kind and text, stored or in the batch.
    fn find_equal(
        &self,
        item: &NewMemory,
        before: &[(&NewMemory, &Remembered)],
        going: &[Uuid],
        now: i64,
    ) -> Option<Uuid> {
        let hash = content_hash(&item.content);
        let same = |kind: Kind, content: &str| kind == item.kind && content_hash(content) == hash;
        let filter = Filter::at(at(now));
        let stored = self.memories.iter().find(|memory| {
            same(memory.kind, &memory.content)
                && filter.admits(memory)
                && !going.contains(&memory.id)
        });
        let in_batch = before
            .iter()
            .find(|(other, _)| same(other.kind, &other.content));
        stored
            .map(|memory| memory.id)
            .or(in_batch.map(|(_, place)| place.id))
    }

    /// Which memories the items supersede; a second successor is an error.
    fn list_successors(
        &self,
        given: &[&NewMemory],
        answer: &[Remembered],
        errors: &mut Vec<StoreError>,
    ) -> BTreeMap<Uuid, Uuid> {
        let mut successors: BTreeMap<Uuid, Uuid> = BTreeMap::new();
        for (item, place) in given.iter().zip(answer) {
            for id in &item.supersedes {
                let stored = self.memories[self.live(*id).expect("was checked")].superseded_by;
                let before = stored.or(successors.get(id).copied());
                match before.filter(|by| *by != place.id) {
                    Some(by) => errors.push(StoreError::AlreadySuperseded { id: *id, by }),
                    None if stored.is_none() => {
                        successors.insert(*id, place.id);
                    }
                    None => {}
                }
            }
        }
        successors
    }

    /// Merges the values of items whose text is already stored.
    fn merge_into_stored(&mut self, items: &[NewMemory], answer: &mut [Remembered], now: i64) {
        let mut merged: Vec<Uuid> = answer
            .iter()
            .filter(|place| place.created)
            .map(|place| place.id)
            .collect();
        for (item, place) in items.iter().zip(answer) {
            if place.created || merged.contains(&place.id) {
                continue;
            }
            merged.push(place.id);
            let at = self.live(place.id).expect("it already exists");
            let (patch, repeat) = Restated::from(item).merge_into(&self.memories[at]);
            place.repeat.extend(repeat);
            if patch.changes_memory() {
                let edit = |memory: &mut Memory| {
                    let (version, updated_at) = (memory.version, memory.updated_at);
                    patch.apply(memory, updated_at);
                    (memory.version, memory.updated_at) = (version, updated_at);
                };
                self.change(at, Change::Updated, now, Some("stored again"), edit);
            }
        }
    }

    fn insert(&mut self, item: &NewMemory, now: i64) {
        self.next += 1;
        let mut sources = item.sources.clone();
        sources.dedup();
        self.memories.push(Memory {
            id: item.id,
            seq: self.next,
            project: self.project.clone(),
            kind: item.kind,
            content: item.content.clone(),
            tags: item.tags.clone(),
            importance: item.importance,
            metadata: item.metadata.clone(),
            occurred_at: item.occurred_at,
            created_at: at(now),
            updated_at: at(now),
            valid_until: item.valid_until,
            version: 1,
            session: item.session.clone(),
            turn: item.turn,
            speaker: item.speaker.clone(),
            episode: item.episode.clone(),
            sources,
            protected: item.protected,
            ..Memory::default()
        });
        self.note(item.id, 1, Change::Created, None, now, None);
        self.created.push(item.id);
    }

    fn update(&mut self, command: &Update, now: i64) -> Result<Memory, StoreError> {
        let place = self.live(command.id).ok_or(StoreError::NotFound {
            field: "id",
            ids: vec![command.id],
        })?;
        let memory = self.memories[place].clone();
        if let Some(expected) = command
            .expected_version
            .filter(|expected| *expected != memory.version)
        {
            return Err(StoreError::VersionConflict {
                id: memory.id,
                expected,
                current: memory.version,
            });
        }
        if memory.episode.is_none() && command.patch.lesson.is_some() {
            return Err(cognitive_memory_mcp::domain::Invalid::new("lesson", "", "").into());
        }
        let mut after = memory.clone();
        if command.patch.apply(&mut after, at(now)) {
            self.note(
                after.id,
                after.version,
                Change::Updated,
                Some(memory.snapshot()),
                now,
                command.reason.as_deref(),
            );
        }
        self.memories[place] = after.clone();
        Ok(after)
    }

    fn forget(&mut self, ids: &[Uuid], mode: ForgetMode, now: i64) -> Result<u64, StoreError> {
        let mut ids = ids.to_vec();
        ids.sort();
        ids.dedup();
        let unknown: Vec<Uuid> = ids
            .iter()
            .copied()
            .filter(|id| self.find(*id).is_none())
            .collect();
        if !unknown.is_empty() {
            return Err(StoreError::NotFound {
                field: "ids",
                ids: unknown,
            });
        }
        if mode == ForgetMode::Restore {
            let mut taken: Vec<(String, i64)> = Vec::new();
            for id in &ids {
                let memory = &self.memories[self.find(*id).expect("was checked")];
                if memory.deleted_at.is_some()
                    && memory.superseded_by.is_none()
                    && let (Some(session), Some(turn)) = (memory.session.clone(), memory.turn)
                {
                    let existing = self.turn(&session, turn).map(|memory| memory.id);
                    let key = (session.clone(), turn);
                    if existing.is_some() || taken.contains(&key) {
                        let existing = existing.unwrap_or(*id);
                        return Err(StoreError::TurnExists {
                            session,
                            turn,
                            existing,
                        });
                    }
                    taken.push(key);
                }
            }
        }
        let mut changed = 0;
        for id in ids {
            let place = self.find(id).expect("was checked");
            let live = self.memories[place].deleted_at.is_none();
            match mode {
                ForgetMode::Delete if live => {
                    self.change(place, Change::Deleted, now, Some("why"), |memory| {
                        memory.deleted_at = Some(at(now))
                    });
                }
                ForgetMode::Restore if !live => {
                    self.change(place, Change::Restored, now, Some("why"), |memory| {
                        memory.deleted_at = None
                    });
                }
                ForgetMode::Purge => {
                    self.memories.remove(place);
                    self.history.retain(|entry| entry.memory_id != id);
                    for memory in &mut self.memories {
                        memory.sources.retain(|source| *source != id);
                    }
                }
                ForgetMode::Delete | ForgetMode::Restore => continue,
            }
            changed += 1;
        }
        Ok(changed)
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for memory in &self.memories {
            if memory.deleted_at.is_some() {
                counts.deleted += 1;
            } else {
                *counts.by_kind.entry(memory.kind.to_string()).or_default() += 1;
                counts.superseded += u64::from(memory.superseded_by.is_some());
                counts.index_backlog += 1;
            }
        }
        counts
    }
}

/// Executes one step on both and compares the answers.
async fn carry_out(store: &dyn Store, scope: &Scope, model: &mut Model, step: &Step, now: i64) {
    match step {
        Step::Remember { items, key } => {
            let command = Remember {
                items: analyzed(items.iter().map(|item| build_item(item, model, now))),
                idempotency: key.map(|(key, hash)| Idempotency {
                    key: format!("k{key}"),
                    request_hash: [hash; 32],
                }),
                now: at(now),
            };
            let expected = model.remember(&command, now);
            let answer = store.remember(scope, command).await;
            assert_eq!(
                answer.map_err(|error| name(&error)),
                expected.map_err(|error| name(&error)),
                "{step:?}"
            );
        }
        Step::Update {
            place,
            expected,
            patch,
        } => {
            let command = Update {
                id: model.id(*place),
                expected_version: *expected,
                patch: patch.clone(),
                reason: Some("why".into()),
                now: at(now),
            };
            let expected = model
                .update(&command, now)
                .map(|memory| Memory { seq: 0, ..memory });
            let answer = store
                .update(scope, command)
                .await
                .map(|memory| Memory { seq: 0, ..memory });
            let lenient = |error: StoreError| name(&error).replace(": id ", ": ids ");
            assert_eq!(
                answer.map_err(lenient),
                expected.map_err(lenient),
                "{step:?}"
            );
        }
        Step::Forget { places, mode } => {
            let ids: Vec<Uuid> = places.iter().map(|place| model.id(*place)).collect();
            let expected = model.forget(&ids, *mode, now);
            let answer = store.forget(scope, &ids, *mode, Some("why"), at(now)).await;
            assert_eq!(
                answer.map_err(|error| name(&error)),
                expected.map_err(|error| name(&error)),
                "{step:?}"
            );
        }
        Step::NoteRecalled { places } => {
            let mut ids: Vec<Uuid> = places.iter().map(|place| model.id(*place)).collect();
            ids.sort();
            ids.dedup();
            store.note_recalled(scope, &ids, at(now)).await.unwrap();
            for id in ids {
                if let Some(place) = model.live(id) {
                    model.memories[place].recall_count += 1;
                    model.memories[place].last_recalled_at = Some(at(now));
                }
            }
        }
    }
}

fn build_item(item: &Item, model: &Model, now: i64) -> NewMemory {
    let episode = Episode {
        situation: "at work".into(),
        outcome: 0.5,
        lesson: "river".into(),
    };
    NewMemory {
        kind: item.kind,
        session: item.session.map(|session| format!("s{session}")),
        turn: item.turn,
        tags: tags(item.tag),
        valid_until: item.valid_for.map(|seconds| at(now + seconds)),
        episode: (item.kind == Kind::Episode).then_some(episode),
        sources: item.sources.iter().map(|place| model.id(*place)).collect(),
        supersedes: item
            .supersedes
            .iter()
            .map(|place| model.id(*place))
            .collect(),
        occurred_at: at(now) - TimeDelta::minutes(1),
        ..note(TEXTS[item.content])
    }
}

/// Compares the complete visible state of both.
async fn compare(store: &dyn Store, scope: &Scope, model: &Model, now: i64) {
    let plain = |memory: &Memory| Memory {
        seq: 0,
        ..memory.clone()
    };
    let ids: Vec<Uuid> = model.memories.iter().map(|memory| memory.id).collect();
    let got = store.get(scope, &model.created, true).await.unwrap();
    let mut expected: Vec<Memory> = model.memories.iter().map(plain).collect();
    expected.sort_by_key(|memory| model.created.iter().position(|id| *id == memory.id));
    assert_eq!(got.iter().map(plain).collect::<Vec<_>>(), expected);
    let seqs: HashMap<Uuid, i64> = got.iter().map(|memory| (memory.id, memory.seq)).collect();

    let sorted = |mut history: Vec<History>| {
        history.sort_by_key(|entry| (entry.memory_id, entry.version));
        history
    };
    let mut history = Vec::new();
    for id in &ids {
        let one = super::history(store, scope, *id).await;
        assert!(one.is_sorted_by_key(|entry| (entry.at, entry.version)));
        history.extend(one);
    }
    assert_eq!(sorted(history), sorted(model.history.clone()));
    assert_eq!(store.counts(scope, at(now)).await.unwrap(), model.counts());

    let filter = Filter::at(at(now));
    let filters = [
        filter.clone(),
        Filter {
            include_outdated: true,
            ..filter.clone()
        },
        Filter {
            tags: tags(1),
            ..filter.clone()
        },
        Filter {
            kinds: vec![Kind::Dialogue],
            session: Some("s1".into()),
            ..filter
        },
    ];
    let live: Vec<Memory> = model
        .memories
        .iter()
        .filter(|memory| memory.deleted_at.is_none())
        .map(|memory| Memory {
            seq: seqs[&memory.id],
            ..memory.clone()
        })
        .collect();
    let live: Vec<&Memory> = live.iter().collect();
    for filter in filters {
        let browsed = store.browse(scope, &filter, None, 1_000).await.unwrap();
        let expected: Vec<Memory> = live
            .iter()
            .rev()
            .filter(|memory| filter.admits(memory))
            .map(|memory| (*memory).clone())
            .collect();
        assert_eq!(browsed, expected, "{filter:?}");
        for text in ["the river runs", "mountains 👍 x", "user"] {
            let hits = search(store, scope, text, filter.clone()).await;
            assert_same_hits(&hits, &naive_search(&live, text, &filter));
        }
    }
}

pub(crate) async fn random_commands_agree_with_the_model(store: Arc<dyn Store>) {
    let runtime = tokio::runtime::Handle::current();
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let steps = prop::collection::vec(step(), 1..25);
    let result = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&steps, |steps| {
            runtime.block_on(async {
                let scope = Scope::new(format!("model-{}", new_id()), "tester");
                let mut model = Model {
                    project: scope.project().to_owned(),
                    ..Model::default()
                };
                for (number, step) in steps.iter().enumerate() {
                    carry_out(&*store, &scope, &mut model, step, number as i64 * 10).await;
                }
                compare(&*store, &scope, &model, steps.len() as i64 * 10).await;
            });
            Ok(())
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
