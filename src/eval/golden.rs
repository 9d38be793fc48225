//! Files of questions and of memories, one JSON object per line. Every line with a mistake is reported, and nothing
//! of a file with a mistake is used.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::domain::validate::{self, Invalid};
use crate::engine::{RecallParams, RememberItem};

/// Maximum number of mistakes that are listed.
const SHOWN: usize = 20;
/// Default group of a question.
const NO_GROUP: &str = "other";
/// Arguments that a question may not set, because they determine the meaning of the results.
const FIXED: [&str; 3] = ["limit", "max_chars", "cursor"];

/// Mistakes in files, each with the file and the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for mistake in self.0.iter().take(SHOWN) {
            writeln!(f, "{mistake}")?;
        }
        if self.0.len() > SHOWN {
            writeln!(f, "and {} more", self.0.len() - SHOWN)?;
        }
        f.write_str("nothing was loaded or asked")
    }
}

impl std::error::Error for Mistakes {}

/// A question and its expected answers.
#[derive(Debug, Clone)]
pub struct Question {
    /// Line in the file.
    pub line: usize,
    /// Kind of question, which has a separate row in the table.
    pub group: String,
    /// IDs, keys (`metadata.key`) or whole texts of all memories that answer the question; empty if nothing does.
    pub expected: Vec<String>,
    /// All versions of the fact that the question is about, from oldest to newest. Empty if it has one version.
    pub versions: Vec<String>,
    /// The question with its filters.
    pub ask: RecallParams,
}

/// A memory to be loaded.
#[derive(Debug, Clone)]
pub struct CorpusItem {
    /// Line in the file.
    pub line: usize,
    /// Name by which questions refer to the memory.
    pub key: Option<String>,
    /// Item for `remember`, without its references to other memories.
    pub item: RememberItem,
    /// Keys of the source memories on earlier lines.
    pub sources: Vec<String>,
    /// Keys of the superseded memories on earlier lines.
    pub supersedes: Vec<String>,
}

/// Collects mistakes of one file.
struct Reader<'a> {
    file: &'a str,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn note_mistake(&mut self, line: usize, what: impl std::fmt::Display) {
        self.mistakes
            .push(format!("{} line {line}: {what}", self.file));
    }

    /// Parses the objects of a file with their lines.
    fn parse_objects(&mut self, text: &str) -> Vec<(usize, Map<String, Value>)> {
        let mut objects = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str::<Value>(line) {
                Ok(Value::Object(object)) => objects.push((index + 1, object)),
                Ok(other) => self.note_mistake(
                    index + 1,
                    Invalid::new("line", other.to_string(), "a JSON object"),
                ),
                Err(error) => self.note_mistake(index + 1, format!("no JSON: {error}")),
            }
        }
        if objects.is_empty() && self.mistakes.is_empty() {
            self.mistakes.push(format!(
                "{}: the file is empty; expected one JSON object a line",
                self.file
            ));
        }
        objects
    }

    fn finish_reading<T>(self, read: Vec<T>) -> Result<Vec<T>, Mistakes> {
        if self.mistakes.is_empty() {
            Ok(read)
        } else {
            Err(Mistakes(self.mistakes))
        }
    }
}

/// Reads questions: `query`, `expected`, perhaps `group` and `versions`, and the filters of `recall`.
///
/// # Errors
/// All mistakes of the file.
pub fn read_questions(file: &str, text: &str) -> Result<Vec<Question>, Mistakes> {
    let mut reader = Reader {
        file,
        mistakes: Vec::new(),
    };
    let mut questions = Vec::new();
    for (line, object) in reader.parse_objects(text) {
        match parse_question(line, object) {
            Ok(question) => questions.push(question),
            Err(what) => reader.note_mistake(line, what),
        }
    }
    reader.finish_reading(questions)
}

