//! Tables that are recognized by the names of their columns: those of the Python server that this program replaces, and
//! of others that store memories in a PostgreSQL database. Columns with another meaning are kept as metadata.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{parse_key, parse_labels, parse_object};
use crate::domain::{Episode, Kind};
use crate::store::port::EntityName;
use crate::transfer::TransferError;
use crate::transfer::convert::{ForeignMemory, Sink};
use crate::transfer::foreign_time::parse_time;

/// The name of the program.
pub const NAME: &str = "cognitive-memory-python";

/// Fields, and the names of their columns, likeliest first.
const FIELDS: &[(&str, &[&str])] = &[
    ("id", &["id", "uuid", "memory_id", "key"]),
    (
        "content",
        &["content", "text", "message", "memory", "statement", "body"],
    ),
    ("tags", &["tags", "labels", "keywords"]),
    (
        "importance",
        &[
            "importance",
            "memory_strength",
            "strength",
            "score",
            "priority",
        ],
    ),
    ("metadata", &["metadata", "meta", "properties", "extra"]),
    (
        "created_at",
        &[
            "created_at",
            "timestamp",
            "created",
            "stored_at",
            "inserted_at",
            "time",
        ],
    ),
    (
        "updated_at",
        &["updated_at", "modified_at", "last_modified"],
    ),
    ("occurred_at", &["occurred_at", "happened_at", "event_time"]),
    (
        "session",
        &["session_id", "session", "conversation_id", "thread_id"],
    ),
    (
        "turn",
        &["turn", "turn_number", "position", "message_index"],
    ),
    ("speaker", &["speaker", "role", "author", "sender"]),
    ("situation", &["situation", "query", "context", "task"]),
    ("outcome", &["outcome", "reward"]),
    ("lesson", &["lesson", "reflection", "verbal_reflection"]),
    (
        "recall_count",
        &["recall_count", "access_count", "use_count"],
    ),
    ("name", &["name", "title"]),
    ("kind", &["type", "label", "entity_type", "kind"]),
    (
        "source",
        &[
            "source_id",
            "source",
            "from_id",
            "from_node",
            "source_node_id",
        ],
    ),
    (
        "target",
        &["target_id", "target", "to_id", "to_node", "target_node_id"],
    ),
    (
        "relation",
        &[
            "relation",
            "relation_type",
            "relationship",
            "edge_type",
            "type",
        ],
    ),
    ("weight", &["weight", "strength"]),
];
/// Columns that have no meaning outside of their database.
const IGNORED: &[&str] = &[
    "embedding",
    "embeddings",
    "vector",
    "tsv",
    "search_vector",
    "content_tsv",
];

/// Columns of fields without a usual name.
pub type Columns = BTreeMap<String, String>;

/// The content of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Nodes of a graph; read first.
    Entities,
    /// Edges of a graph.
    Relations,
    /// Memories of a kind.
    Memories(Kind),
}

/// Returns the names of the fields that can be mapped.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(field, _)| *field)
}

fn find_column<'a>(field: &str, columns: &'a [String], mapping: &'a Columns) -> Option<&'a str> {
    if let Some(column) = mapping.get(field) {
        return columns
            .iter()
            .find(|name| *name == column)
            .map(String::as_str);
    }
    let usual = FIELDS
        .iter()
        .find(|(name, _)| *name == field)
        .map_or(&[][..], |(_, usual)| usual);
    usual
        .iter()
        .find_map(|name| columns.iter().find(|column| column == name))
        .map(String::as_str)
}

/// Classifies a table by its name and columns; `None` if its content is unclear.
#[must_use]
pub fn classify_table(table: &str, columns: &[String], mapping: &Columns) -> Option<Sort> {
    let has = |field: &str| find_column(field, columns, mapping).is_some();
    let table = table.to_lowercase();
    let named = |words: &[&str]| words.iter().any(|word| table.contains(word));
    if named(&["migration", "schema_version", "audit", "idempot"]) {
        return None;
    }
    if has("source") && has("target") && has("relation") {
        return Some(Sort::Relations);
    }
    if has("situation") && has("outcome") && has("lesson") {
        return Some(Sort::Memories(Kind::Episode));
    }
    if has("name") && !has("content") && named(&["node", "entit"]) {
        return Some(Sort::Entities);
    }
    if !has("content") {
        return None;
    }
    Some(Sort::Memories(match () {
        () if has("speaker") && has("session") => Kind::Dialogue,
        () if named(&["insight"]) => Kind::Insight,
        () => Kind::Note,
    }))
}

/// Passes the rows of tables to a sink: entities first, because relations name them by ID.
#[derive(Debug, Default)]
pub struct Rows {
    mapping: Columns,
    entities: HashMap<String, EntityName>,
    turns: HashMap<String, i64>,
    number: u64,
}

