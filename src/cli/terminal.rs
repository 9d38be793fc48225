//! Formats memories for a terminal: fits lines to its width, and uses colors if it supports them. In a pipe, lines are
//! not wrapped and nothing is colored. `NO_COLOR` and `CLICOLOR=0` are respected.

use std::io::IsTerminal;

use serde_json::Value;

use self::wrap::{fit, width, wrap};
use crate::domain::reference::short_id;

mod wrap;

/// Width if the output is not a terminal.
const PLAIN_WIDTH: usize = 100;
/// Maximum width, because wider lines are hard to read.
const WIDEST: usize = 120;
const NARROWEST: usize = 30;
/// Maximum columns of tags in a list.
const WIDEST_TAGS: usize = 24;
/// Maximum columns of a memory's text in a list that is not printed to a terminal, because a hook or another program
/// reads it.
const WIDEST_TEXT: usize = 1_000;

/// The destination of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    width: usize,
    wrap: bool,
    colour: bool,
}

impl Terminal {
    pub(super) fn of_stdout() -> Self {
        Self::of_console(std::io::stdout().is_terminal(), &console::Term::stdout())
    }

    pub(super) fn of_stderr() -> Self {
        Self::of_console(std::io::stderr().is_terminal(), &console::Term::stderr())
    }

    fn of_console(terminal: bool, console: &console::Term) -> Self {
        let width = if terminal {
            usize::from(console.size().1)
        } else {
            PLAIN_WIDTH
        };
        Self {
            width: width.clamp(NARROWEST, WIDEST),
            wrap: terminal,
            colour: terminal && may_colour(),
        }
    }

    #[cfg(test)]
    fn plain(width: usize) -> Self {
        Self {
            width,
            wrap: true,
            colour: false,
        }
    }

    fn paint_text(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.paint_text("1", text)
    }

    pub(super) fn dim(&self, text: &str) -> String {
        self.paint_text("2", text)
    }

    pub(super) fn good(&self, text: &str) -> String {
        self.paint_text("32", text)
    }

    pub(super) fn bad(&self, text: &str) -> String {
        self.paint_text("31", text)
    }

    /// Returns the label of an error, in the style of the argument parser.
    pub(super) fn error_label(&self, label: &str) -> String {
        self.paint_text("1;31", label)
    }

    /// Returns the label of a warning.
    pub(super) fn warning_label(&self, label: &str) -> String {
        self.paint_text("1;33", label)
    }

    pub(super) fn warning(&self, text: &str) -> String {
        self.paint_text("33", text)
    }

    /// Wraps text to lines that fit, each indented by `indent` columns.
    pub(super) fn block(&self, text: &str, indent: usize) -> String {
        let space = " ".repeat(indent);
        let room = self.width.saturating_sub(indent).max(NARROWEST / 2);
        let mut out = String::new();
        for line in visible(text).lines() {
            let pieces = if self.wrap {
                wrap(line, room)
            } else {
                vec![line.to_owned()]
            };
            for piece in pieces {
                out.push_str(format!("{space}{piece}").trim_end());
                out.push('\n');
            }
        }
        out
    }

    /// A labelled message, whose further lines on a terminal begin behind the label.
    pub(super) fn labelled(&self, painted: &str, label: &str, text: &str) -> String {
        if !self.wrap || text.contains('\n') {
            return format!("{painted} {text}");
        }
        let block = self.block(text, width(label) + 1);
        format!("{painted} {}", block.trim())
    }