fn parse_question(line: usize, mut object: Map<String, Value>) -> Result<Question, String> {
    let expected: Vec<String> = match object.remove("expected") {
        Some(value) => parse_field("expected", value)?,
        None => {
            let wanted =
                "a list of ids, keys or whole texts; [] where nothing answers the question";
            return Err(Invalid::new("expected", "", wanted).to_string());
        }
    };
    let different: BTreeSet<&String> = expected.iter().collect();
    if different.len() < expected.len() || expected.iter().any(|entry| entry.trim().is_empty()) {
        let shown = serde_json::to_string(&expected).unwrap_or_default();
        return Err(Invalid::new("expected", shown, "different, visible entries").to_string());
    }
    let versions: Vec<String> = object
        .remove("versions")
        .map_or(Ok(Vec::new()), |value| parse_field("versions", value))?;
    if !versions.is_empty() && expected.iter().any(|entry| !versions.contains(entry)) {
        let shown = serde_json::to_string(&versions).unwrap_or_default();
        let wanted = "all entries of expected, and the other versions of the same fact";
        return Err(Invalid::new("versions", shown, wanted).to_string());
    }
    let group = object
        .remove("group")
        .map_or(Ok(NO_GROUP.to_owned()), |value| parse_field("group", value))?;
    validate::text("group", &group, validate::MAX_NAME_BYTES).map_err(|error| error.to_string())?;
    if let Some(name) = FIXED.iter().find(|name| object.contains_key(**name)) {
        let value = object[*name].to_string();
        return Err(Invalid::new(
            *name,
            value,
            "none: ten memories are asked for, with all of their text",
        )
        .to_string());
    }
    let ask: RecallParams = parse_field("", Value::Object(object))?;
    check_filters(&ask).map_err(|error| error.to_string())?;
    Ok(Question {
        line,
        group,
        expected,
        versions,
        ask,
    })
}

fn check_filters(ask: &RecallParams) -> Result<(), Invalid> {
    validate::text(
        "query",
        ask.query.as_deref().unwrap_or_default(),
        validate::MAX_CONTENT_BYTES,
    )?;
    validate::tags("tags", &ask.tags)?;
    for (field, time) in [
        ("since", &ask.since),
        ("until", &ask.until),
        ("as_of", &ask.as_of),
    ] {
        if let Some(time) = time {
            validate::time(field, time)?;
        }
    }
    Ok(())
}

/// Reads memories: the fields of an item of `remember`, and a `key`.
///
/// # Errors
/// All mistakes of the file.
pub fn read_corpus(file: &str, text: &str) -> Result<Vec<CorpusItem>, Mistakes> {
    let mut reader = Reader {
        file,
        mistakes: Vec::new(),
    };
    let mut items: Vec<CorpusItem> = Vec::new();
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    for (line, object) in reader.parse_objects(text) {
        let read = match parse_memory(line, object) {
            Ok(read) => read,
            Err(what) => {
                reader.note_mistake(line, what);
                continue;
            }
        };
        for (field, references) in [("sources", &read.sources), ("supersedes", &read.supersedes)] {
            if let Some(unknown) = references.iter().find(|key| !keys.contains_key(*key)) {
                reader.note_mistake(line, Invalid::new(field, unknown, "keys of earlier lines"));
            }
        }
        if let Some(key) = &read.key
            && let Some(first) = keys.insert(key.clone(), line)
        {
            reader.note_mistake(
                line,
                Invalid::new(
                    "key",
                    key,
                    format!("another key; line {first} has this one"),
                ),
            );
        }
        items.push(read);
    }
    reader.finish_reading(items)
}

fn parse_memory(line: usize, mut object: Map<String, Value>) -> Result<CorpusItem, String> {
    let key: Option<String> = object
        .remove("key")
        .map(|value| parse_field("key", value))
        .transpose()?;
    let mut item: RememberItem = parse_field("", Value::Object(object))?;
    if let Some(key) = &key {
        validate::text("key", key, validate::MAX_NAME_BYTES).map_err(|error| error.to_string())?;
        item.metadata.insert("key".to_owned(), key.as_str().into());
    }
    let key = key.or_else(|| {
        item.metadata
            .get("key")
            .and_then(Value::as_str)
            .map(str::to_owned)
    });
    let (sources, supersedes) = (
        std::mem::take(&mut item.sources),
        std::mem::take(&mut item.supersedes),
    );
    Ok(CorpusItem {
        line,
        key,
        item,
        sources,
        supersedes,
    })
}

/// Checks that the corpus has all expected memories.
///
/// # Errors
/// Names each question without them.
pub fn match_corpus(
    file: &str,
    questions: &[Question],
    corpus: &[CorpusItem],
) -> Result<(), Mistakes> {
    let mut names: BTreeSet<&str> = corpus
        .iter()
        .filter_map(|item| item.key.as_deref())
        .collect();
    names.extend(corpus.iter().map(|item| item.item.content.as_str()));
    let mut reader = Reader {
        file,
        mistakes: Vec::new(),
    };
    for question in questions {
        for unknown in question
            .expected
            .iter()
            .filter(|entry| !names.contains(entry.as_str()))
        {
            reader.note_mistake(
                question.line,
                Invalid::new(
                    "expected",
                    unknown,
                    "the key or the whole text of a memory of the corpus",
                ),
            );
        }
    }
    reader.finish_reading(Vec::<()>::new()).map(drop)
}

