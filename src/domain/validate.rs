//! Limits on stored data and queries. Every refusal names the field, the value and what is expected.

use std::fmt::Display;

use chrono::{DateTime, Days, Utc};
use serde_json::{Map, Value};

use super::count::count_of;
use super::invisible::{disguising_character, has_visible_character};
use super::kind::Kind;
use super::moment;

/// Expected of a text that shows nothing.
const VISIBLE: &str = "text with at least one visible character";
/// Maximum number of memories in one `remember`.
pub const MAX_BATCH: usize = 500;
/// Maximum length of content in bytes of UTF-8.
pub const MAX_CONTENT_BYTES: usize = 64 * 1024;
/// Maximum length of situation and lesson in bytes.
pub const MAX_EPISODE_BYTES: usize = 16 * 1024;
/// Maximum number of tags of a memory.
pub const MAX_TAGS: usize = 32;
/// Maximum length of a tag in bytes.
pub const MAX_TAG_BYTES: usize = 128;
/// Maximum length of session, speaker, and idempotency key in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// Maximum length of a reason in bytes.
pub const MAX_REASON_BYTES: usize = 2_000;
/// Maximum number of sources, superseded memories, and IDs of a call.
pub const MAX_IDS: usize = 200;
/// Maximum length of metadata as JSON text in bytes.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Maximum nesting depth of metadata.
pub const MAX_METADATA_DEPTH: usize = 8;
/// Maximum number of entities and relations of one call.
pub const MAX_LINKS: usize = 1_000;
/// Maximum number of entities, and of relations, of one memory.
pub const MAX_MENTIONS: usize = 50;
/// Maximum number of entities and relations of all memories of one call.
pub const MAX_MENTIONS_AT_ONCE: usize = 5_000;
/// Maximum number of hits of one recall.
pub const MAX_LIMIT: usize = 100;
/// Maximum length of a query in characters; the rest is cut, with a note.
pub const MAX_QUERY_CHARS: usize = 10_000;
/// Maximum number of characters of a refused value that are shown.
const SHOWN_CHARS: usize = 60;

/// Maximum number of problems that one refusal names in addition to the first; the others are counted.
const MAX_FURTHER: usize = 19;

/// A refused value. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe_all())]
pub struct Invalid {
    /// Path of the field, for example `items[3].tags[0]`.
    pub field: String,
    /// The value, shortened and quoted.
    pub value: String,
    /// The accepted values.
    pub expected: String,
    /// The rule that was broken, if the refusal is about more than one argument.
    pub rule: Option<Box<Rule>>,
    /// Further refused values of the same call, without further ones of their own.
    pub further: Box<[Invalid]>,
    /// Number of problems that are not listed.
    pub omitted: usize,
}

/// A rule about several arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// A sentence that states more than value and expectation.
    sentence: Option<String>,
    /// Names of the other arguments that the rule reads.
    others: &'static [&'static str],
}

/// Collects all refusals of a call, so that its caller can correct them at once.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Invalid>,
    omitted: usize,
}

impl Problems {
    /// Returns the accepted value. For a refused one, records the problem and returns a placeholder that is never
    /// used: [`Problems::refuse_if_any`] ends the call.
    pub fn accept<T: Default>(&mut self, result: Result<T, Invalid>) -> T {
        result.unwrap_or_else(|invalid| {
            self.note(invalid);
            T::default()
        })
    }

    /// Records the problem of a check without a result.
    pub fn check(&mut self, result: Result<(), Invalid>) {
        self.accept(result);
    }

    /// Adds a problem.
    pub fn note(&mut self, mut invalid: Invalid) {
        let further = std::mem::take(&mut invalid.further).into_vec();
        self.omitted += std::mem::take(&mut invalid.omitted);
        for problem in std::iter::once(invalid).chain(further) {
            if self.found.len() > MAX_FURTHER {
                self.omitted += 1;
            } else {
                self.found.push(problem);
            }
        }
    }