    /// Formats hits of a recall, each with its text and the explanation, if the answer has one.
    pub(super) fn hits(&self, answer: &Value) -> String {
        let mut out = self.notes(answer);
        for (index, hit) in entries(answer, "hits").enumerate() {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&format!(
                "{} {}\n",
                self.bold(&format!("{:>2}.", index + 1)),
                self.format_head(hit)
            ));
            out.push_str(&self.format_body(hit, 4));
            if hit["cut"] == true {
                out.push_str(&self.dim(&self.block("… shortened; `show` prints all of it", 4)));
            }
            if let Some(similar) = hit["similar"].as_u64() {
                out.push_str(&self.dim(&self.block(&format!("+{similar} similar"), 4)));
            }
            if hit["why"].is_object() {
                out.push_str(&self.dim(&self.block(&format_reasons(&hit["why"]), 4)));
            }
        }
        out
    }

    /// Formats one line per memory, under a heading.
    pub(super) fn rows(&self, answer: &Value) -> String {
        let mut out = self.notes(answer);
        let hits: Vec<&Value> = entries(answer, "hits").collect();
        if hits.is_empty() {
            return if out.is_empty() {
                "No memories.\n".to_owned()
            } else {
                out
            };
        }
        let tags: Vec<String> = hits.iter().map(|hit| tags_of(hit)).collect();
        let widest = tags
            .iter()
            .map(|tags| width(tags))
            .max()
            .unwrap_or_default();
        let most = if self.wrap {
            WIDEST_TAGS.min(self.width / 4)
        } else {
            WIDEST_TAGS
        };
        let column = if widest == 0 {
            0
        } else {
            widest.clamp("TAGS".len(), most)
        };
        let head = [("ID", 8), ("DATE", 10), ("KIND", 8), ("TAGS", column)];
        let head: String = head
            .iter()
            .filter(|(_, room)| *room > 0)
            .map(|(name, room)| pad(name, *room) + " ")
            .collect();
        let room = if self.wrap {
            self.width.saturating_sub(width(&head))
        } else {
            WIDEST_TEXT
        };
        out.push_str(&self.bold(&format!("{head}TEXT")));
        out.push('\n');
        for (hit, tags) in hits.into_iter().zip(tags) {
            let id = pad(short_id(hit["id"].as_str().unwrap_or_default()), 8);
            let kind = pad(hit["kind"].as_str().unwrap_or_default(), 8);
            let labels = if column == 0 {
                String::new()
            } else {
                pad(&fit(&tags, column), column) + " "
            };
            let text = one_line(hit["content"].as_str().unwrap_or_default());
            let (id, kind, labels) = (
                self.dim(&id),
                self.paint_text(kind_colour(hit), &kind),
                self.paint_text("36", &labels),
            );
            let line = format!(
                "{id} {} {kind} {labels}{}",
                pad(&memory_date(hit), 10),
                fit(&text, room)
            );
            out.push_str(line.trim_end());
            out.push('\n');
        }
        if let Some(cursor) = answer["next_cursor"].as_str() {
            out.push_str(&self.dim(&format!("More: list --cursor {cursor}\n")));
        }
        out
    }

    /// Formats the counts of the memory.
    pub(super) fn status(&self, answer: &Value) -> String {
        let number = |name: &str| answer[name].as_u64().unwrap_or_default();
        let kinds = answer["by_kind"].as_object().into_iter().flatten();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let kinds = if kinds.is_empty() {
            String::new()
        } else {
            format!(" ({})", kinds.join(", "))
        };
        let readable: Vec<&str> = strings(&answer["readable_projects"]).collect();
        let get = |name: &str| string_field(answer, name).unwrap_or_default();
        let reviews = match number("open_reviews") {
            0 => "none".to_owned(),
            count => format!("{count}; `review list` shows them"),
        };
        // Without a model there is nothing to embed.
        let to_embed = string_field(answer, "model")
            .map(|_| number("index_backlog").to_string())
            .unwrap_or_default();
        let facts = [
            ("project", get("project")),
            (
                "also reads",
                if readable.len() > 1 {
                    readable.join(", ")
                } else {
                    String::new()
                },
            ),
            ("memories", format!("{}{kinds}", number("memories"))),
            ("superseded", number("superseded").to_string()),
            ("deleted", number("deleted").to_string()),
            ("tags", format_values(&answer["tags"])),
            ("sessions", format_values(&answer["sessions"])),
            ("speakers", format_values(&answer["speakers"])),
            ("entities", format_values(&answer["entity_types"])),
            ("reviews", reviews),
            (
                "embedding",
                string_field(answer, "model")
                    .unwrap_or_else(|| "none: recall by words alone".to_owned()),
            ),
            ("to embed", to_embed),
            (
                "database",
                format!(
                    "{} {}, schema {}",
                    get("database"),
                    get("database_version"),
                    answer["schema_version"]
                ),
            ),
            ("version", get("version")),
        ];
        let mut out = self.notes(answer);
        for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
            let block = self.block(fact, 12);
            out.push_str(&format!(
                "{}{}",
                self.dim(&pad(name, 12)),
                block.trim_start()
            ));
        }
        out
    }

    /// Formats values with the number of their memories, most frequent first.
    pub(super) fn counts(&self, counts: &Value, heading: &str, none: &str) -> String {
        let rows: Vec<(u64, &str)> = entries(counts, "top")
            .map(|value| {
                (
                    value["count"].as_u64().unwrap_or_default(),
                    value["value"].as_str().unwrap_or_default(),
                )
            })
            .collect();
        if rows.is_empty() {
            return format!("{none}\n");
        }
        let mut out = self.bold(&format!("{:>8} {heading}", "MEMORIES")) + "\n";
        for (count, value) in rows {
            out.push_str(&format!("{count:>8} {}\n", one_line(value)));
        }
        if let Some(more) = counts["more"].as_u64() {
            out.push_str(&self.dim(&format!("and {more} more\n")));
        }
        out
    }

    /// Formats entities, one per line.
    pub(super) fn entities(&self, answer: &Value) -> String {
        let rows: Vec<(String, String)> = entries(answer, "entities")
            .map(|entity| {
                let get = |name: &str| one_line(entity[name].as_str().unwrap_or_default());
                (get("type"), get("name"))
            })
            .collect();
        if rows.is_empty() {
            return "No entities.\n".to_owned();
        }
        let column = rows
            .iter()
            .map(|(kind, _)| width(kind))
            .max()
            .unwrap_or_default()
            .clamp("TYPE".len(), WIDEST_TAGS);
        let mut out = self.bold(&format!("{} NAME", pad("TYPE", column))) + "\n";
        for (kind, name) in rows {
            out.push_str(&format!(
                "{} {name}\n",
                self.paint_text("36", &pad(&fit(&kind, column), column))
            ));
        }
        if answer["partial"] == true {
            out.push_str(
                &self.dim("There are more: raise --limit, or give the beginning of the names.\n"),
            );
        }
        out
    }

    /// Formats the lines in which two texts differ, each with a sign before it.
    pub(super) fn difference(&self, old: &str, new: &str, indent: usize) -> String {
        let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
        let start = old
            .iter()
            .zip(&new)
            .take_while(|(old, new)| old == new)
            .count();
        let ends = old[start..].iter().rev().zip(new[start..].iter().rev());
        let end = ends.take_while(|(old, new)| old == new).count();
        let mut out = String::new();
        for (sign, code, lines) in [
            ('-', "31", &old[start..old.len() - end]),
            ('+', "32", &new[start..new.len() - end]),
        ] {
            for line in lines {
                let block = self.block(&format!("{sign} {}", shown(line)), indent);
                out.push_str(&self.paint_text(code, block.trim_end_matches('\n')));
                out.push('\n');
            }
        }
        out
    }

    /// Formats both texts of an edit that came too late.
    pub(super) fn conflict(&self, now: &str, typed: &str) -> String {
        let difference = self.difference(now, typed, 0);
        format!(
            "{}\n{}\n{difference}",
            self.bold("- the text as it is now"),
            self.bold("+ your text")
        )
    }

    /// Formats all fields of a memory.
    pub(super) fn whole(&self, answer: &Value) -> String {
        let mut out = String::new();
        for memory in entries(answer, "memories") {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&format!("{}\n", self.format_head(memory)));
            out.push_str(&self.format_body(memory, 2));
            let facts = [
                ("id", string_field(memory, "id")),
                (
                    "importance",
                    memory["importance"].as_f64().map(|n| n.to_string()),
                ),
                (
                    "stored",
                    string_field(memory, "created_at").map(|at| moment(&at)),
                ),
                (
                    "changed",
                    string_field(memory, "updated_at")
                        .map(|at| format!("{}, version {}", moment(&at), memory["version"])),
                ),
                ("valid until", string_field(memory, "valid_until")),
                ("replaced by", string_field(memory, "superseded_by")),
                (
                    "protected",
                    memory["protected"]
                        .as_bool()
                        .filter(|is_so| *is_so)
                        .map(|_| "yes".to_owned()),
                ),
                (
                    "deleted",
                    string_field(memory, "deleted_at").map(|at| moment(&at)),
                ),
                (
                    "sources",
                    Some(strings(&memory["sources"]).collect::<Vec<_>>().join(", "))
                        .filter(|s| !s.is_empty()),
                ),
                ("metadata", memory.get("metadata").map(Value::to_string)),
            ];
            for (name, fact) in facts {
                if let Some(fact) = fact {
                    out.push_str(&format!(
                        "  {} {}\n",
                        self.dim(&format!("{name:<11}")),
                        visible(&fact)
                    ));
                }
            }
            let id = memory["id"].as_str().unwrap_or_default();
            for change in entries(answer, "history").filter(|change| change["id"] == id) {
                out.push_str(&self.format_change(change));
            }
        }
        self.notes(answer) + &out
    }

    fn format_change(&self, change: &Value) -> String {
        let get = |name: &str| string_field(change, name).unwrap_or_default();
        let version = format!("  {} ", self.bold(&format!("v{}", change["version"])));
        let mut out = format!(
            "{version}{} {} by {}",
            moment(&get("at")),
            get("change"),
            visible(&get("by"))
        );
        if let Some(reason) = string_field(change, "reason") {
            out.push_str(&format!(": {}", visible(&reason)));
        }
        out.push('\n');
        for (sign, side, code) in [('-', "old", "31"), ('+', "new", "32")] {
            for (field, value) in change[side].as_object().into_iter().flatten() {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                out.push_str(
                    &self.paint_text(code, &self.block(&format!("{sign} {field}: {value}"), 5)),
                );
            }
        }
        out
    }

    /// Formats kind, time, ID and labels, on one line if they fit.
    fn format_head(&self, memory: &Value) -> String {
        let kind = memory["kind"].as_str().unwrap_or_default();
        let mut head = format!(
            "{} {}",
            self.paint_text(kind_colour(memory), kind),
            memory_date(memory)
        );
        if let Some(session) = string_field(memory, "session") {
            let turn = memory["turn"]
                .as_i64()
                .map(|turn| format!(" #{turn}"))
                .unwrap_or_default();
            head.push_str(&format!("  {}{turn}", one_line(&session)));
        }
        for tag in strings(&memory["tags"]) {
            head.push_str(&format!(
                " {}",
                self.paint_text("36", &format!("#{}", one_line(tag)))
            ));
        }
        if memory.get("deleted_at").is_some() {
            head.push_str(&format!(" {}", self.bad("deleted")));
        } else if memory.get("superseded_by").is_some() {
            head.push_str(&format!(" {}", self.warning("replaced")));
        }
        head.push_str(&format!(
            "  {}",
            self.dim(short_id(memory["id"].as_str().unwrap_or_default()))
        ));
        head
    }

    fn format_body(&self, memory: &Value, indent: usize) -> String {
        let content = memory["content"].as_str().unwrap_or_default();
        let content = match string_field(memory, "speaker") {
            Some(speaker) => format!("{speaker}: {content}"),
            None => content.to_owned(),
        };
        let mut out = self.block(&content, indent);
        if let (Some(situation), Some(lesson)) = (
            string_field(memory, "situation"),
            string_field(memory, "lesson"),
        ) {
            let outcome = memory["outcome"].as_f64().unwrap_or_default();
            out.push_str(&self.block(&format!("Situation: {situation}"), indent));
            out.push_str(&self.block(&format!("Outcome: {outcome}"), indent));
            out.push_str(&self.block(&format!("Lesson: {lesson}"), indent));
        }
        out
    }

    /// Formats notes, which come before everything else.
    pub(super) fn notes(&self, answer: &Value) -> String {
        strings(&answer["notes"])
            .map(|note| self.warning(&self.block(&format!("Note: {note}"), 0)))
            .collect()
    }
}