/// Parses a value, or describes its problem, in `field`.
fn parse_field<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = match (field, path.as_str()) {
            (field, ".") => field.to_owned(),
            ("", path) => path.to_owned(),
            (field, path) => format!("{field}{path}"),
        };
        let inner = error.into_inner();
        if place.is_empty() {
            inner.to_string()
        } else {
            format!("{place}: {inner}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_its_filters() {
        let text = "\n{\"query\":\"tea\",\"expected\":[\"a\"],\"group\":\"keyword\",\"tags\":[\"x\"],\"since\":\"2026-03-01\"}\n\
                    {\"query\":\"gin\",\"expected\":[]}";
        let questions = read_questions("q", text).unwrap();
        assert_eq!(
            (questions[0].line, questions[0].group.as_str()),
            (2, "keyword")
        );
        assert_eq!(
            (&questions[0].ask.tags, questions[0].ask.since.as_deref()),
            (&vec!["x".to_owned()], Some("2026-03-01"))
        );
        assert_eq!(
            (questions[1].group.as_str(), questions[1].expected.len()),
            ("other", 0)
        );
    }

    #[test]
    fn every_line_with_a_mistake_is_told() {
        let lines = [
            ("{", "no JSON"),
            ("[1]", "a JSON object"),
            (r#"{"query":"a"}"#, "expected: expected a list of ids"),
            (
                r#"{"query":"a","expected":"b"}"#,
                "expected: invalid type: string \"b\", expected a sequence",
            ),
            (
                r#"{"query":"a","expected":[1]}"#,
                "expected[0]: invalid type: integer `1`, expected a string",
            ),
            (r#"{"query":"a","expected":["b","b"]}"#, "different"),
            (r#"{"query":" ","expected":[]}"#, "query: expected "),
            (
                r#"{"query":"a","expected":[],"limit":3}"#,
                "limit: expected ",
            ),
            (
                r#"{"query":"a","expected":[],"tag":"x"}"#,
                "unknown field `tag`, expected one of",
            ),
            (
                r#"{"query":"a","expected":[],"kinds":["memo"]}"#,
                "kinds[0]: unknown variant `memo`",
            ),
            (
                r#"{"query":"a","expected":[],"until":"May"}"#,
                "until: expected ",
            ),
        ];
        let text: Vec<&str> = lines.iter().map(|(line, _)| *line).collect();
        let mistakes = read_questions("q.jsonl", &text.join("\n")).unwrap_err().0;
        assert_eq!(mistakes.len(), lines.len(), "{mistakes:#?}");
        for (index, (mistake, (_, words))) in mistakes.iter().zip(lines).enumerate() {
            assert!(
                mistake.starts_with(&format!("q.jsonl line {}: ", index + 1))
                    && mistake.contains(words),
                "{mistake}"
            );
        }
        assert!(
            read_questions("q", "\n")
                .unwrap_err()
                .to_string()
                .contains("the file is empty")
        );
    }

    #[test]
    fn memories_are_known_by_their_keys() {
        let text = "{\"key\":\"a\",\"content\":\"old\"}\n{\"content\":\"new\",\"supersedes\":[\"a\"],\"metadata\":{\"key\":\"b\"}}";
        let corpus = read_corpus("c", text).unwrap();
        assert_eq!(corpus[0].item.metadata["key"], "a");
        assert_eq!(
            (corpus[1].key.as_deref(), &corpus[1].supersedes),
            (Some("b"), &vec!["a".to_owned()])
        );
        let questions =
            read_questions("q", "{\"query\":\"x\",\"expected\":[\"b\",\"old\"]}").unwrap();
        assert_eq!(match_corpus("q", &questions, &corpus), Ok(()));
        let questions = read_questions("q", "{\"query\":\"x\",\"expected\":[\"c\"]}").unwrap();
        let mistakes = match_corpus("q", &questions, &corpus)
            .unwrap_err()
            .to_string();
        assert!(
            mistakes.contains("q line 1: expected: expected the key"),
            "{mistakes}"
        );
        let wrong = "{\"key\":\"a\",\"content\":\"x\"}\n{\"key\":\"a\",\"content\":\"y\"}\n{\"content\":\"z\",\"sources\":[\"q\"]}";
        let mistakes = read_corpus("c", wrong).unwrap_err().0;
        assert!(
            mistakes[0].contains("line 1 has this one")
                && mistakes[1].contains("keys of earlier lines"),
            "{mistakes:?}"
        );
    }
}
