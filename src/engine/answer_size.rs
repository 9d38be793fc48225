//! Limits on answers. A caller limits the characters with `max_chars`. Other limits are independent of the caller's request:
//! the memory that an answer needs is a multiple of its text, and a large multiple if metadata and properties have many small
//! values.
//!
//! Parts of an answer are measured as JSON, which is the longer form of an answer. Texts that do not fit are shortened, so
//! that the structured content is as limited as the printed text. IDs, names and times are never shortened.

use serde::Serialize;
use serde_json::Value;

use crate::domain::ObjectText;
use crate::domain::object_text::count_containers;
use crate::domain::validate::{self, Invalid};

/// Characters of an answer of any tool except recall, unless the caller names another number.
pub(super) const DEFAULT_ANSWER_CHARS: usize = 40_000;
/// Fewest characters that a caller may ask for.
pub(super) const LEAST_MAX_CHARS: usize = 100;
/// Most characters that a caller may ask for.
pub(super) const MOST_MAX_CHARS: usize = 1_000_000;
/// Fewest characters of a shortened text.
pub(super) const LEAST_SHARE: usize = 80;
/// Smallest `max_chars` in which there is room for notes on omitted parts.
pub(super) const LEAST_NOTED: usize = 300;
/// Characters that such notes may take.
const NOTE_ROOM: usize = 200;
/// Note on shortened texts.
const SHORTENED: &str = "Texts with … are shortened, and large metadata and properties are left out; call again with a \
                         larger max_chars to read more.";
/// Note on an answer whose structured content is complete.
const PRINTED_SHORTENED: &str = "The printed text may be shortened, the structured content is complete; call again with a larger \
                                 max_chars to print more.";
/// Maximum number of objects and arrays in the memories or the history of one answer.
pub(super) const MOST_CONTAINERS: usize = 10_000;
/// Number of full memories, entities or relations that are read from the database at once.
pub(super) const PORTION: usize = 32;

/// Returns `max_chars` if an answer may have that many characters.
///
/// # Errors
/// If the number is outside of the range.
pub(super) fn check_max_chars(max_chars: usize) -> Result<usize, Invalid> {
    validate::whole_number("max_chars", max_chars, LEAST_MAX_CHARS, MOST_MAX_CHARS)
}

/// Returns the characters of `max_chars` that remain for the parts of an answer beside notes on omitted parts.
pub(super) fn room_for_parts(max_chars: usize) -> usize {
    if max_chars >= LEAST_NOTED {
        max_chars.saturating_sub(NOTE_ROOM)
    } else {
        max_chars
    }
}

/// A part of an answer whose texts can be shortened.
pub(super) trait Shorten {
    /// Shortens texts so that all together take at most `room` characters of JSON, and removes objects that do not fit.
    fn shorten(&mut self, room: usize);
}

/// Returns the length of a part of an answer in characters of JSON. A line break counts three times, because the printed text marks every line.
pub(super) fn measure(part: &impl Serialize) -> usize {
    measure_json(&serde_json::to_string(part).unwrap_or_default())
}

fn measure_json(json: &str) -> usize {
    let (mut length, mut escaped) = (0, false);
    for sign in json.chars() {
        length += if escaped && sign == 'n' { 2 } else { 1 };
        escaped = !escaped && sign == '\\';
    }
    length
}

/// Result of [`fit_parts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// Number of parts before.
    pub(super) all: usize,
    /// Number of parts that were kept.
    pub(super) kept: usize,
    /// Whether texts of the kept parts were shortened.
    pub(super) shortened: bool,
}

impl Fit {
    /// Whether parts were left out.
    pub(super) fn is_cut(self) -> bool {
        self.kept < self.all
    }

    /// Returns a note if texts were shortened.
    pub(super) fn note_shortened(self) -> Option<String> {
        self.shortened.then(|| SHORTENED.to_owned())
    }

    /// Returns a note on the number of parts that were left out, and how to read them.
    pub(super) fn note_left_out(self, what: &str, max_chars: usize) -> Option<String> {
        let Self { all, kept, .. } = self;
        self.is_cut().then(|| {
            format!(
                "{kept} of {all} {what} fit into {max_chars} characters; call again with a larger max_chars to read the \
                 others."
            )
        })
    }
}

/// Keeps as many parts as fit into `room` characters, at least the first, and shortens their texts if necessary. Texts
/// share the room evenly.
pub(super) fn fit_parts<T: Serialize + Shorten + Clone>(parts: &mut Vec<T>, room: usize) -> Fit {
    let all = parts.len();
    let lengths: Vec<usize> = parts.iter().map(measure).collect();
    if lengths.iter().sum::<usize>() <= room {
        return Fit {
            all,
            kept: all,
            shortened: false,
        };
    }
    let (mut fixed, mut least, mut texts) = (0, 0, Vec::new());
    for (part, length) in parts.iter().zip(&lengths) {
        let mut bare = part.clone();
        bare.shorten(0);
        let bare = measure(&bare);
        let text = length.saturating_sub(bare);
        least += bare + text.min(LEAST_SHARE);
        if least > room && !texts.is_empty() {
            break;
        }
        fixed += bare;
        texts.push(text);
    }
    let kept = texts.len();
    parts.truncate(kept);
    let share = even_share(&texts, room.saturating_sub(fixed)).max(LEAST_SHARE);
    let mut shortened = false;
    for (part, text) in parts.iter_mut().zip(texts) {
        if text > share {
            part.shorten(share);
            shortened = true;
        }
    }
    Fit {
        all,
        kept,
        shortened,
    }
}