/// Formats the explanation of a hit.
fn format_reasons(why: &Value) -> String {
    let mut text = format!("score {:.2}", why["score"].as_f64().unwrap_or_default());
    let terms: Vec<&str> = strings(&why["terms"]).collect();
    if !terms.is_empty() {
        text.push_str(&format!(", words {}", terms.join(" ")));
    }
    if let Some(factors) = why["factors"].as_str() {
        text.push_str(&format!(", {factors}"));
    }
    text
}

/// Formats the most frequent values in one line.
fn format_values(counts: &Value) -> String {
    let mut parts: Vec<String> = entries(counts, "top")
        .map(|value| {
            format!(
                "{} {}",
                one_line(value["value"].as_str().unwrap_or_default()),
                value["count"]
            )
        })
        .collect();
    if let Some(more) = counts["more"].as_u64() {
        parts.push(format!("and {more} more"));
    }
    parts.join(", ")
}

fn tags_of(memory: &Value) -> String {
    strings(&memory["tags"])
        .map(|tag| format!("#{}", one_line(tag)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns text without line breaks and control sequences.
fn one_line(text: &str) -> String {
    visible(text)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Pads text with spaces to at least `room` columns.
fn pad(text: &str, room: usize) -> String {
    format!("{text}{}", " ".repeat(room.saturating_sub(width(text))))
}

/// Formats text of a model for the owner's terminal, where it must not be mistaken for our own output: further lines
/// are marked, and control characters and those that change the direction of writing are spelled out.
pub(super) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\n    | "),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.extend(c.escape_unicode());
            }
            c if c.is_control() => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

fn may_colour() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "a convention of terminals, no setting of ours"
    )]
    let look = |name: &str| std::env::var(name).unwrap_or_default();
    look("NO_COLOR").is_empty() && look("CLICOLOR") != "0" && look("TERM") != "dumb"
}