impl Rows {
    /// Creates the conversion with a mapping of the caller.
    #[must_use]
    pub fn new(mapping: Columns) -> Self {
        Self {
            mapping,
            ..Self::default()
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Fails if the sink cannot be written.
    pub fn add_row(
        &mut self,
        table: &str,
        sort: Sort,
        row: &Map<String, Value>,
        sink: &mut Sink<'_>,
    ) -> Result<(), TransferError> {
        self.number += 1;
        let columns: Vec<String> = row.keys().cloned().collect();
        let field = |name: &str| {
            find_column(name, &columns, &self.mapping)
                .and_then(|column| row.get(column))
                .unwrap_or(&Value::Null)
        };
        let id = parse_key(field("id"));
        let place = format!(
            "{table}, row {}",
            id.clone().unwrap_or_else(|| self.number.to_string())
        );
        match sort {
            Sort::Entities => {
                let (name, kind) = (field("name").as_str(), field("kind").as_str());
                let Some(entity) =
                    name.and_then(|name| sink.entity_name(&place, name, kind.unwrap_or_default()))
                else {
                    sink.problems
                        .add(place, "it has no name with a visible character");
                    return Ok(());
                };
                sink.add_entity(
                    &place,
                    &entity,
                    parse_object(field("metadata")),
                    parse_time(field("created_at")),
                )?;
                if let Some(id) = id {
                    self.entities.insert(id, entity);
                }
                Ok(())
            }
            Sort::Relations => {
                // By the ID of an entity's row, or by its name.
                let find = |value: &Value| {
                    let key = parse_key(value)?;
                    let named = EntityName {
                        name: key.clone(),
                        kind: String::new(),
                    };
                    self.entities
                        .get(&key)
                        .cloned()
                        .or_else(|| Some(named).filter(|named| sink.has_entity(named)))
                };
                let kind = field("relation").as_str().unwrap_or("related_to");
                match (find(field("source")), find(field("target"))) {
                    (Some(source), Some(target)) => {
                        let weight = field("weight").as_f64().unwrap_or(1.0).clamp(0.0, 1.0);
                        sink.add_relation(&place, (&source, kind, &target), weight)
                    }
                    _ => {
                        sink.problems
                            .add(place, "its source or its target is not a known entity");
                        Ok(())
                    }
                }
            }
            Sort::Memories(kind) => {
                let foreign = self.read_memory(table, kind, id, row, &columns);
                match foreign {
                    Some(foreign) => sink.add_memory(&place, foreign).map(drop),
                    None => {
                        sink.problems.add(place, "it has no content");
                        Ok(())
                    }
                }
            }
        }
    }

    fn read_memory(
        &mut self,
        table: &str,
        kind: Kind,
        id: Option<String>,
        row: &Map<String, Value>,
        columns: &[String],
    ) -> Option<ForeignMemory> {
        let column = |name: &str| find_column(name, columns, &self.mapping);
        let field = |name: &str| {
            column(name)
                .and_then(|column| row.get(column))
                .unwrap_or(&Value::Null)
        };
        let text = |name: &str| {
            field(name)
                .as_str()
                .map(str::to_owned)
                .filter(|text| !text.trim().is_empty())
        };
        let episode = match (kind, text("situation"), text("lesson")) {
            (Kind::Episode, Some(situation), Some(lesson)) => Some(Episode {
                situation,
                outcome: field("outcome").as_f64().unwrap_or(0.0).clamp(-1.0, 1.0),
                lesson,
            }),
            _ => None,
        };
        let content =
            text("content").or_else(|| episode.as_ref().map(|episode| episode.lesson.clone()))?;
        let kind = if kind == Kind::Episode && episode.is_none() {
            Kind::Note
        } else {
            kind
        };
        let mut metadata = parse_object(field("metadata"));
        let understood: Vec<&str> = field_names().filter_map(column).collect();
        for (name, value) in row {
            let known = understood.contains(&name.as_str()) || IGNORED.contains(&name.as_str());
            if !known && !value.is_null() {
                metadata
                    .entry(name.clone())
                    .or_insert_with(|| value.clone());
            }
        }
        let session = parse_key(field("session"));
        let given = field("turn").as_i64();
        let turn = match (kind, &session) {
            (Kind::Dialogue, Some(session)) => {
                let last = self.turns.entry(session.clone()).or_default();
                *last = given.unwrap_or(*last + 1);
                Some(*last)
            }
            _ => None,
        };
        let column_of =
            |name: &str| crate::transfer::source::table::find_column(name, columns, &self.mapping);
        let again = |name: &str| {
            column_of(name)
                .and_then(|column| row.get(column))
                .unwrap_or(&Value::Null)
        };
        Some(ForeignMemory {
            key: format!("{table}\n{}", id.unwrap_or_else(|| content.clone())),
            kind,
            content,
            tags: parse_labels(again("tags")),
            importance: again("importance").as_f64(),
            metadata,
            occurred_at: parse_time(again("occurred_at")),
            created_at: parse_time(again("created_at")),
            updated_at: parse_time(again("updated_at")),
            session,
            turn,
            speaker: again("speaker").as_str().map(str::to_owned),
            episode,
            recall_count: again("recall_count").as_i64().unwrap_or_default(),
        })
    }
}