/// Returns the most characters that each text may have if all together have at most `room`. Long texts get the room that
/// short texts leave over.
pub(super) fn even_share(lengths: &[usize], room: usize) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let mut left = room;
    for (index, length) in sorted.iter().enumerate() {
        let share = left / (sorted.len() - index);
        if *length > share {
            return share;
        }
        left -= length;
    }
    room
}

/// Shortens texts so that all together take at most `room` characters of JSON.
pub(super) fn shorten_texts<'a>(texts: impl IntoIterator<Item = &'a mut String>, room: usize) {
    let texts: Vec<&mut String> = texts.into_iter().collect();
    let lengths: Vec<usize> = texts.iter().map(measure).collect();
    let share = even_share(&lengths, room);
    for text in texts {
        shorten_text(text, share);
    }
}

/// Keeps the beginning of a text that takes more than `room` characters of JSON.
pub(super) fn shorten_text(text: &mut String, room: usize) {
    if measure(text) <= room {
        return;
    }
    // The quotes and the sign of the omission.
    let mut left = room.saturating_sub(3);
    let end = text.char_indices().find(|(_, sign)| {
        let length = escaped_length(*sign);
        let fits = length <= left;
        left = left.saturating_sub(length);
        !fits
    });
    text.truncate(end.map_or(text.len(), |(end, _)| end));
    text.push('…');
}

/// Returns the length of a character in JSON, as [`measure`] counts it.
fn escaped_length(sign: char) -> usize {
    match sign {
        '\n' => 3,
        '"' | '\\' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        sign if sign < ' ' => 6,
        _ => 1,
    }
}

/// Shortens a JSON value to about `room` characters: a long text keeps its beginning, the fields of an object share the
/// room, and a list that does not fit is replaced by the sign of an omission.
pub(super) fn shorten_value(value: &mut Value, room: usize) {
    if measure(value) <= room {
        return;
    }
    match value {
        Value::String(text) => shorten_text(text, room),
        Value::Object(fields) if !fields.is_empty() => {
            let lengths: Vec<usize> = fields.values().map(measure).collect();
            let share = even_share(&lengths, room);
            for field in fields.values_mut() {
                shorten_value(field, share);
            }
        }
        Value::Array(_) => *value = Value::from("…"),
        _ => {}
    }
}

/// The characters and containers that an answer may still use. The first part always fits, so that every call leads on. Its texts are shortened if the
/// caller named the limit; by default, a program reads one memory in full.
pub(super) struct Budget {
    chars: usize,
    containers: usize,
    used: bool,
    /// Whether something was refused for its number of objects and arrays alone.
    crowded: bool,
    /// Whether the first part may be shortened.
    shortens: bool,
    /// Whether the first part did not fit.
    exceeded: bool,
}

impl Budget {
    /// Creates a budget of `max_chars` for an answer.
    pub(super) fn new(max_chars: usize, shortens: bool) -> Self {
        Self {
            chars: max_chars,
            containers: MOST_CONTAINERS,
            used: false,
            crowded: false,
            shortens,
            exceeded: false,
        }
    }

    /// Whether `part` fits. The first part is shortened so that it does.
    pub(super) fn admits<T: Serialize + Shorten + Clone>(&mut self, part: &mut T) -> bool {
        let mut text = serde_json::to_string(part).unwrap_or_default();
        let (mut chars, containers) = (measure_json(&text), count_containers(&text));
        if self.used && (chars > self.chars || containers > self.containers) {
            self.crowded = chars <= self.chars;
            (self.chars, self.containers) = (0, 0);
            return false;
        }
        self.exceeded |= chars > self.chars;
        if chars > self.chars && self.shortens {
            let mut bare = part.clone();
            bare.shorten(0);
            let room = self.chars.saturating_sub(measure(&bare)).max(LEAST_SHARE);
            part.shorten(room);
            text = serde_json::to_string(part).unwrap_or_default();
            chars = measure_json(&text);
        }
        self.chars = self.chars.saturating_sub(chars);
        self.containers = self.containers.saturating_sub(containers);
        self.used = true;
        true
    }

    /// Returns the limit that refused the rest, in words.
    pub(super) fn limit(&self, max_chars: usize) -> String {
        if self.crowded {
            "one answer".to_owned()
        } else {
            format!("{max_chars} characters")
        }
    }