/// Returns the entries of an array in an object; none if there is no such array.
pub(super) fn entries<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer[name].as_array().into_iter().flatten()
}

/// Returns the strings of an array.
pub(super) fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn string_field(object: &Value, name: &str) -> Option<String> {
    object[name].as_str().map(str::to_owned)
}

fn memory_date(memory: &Value) -> String {
    memory["occurred_at"]
        .as_str()
        .unwrap_or_default()
        .chars()
        .take(10)
        .collect()
}

fn kind_colour(memory: &Value) -> &'static str {
    match memory["kind"].as_str() {
        Some("episode") => "35",
        Some("insight") => "33",
        Some("dialogue") => "34",
        _ => "32",
    }
}

/// Removes control sequences, because a memory may come from any source.
pub(super) fn visible(text: &str) -> String {
    text.replace('\t', "    ")
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect()
}

/// Formats a time without fractions of a second, which people do not need.
pub(super) fn moment(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, rest)) if rest.ends_with('Z') => format!("{seconds}Z"),
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_no_fractions() {
        for time in ["2026-11-29T04:27:15.619141Z", "2026-11-29T04:27:15Z"] {
            assert_eq!(moment(time), "2026-11-29T04:27:15Z");
        }
    }

    #[test]
    fn messages_are_wrapped_behind_their_label_on_a_terminal_only() {
        let text = "ID: expected the ID of a memory, all of it or its last 8 digits";
        assert_eq!(
            Terminal::plain(40).labelled("error:", "error:", text),
            "error: ID: expected the ID of a memory,\n       all of it or its last 8 digits"
        );
        let lines = "The configuration has 2 problems:\n  a\n  b";
        assert_eq!(
            Terminal::plain(40).labelled("error:", "error:", lines),
            format!("error: {lines}")
        );
        let pipe = Terminal {
            wrap: false,
            ..Terminal::plain(40)
        };
        assert_eq!(
            pipe.labelled("error:", "error:", text),
            format!("error: {text}")
        );
    }

    #[test]
    fn lines_fit_whatever_is_in_them() {
        let text = "A short one.\n\nThe quick brown fox jumps over the lazy dog and an-unbreakable-word-of-many-letters \
                    日本語のとても長い文章がここにあります 👍👍👍";
        for width_of_page in [30, 40, 77] {
            let block = Terminal::plain(width_of_page).block(text, 4);
            for line in block.lines() {
                assert!(width(line) <= width_of_page, "{line:?}");
                assert_eq!(line, line.trim_end());
            }
            let joined: String = block.chars().filter(|c| !c.is_whitespace()).collect();
            assert_eq!(
                joined,
                text.chars()
                    .filter(|c| !c.is_whitespace())
                    .collect::<String>()
            );
        }
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 3), "abc");
    }

    #[test]
    fn a_models_text_cannot_pass_for_ours() {
        let text = "honest\n\u{1b}[2K\u{1b}[Afake\u{9b}1A\u{202e}\r";
        let safe = shown(text);
        assert_eq!(
            safe,
            "honest\n    | \\u{1b}[2K\\u{1b}[Afake\\u{9b}1A\\u{202e}\\u{d}"
        );
    }

    #[test]
    fn a_difference_has_only_the_lines_that_differ() {
        let terminal = Terminal::plain(80);
        assert_eq!(
            terminal.difference("a\nb\nc", "a\nx\ny\nc", 2),
            "  - b\n  + x\n  + y\n"
        );
        assert_eq!(terminal.difference("a", "a", 0), "");
        assert_eq!(terminal.difference("a\na", "a\na\na", 0), "+ a\n");
        assert_eq!(terminal.difference("", "new", 0), "+ new\n");
    }

    #[test]
    fn lists_have_a_heading_and_fit_the_terminal() {
        let hit = |tags: Value| {
            serde_json::json!({ "id": "0190f3a2-0000-7000-8000-0000deadbeef", "kind": "note", "tags": tags,
                "occurred_at": "2026-03-01T12:00:00Z", "content": "Tea at four\nin the garden behind the old house" })
        };
        let answer = serde_json::json!({ "hits": [hit(serde_json::json!(["habit"])), hit(serde_json::json!([]))] });
        let rows = Terminal::plain(60).rows(&answer);
        let lines: Vec<&str> = rows.lines().collect();
        assert_eq!(lines[0], "ID       DATE       KIND     TAGS   TEXT");
        assert!(
            lines[1].starts_with("deadbeef 2026-03-01 note     #habit Tea at four in"),
            "{rows}"
        );
        assert!(lines.iter().all(|line| width(line) <= 60), "{rows}");
        let piped = Terminal {
            wrap: false,
            ..Terminal::plain(60)
        };
        assert!(
            piped.rows(&answer).contains("behind the old house\n"),
            "programs read the whole text"
        );
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(visible("a\x1b[31mb\x07\tc\u{9b}d\n"), "a[31mb    cd\n");
    }
}