    /// Ends the call if a value was refused.
    ///
    /// # Errors
    /// The first problem, which contains the others.
    pub fn refuse_if_any(self) -> Result<(), Invalid> {
        let mut found = self.found.into_iter();
        let Some(first) = found.next() else {
            return Ok(());
        };
        Err(Invalid {
            further: found.collect(),
            omitted: self.omitted,
            ..first
        })
    }
}

impl Invalid {
    /// Creates a refusal of a value; long values are shortened.
    #[must_use]
    pub fn new(
        field: impl Into<String>,
        value: impl AsRef<str>,
        expected: impl Into<String>,
    ) -> Self {
        let value = value.as_ref();
        let short: String = value.chars().take(SHOWN_CHARS).collect();
        let dots = if short.len() < value.len() { "…" } else { "" };
        Self {
            field: field.into(),
            value: if is_number(value) {
                value.to_owned()
            } else {
                format!("{short:?}{dots}")
            },
            expected: expected.into(),
            rule: None,
            further: Box::default(),
            omitted: 0,
        }
    }

    /// Refuses a field that only memories of another kind have.
    #[must_use]
    pub fn only_for(wanted: Kind, kind: Kind, field: &str, value: &str) -> Self {
        let article = |kind: Kind| {
            if matches!(kind, Kind::Insight | Kind::Episode) {
                "an"
            } else {
                "a"
            }
        };
        let rule = format!(
            "`{field}` is only allowed on memories of kind {wanted}; this one is {} {kind}",
            article(kind)
        );
        Self::new(field, value, format!("no {field} for kind {kind}"))
            .depending_on(&["kind"])
            .explained_by(rule)
    }

    /// Returns the refusal, described by a sentence instead of value and expectation.
    #[must_use]
    pub fn explained_by(mut self, sentence: impl Into<String>) -> Self {
        self.rule.get_or_insert_default().sentence = Some(sentence.into());
        self
    }

    /// States that the broken rule also reads `others`, which are other arguments.
    #[must_use]
    pub fn depending_on(mut self, others: &'static [&'static str]) -> Self {
        self.rule.get_or_insert_default().others = others;
        self
    }

    /// Returns the refused argument and those that the rule reads, as paths.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        let outer = self
            .field
            .rsplit_once('.')
            .map(|(outer, _)| format!("{outer}."))
            .unwrap_or_default();
        let others = self.rule.as_ref().map_or(&[][..], |rule| rule.others);
        std::iter::once(self.field.clone())
            .chain(others.iter().map(move |other| format!("{outer}{other}")))
    }

    /// Renames the argument to the name that the caller uses.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        for problem in std::iter::once(&mut self.field)
            .chain(self.further.iter_mut().map(|problem| &mut problem.field))
        {
            rename_field(problem, from, to);
        }
        self
    }

    /// Describes this problem alone in a sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        let (field, value) = (&self.field, &self.value);
        if let Some(sentence) = self.rule.as_ref().and_then(|rule| rule.sentence.as_ref()) {
            return format!("{field}: {sentence}");
        }
        match self.expected.split_once("; ") {
            Some((expected, advice)) => {
                format!("{field}: expected {expected}, got {value}; {advice}")
            }
            None => format!("{field}: expected {}, got {value}", self.expected),
        }
    }

    fn describe_all(&self) -> String {
        if self.further.is_empty() {
            return self.describe();
        }
        let mut sentences: Vec<String> = self.all().map(Self::describe).collect();
        if self.omitted > 0 {
            let more = count_of(self.omitted as u64, "more problem");
            sentences.push(format!("and {more}"));
        }
        format!(
            "{} problems: {}",
            self.further.len() + 1 + self.omitted,
            sentences.join("; ")
        )
    }

    /// Returns all problems, this one first.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.further)
    }

    /// Prefixes the field with `outer`, for example `items[3]`.
    #[must_use]
    pub fn within(mut self, outer: impl Display) -> Self {
        self.field = format!("{outer}.{}", self.field);
        for problem in &mut self.further {
            problem.field = format!("{outer}.{}", problem.field);
        }
        self
    }
}