    /// Returns a note if texts were shortened.
    pub(super) fn note_shortened(&self) -> Option<String> {
        let note = if self.shortens {
            SHORTENED
        } else {
            PRINTED_SHORTENED
        };
        self.exceeded.then(|| note.to_owned())
    }
}

/// The remaining budget of an answer for properties of entities or relations.
pub(super) struct PropertyBudget {
    bytes: usize,
    containers: usize,
    left_out: usize,
}

impl PropertyBudget {
    /// Creates a budget for one answer.
    pub(super) fn new() -> Self {
        Self {
            bytes: MOST_MAX_CHARS / 2,
            containers: MOST_CONTAINERS / 2,
            left_out: 0,
        }
    }

    /// Removes properties that do not fit.
    pub(super) fn fit(&mut self, properties: &mut ObjectText) {
        if properties.is_empty() {
            return;
        }
        let (bytes, containers) = (properties.as_str().len(), properties.count_containers());
        if bytes > self.bytes || containers > self.containers {
            *properties = ObjectText::default();
            self.left_out += 1;
            return;
        }
        self.bytes -= bytes;
        self.containers -= containers;
    }

    /// Describes how many properties were left out, and how to read them.
    pub(super) fn note(&self, what: &str) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "The properties of {} {what} are left out because they are too large for one answer; ask for fewer \
                 at once.",
                self.left_out
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn properties(value: Value) -> ObjectText {
        let object: Map<String, Value> = serde_json::from_value(value).unwrap();
        object.into()
    }

    #[test]
    fn properties_beyond_the_budget_are_left_out_and_counted() {
        for large in [
            json!({ "text": "x".repeat(MOST_MAX_CHARS / 4) }),
            json!({ "a": vec![json!({}); MOST_CONTAINERS / 4 + 10] }),
        ] {
            let mut budget = PropertyBudget::new();
            let small = properties(json!({ "a": 1 }));
            let mut all =
                [&properties(large.clone()), &properties(large), &small].map(Clone::clone);
            all.iter_mut().for_each(|each| budget.fit(each));
            assert!(!all[0].is_empty() && all[1].is_empty());
            assert_eq!(all[2], small, "small ones still fit");
            let note = budget.note("entities").unwrap();
            assert!(note.contains("of 1 entities"), "{note}");
        }
        assert_eq!(PropertyBudget::new().note("entities"), None);
    }

    #[derive(Clone, Serialize)]
    struct Line(String);

    impl Shorten for Line {
        fn shorten(&mut self, room: usize) {
            shorten_text(&mut self.0, room);
        }
    }

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line((*text).to_owned())).collect()
    }

    #[test]
    fn texts_share_the_room_evenly() {
        assert_eq!(even_share(&[10, 500, 20], 130), 100);
        assert_eq!(even_share(&[500, 500], 100), 50);
        assert_eq!(even_share(&[10, 20], 30), 30, "everything fits");
        assert_eq!(even_share(&[10, 20], 0), 0);
        assert_eq!(even_share(&[], 5), 5);
    }

    #[test]
    fn parts_are_shortened_before_they_are_left_out() {
        let long = "lines\n of \"the\" log\u{1}".repeat(50);
        for room in (100..4_000).step_by(37) {
            let mut parts = lines(&[&long, "short", &long, &long]);
            let fit = fit_parts(&mut parts, room);
            let length: usize = parts.iter().map(measure).sum();
            assert!(length <= room, "{length} of {room}");
            assert_eq!((fit.all, fit.kept), (4, parts.len()));
            assert!(fit.kept == 4 || room < 4 * LEAST_SHARE, "{room}");
            assert_eq!(
                fit.shortened,
                parts.iter().any(|part| part.0.ends_with('…'))
            );
        }
        let mut parts = lines(&["a", "b"]);
        assert_eq!(fit_parts(&mut parts, 6).kept, 2);
        assert_eq!(
            fit_parts(&mut parts, 1).kept,
            1,
            "the first part always remains"
        );
    }

    #[test]
    fn the_first_part_is_shortened_and_the_next_one_refused() {
        let mut budget = Budget::new(100, true);
        let mut parts = lines(&[&"x".repeat(300), "more than is left"]);
        assert!(budget.admits(&mut parts[0]));
        assert!(measure(&parts[0]) <= 100 && budget.note_shortened().is_some());
        assert!(!budget.admits(&mut parts[1]));
        let mut budget = Budget::new(500, true);
        assert!(budget.admits(&mut lines(&[&"x".repeat(300)])[0]));
        assert_eq!(budget.note_shortened(), None);
    }

    #[test]
    fn a_value_keeps_its_fields() {
        let mut value =
            json!({ "content": "x".repeat(500), "tags": ["a"], "metadata": { "a": vec![1; 200] } });
        shorten_value(&mut value, 200);
        assert!(value["content"].as_str().unwrap().ends_with('…'), "{value}");
        assert_eq!(
            (&value["tags"], &value["metadata"]["a"]),
            (&json!(["a"]), &json!("…"))
        );
    }
}