/// Replaces `from` at the beginning of a path, with the index after it, by `to`.
pub fn rename_field(field: &mut String, from: &str, to: &str) {
    let index = |rest: &str| rest.starts_with('[') && rest.find(']') == Some(rest.len() - 1);
    if field
        .strip_prefix(from)
        .is_some_and(|rest| rest.is_empty() || index(rest))
    {
        to.clone_into(field);
    }
}

/// Returns whether a value is a number, which is shown without quotation marks.
fn is_number(value: &str) -> bool {
    value.len() <= SHOWN_CHARS && value.parse::<f64>().is_ok_and(f64::is_finite)
}

/// A text that is to be stored: it shows something, and [`text`] accepts it.
///
/// # Errors
/// [`Invalid`] names the problem.
pub fn new_text(field: &str, value: &str, max: usize) -> Result<(), Invalid> {
    text(field, value, max)?;
    if has_visible_character(value) {
        return Ok(());
    }
    Err(Invalid::new(field, value, VISIBLE))
}

/// A name that is to be stored, such as a tag, a session or an entity. Names that were stored earlier are looked up with
/// [`text`].
///
/// # Errors
/// [`Invalid`] names the problem, which may be a character that nobody sees.
pub fn new_name(field: &str, value: &str, max: usize) -> Result<(), Invalid> {
    new_text(field, value, max)?;
    let Some(sign) = disguising_character(value) else {
        return Ok(());
    };
    let expected = format!(
        "a name without invisible characters; remove U+{:04X}",
        u32::from(sign)
    );
    Err(Invalid::new(field, value, expected))
}

/// An optional name that is to be stored.
///
/// # Errors
/// As [`new_name`].
pub fn new_optional_name(field: &str, value: Option<&str>, max: usize) -> Result<(), Invalid> {
    value.map_or(Ok(()), |value| new_name(field, value, max))
}

/// A text that may have been stored already: not blank, no NUL, at most `max` bytes.
///
/// # Errors
/// [`Invalid`] names what is wrong.
pub fn text(field: &str, value: &str, max: usize) -> Result<(), Invalid> {
    if value.contains('\0') {
        return Err(Invalid::new(field, value, "text without NUL characters"));
    }
    if value.trim().is_empty() {
        return Err(Invalid::new(field, value, VISIBLE));
    }
    if value.len() > max {
        // Only a long text can be stored in several parts.
        let advice = if max >= MAX_EPISODE_BYTES {
            "; split it into several"
        } else {
            ""
        };
        let expected = format!(
            "at most {max} bytes of UTF-8 text instead of {}{advice}",
            value.len()
        );
        return Err(Invalid::new(field, value, expected));
    }
    Ok(())
}

/// Checks a number between `low` and `high`, inclusive.
///
/// # Errors
/// Fails also for NaN and infinities.
pub fn number(field: &str, value: f64, low: f64, high: f64) -> Result<f64, Invalid> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(Invalid::new(
            field,
            value.to_string(),
            format!("a number from {low} to {high}"),
        ))
    }
}

/// Returns the normalized form of a tag, which ignores case.
#[must_use]
pub fn tag_key(tag: &str) -> String {
    tag.to_lowercase()
}

/// Returns whether a tag is among `tags`, whatever its spelling.
#[must_use]
pub fn has_tag(tags: &[String], tag: &str) -> bool {
    let key = tag_key(tag);
    tags.iter().any(|known| tag_key(known) == key)
}

/// Tags that are to be stored: each is a [`new_name`].
///
/// # Errors
/// As [`tags`], and for invisible characters.
pub fn new_tags(field: &str, values: &[String]) -> Result<Vec<String>, Invalid> {
    let accepted = tags(field, values)?;
    let mut problems = Problems::default();
    for (index, tag) in values.iter().enumerate() {
        problems.check(new_name(&format!("{field}[{index}]"), tag, MAX_TAG_BYTES));
    }
    problems.refuse_if_any()?;
    Ok(accepted)
}

/// Returns the tags trimmed, sorted, without duplicates. Of several spellings of a tag, the first one is kept.
///
/// # Errors
/// Fails for too many, empty, or overlong tags.
pub fn tags(field: &str, values: &[String]) -> Result<Vec<String>, Invalid> {
    if values.len() > MAX_TAGS {
        return Err(Invalid::new(
            field,
            format!("{} tags", values.len()),
            format!("at most {MAX_TAGS} tags"),
        ));
    }
    let (mut tags, mut problems) = (Vec::with_capacity(values.len()), Problems::default());
    for (index, tag) in values.iter().enumerate() {
        problems.check(text(&format!("{field}[{index}]"), tag, MAX_TAG_BYTES));
        if !has_tag(&tags, tag.trim()) {
            tags.push(tag.trim().to_owned());
        }
    }
    problems.refuse_if_any()?;
    tags.sort();
    Ok(tags)
}

/// Checks the beginning of a name, which may be empty.
///
/// # Errors
/// As [`text`], except that it may be empty.
pub fn beginning(field: &str, value: &str) -> Result<(), Invalid> {
    if value.trim().is_empty() {
        Ok(())
    } else {
        text(field, value, MAX_NAME_BYTES)
    }
}

/// Checks an optional text of at most `max` bytes.
///
/// # Errors
/// As [`text`].
pub fn optional_text(field: &str, value: Option<&str>, max: usize) -> Result<(), Invalid> {
    value.map_or(Ok(()), |value| text(field, value, max))
}

/// Checks a whole number between `low` and `high`, inclusive.
///
/// # Errors
/// Fails if it is outside of that range.
pub fn whole_number(field: &str, value: usize, low: usize, high: usize) -> Result<usize, Invalid> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(Invalid::new(
            field,
            value.to_string(),
            format!("a number from {low} to {high}"),
        ))
    }
}

/// Checks the length of a list.
///
/// # Errors
/// Fails if it has more than `max` entries.
pub fn count(field: &str, found: usize, max: usize) -> Result<(), Invalid> {
    if found > max {
        Err(Invalid::new(
            field,
            format!("{found} entries"),
            format!("at most {max} entries"),
        ))
    } else {
        Ok(())
    }
}

/// Checks a JSON object for size, depth and NUL characters.
///
/// # Errors
/// Names the limit.
pub fn metadata(field: &str, value: &Map<String, Value>) -> Result<(), Invalid> {
    let size = serde_json::to_string(value).map_or(usize::MAX, |text| text.len());
    if size > MAX_METADATA_BYTES {
        return Err(Invalid::new(
            field,
            format!("{size} bytes"),
            format!("at most {MAX_METADATA_BYTES} bytes of JSON"),
        ));
    }
    if !value
        .iter()
        .all(|(key, inner)| !key.contains('\0') && clean(inner, MAX_METADATA_DEPTH - 1))
    {
        let expected = format!(
            "a JSON object nested at most {MAX_METADATA_DEPTH} deep, without NUL characters"
        );
        return Err(Invalid::new(
            field,
            serde_json::to_string(value).unwrap_or_default(),
            expected,
        ));
    }
    Ok(())
}

fn clean(value: &Value, depth: usize) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => depth > 0 && items.iter().all(|item| clean(item, depth - 1)),
        Value::Object(map) => {
            depth > 0
                && map
                    .iter()
                    .all(|(key, item)| !key.contains('\0') && clean(item, depth - 1))
        }
        _ => true,
    }
}

/// Parses a time in RFC 3339 form, a date, or another absolute form that [`moment`] reads; the default zone is UTC.
///
/// # Errors
/// Fails if the time is not readable, or not between 1970 and 2200.
pub fn time(field: &str, value: &str) -> Result<DateTime<Utc>, Invalid> {
    let expected =
        "a time such as 2026-03-01T12:00:00Z, or a date such as 2026-03-01, between 1970 and 2200";
    moment::read_absolute(value)
        .map(|moment| moment.at)
        .filter(|at| is_in_range(*at))
        .map(|time| chrono::SubsecRound::trunc_subsecs(time, 6))
        .ok_or_else(|| Invalid::new(field, value, expected))
}

/// The word for no end.
pub const NEVER: &str = "never";

/// Parses an end like [`time`]; the word [`NEVER`] means no end.
///
/// # Errors
/// As [`time`].
pub fn end_time(field: &str, value: Option<&str>) -> Result<Option<DateTime<Utc>>, Invalid> {
    value
        .filter(|end| *end != NEVER)
        .map(|end| time(field, end))
        .transpose()
}

/// Returns whether both databases and all formats support a time.
#[must_use]
pub fn is_in_range(at: DateTime<Utc>) -> bool {
    (1970..2200).contains(&chrono::Datelike::year(&at))
}

/// Parses the time of an event like [`time`]. It may be at most a day after `now`, because clocks and time zones
/// differ.
///
/// # Errors
/// As [`time`], and for a later time.
pub fn past_time(field: &str, value: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Invalid> {
    let at = time(field, value)?;
    if now
        .checked_add_days(Days::new(1))
        .is_some_and(|limit| at > limit)
    {
        let expected =
            "a time that is not in the future; put plans into the content, or set valid_until";
        return Err(Invalid::new(field, value, expected));
    }
    Ok(at)
}

/// Parses a point in time for `as_of` like [`time`].
///
/// # Errors
/// As [`time`], and for a time after `now`.
pub fn moment(field: &str, value: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Invalid> {
    let at = time(field, value)?;
    if at > now {
        return Err(Invalid::new(
            field,
            value,
            "a time that is not in the future",
        ));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_problem_is_described_alone() {
        let mut problems = Problems::default();
        assert_eq!(
            problems.accept(number("weight", 0.5, 0.0, 1.0)).to_bits(),
            0.5_f64.to_bits()
        );
        problems.accept(number("weight", 2.0, 0.0, 1.0));
        let invalid = problems.refuse_if_any().unwrap_err();
        assert_eq!(
            invalid.to_string(),
            "weight: expected a number from 0 to 1, got 2"
        );
        assert_eq!(Problems::default().refuse_if_any(), Ok(()));
    }

    #[test]
    fn every_problem_is_named_with_its_place() {
        let mut item = Problems::default();
        item.accept(text("content", "", 9));
        item.accept(number("importance", 7.0, 0.0, 1.0));
        let mut call = Problems::default();
        call.note(item.refuse_if_any().unwrap_err().within("items[1]"));
        call.note(Invalid::new("key", "", "a key"));
        let invalid = call.refuse_if_any().unwrap_err();
        let fields: Vec<&str> = invalid
            .all()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(fields, ["items[1].content", "items[1].importance", "key"]);
        assert!(
            invalid
                .to_string()
                .starts_with("3 problems: items[1].content: "),
            "{invalid}"
        );
    }

    #[test]
    fn many_problems_are_counted() {
        let mut problems = Problems::default();
        for index in 0..500 {
            problems.note(Invalid::new(format!("items[{index}]"), "", "text"));
        }
        let invalid = problems.refuse_if_any().unwrap_err();
        assert_eq!((invalid.all().count(), invalid.omitted), (20, 480));
        assert!(
            invalid.to_string().starts_with("500 problems: ")
                && invalid.to_string().ends_with("and 480 more problems")
        );
    }
}
