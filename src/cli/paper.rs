//! Memories on a terminal: as wide as it is, in colours where it has them. In a pipe lines are as long as they are and
//! nothing is coloured. `NO_COLOR` is honoured.

use std::io::IsTerminal;

use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::reference::short_id;

/// Width of what is no terminal.
const PLAIN_WIDTH: usize = 100;
/// Wider lines are hard to read.
const WIDEST: usize = 120;
const NARROWEST: usize = 30;

/// Where the output goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paper {
    width: usize,
    wrap: bool,
    colour: bool,
}

impl Paper {
    pub(super) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let width = if terminal { usize::from(console_width()) } else { PLAIN_WIDTH };
        Self { width: width.clamp(NARROWEST, WIDEST), wrap: terminal, colour: terminal && may_colour() }
    }

    #[cfg(test)]
    fn plain(width: usize) -> Self {
        Self { width, wrap: true, colour: false }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(super) fn warning(&self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Text in lines that fit, each behind `indent` columns.
    pub(super) fn block(&self, text: &str, indent: usize) -> String {
        let space = " ".repeat(indent);
        let room = self.width.saturating_sub(indent).max(NARROWEST / 2);
        let mut out = String::new();
        for line in visible(text).lines() {
            let pieces = if self.wrap { wrap(line, room) } else { vec![line.to_owned()] };
            for piece in pieces {
                out.push_str(format!("{space}{piece}").trim_end());
                out.push('\n');
            }
        }
        out
    }

    /// Hits of a recall, each with its text and why it is there.
    pub(super) fn hits(&self, answer: &Value) -> String {
        let mut out = String::new();
        for (index, hit) in entries(answer, "hits").enumerate() {
            if index > 0 {
                out.push('\n');
            }
            let rank = hit["why"]["rank"].as_u64().unwrap_or(index as u64 + 1);
            out.push_str(&format!("{} {}\n", self.bold(&format!("{rank:>2}.")), self.head(hit)));
            out.push_str(&self.body(hit, 4));
            if hit["cut"] == true {
                out.push_str(&self.dim(&self.block("… `show` has all of it", 4)));
            }
            let terms: Vec<&str> = list(&hit["why"]["terms"]).collect();
            if !terms.is_empty() {
                let why = format!("{:.2}  {}", hit["why"]["score"].as_f64().unwrap_or_default(), terms.join(" "));
                out.push_str(&self.dim(&self.block(&why, 4)));
            }
        }
        out + &self.notes(answer)
    }

    /// One line a memory.
    pub(super) fn rows(&self, answer: &Value) -> String {
        let mut out = String::new();
        for hit in entries(answer, "hits") {
            let id = short_id(hit["id"].as_str().unwrap_or_default());
            let at = date(hit);
            let kind = format!("{:<8}", hit["kind"].as_str().unwrap_or_default());
            let room = self.width.saturating_sub(id.len() + at.len() + kind.len() + 3);
            let text = visible(hit["content"].as_str().unwrap_or_default());
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = if room < NARROWEST / 2 {
                // No room beside the id: below it.
                format!("{}\n{}", self.dim(id), fit(&text, self.width))
            } else {
                format!("{} {} {} {}", self.dim(id), at, self.paint(colour(hit), &kind), fit(&text, room))
            };
            out.push_str(line.trim_end());
            out.push('\n');
        }
        if let Some(cursor) = answer["next_cursor"].as_str() {
            out.push_str(&self.dim(&format!("More: list --cursor {cursor}\n")));
        }
        out + &self.notes(answer)
    }

    /// Everything about a memory.
    pub(super) fn whole(&self, answer: &Value) -> String {
        let mut out = String::new();
        for memory in entries(answer, "memories") {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&format!("{}\n", self.head(memory)));
            out.push_str(&self.body(memory, 2));
            let facts = [
                ("importance", memory["importance"].as_f64().map(|n| n.to_string())),
                ("stored", text(memory, "created_at")),
                ("changed", text(memory, "updated_at").map(|at| format!("{at}, version {}", memory["version"]))),
                ("valid until", text(memory, "valid_until")),
                ("replaced by", text(memory, "superseded_by")),
                ("deleted", text(memory, "deleted_at")),
                ("rests on", Some(list(&memory["sources"]).collect::<Vec<_>>().join(", ")).filter(|s| !s.is_empty())),
                ("metadata", memory.get("metadata").map(Value::to_string)),
            ];
            for (name, fact) in facts {
                if let Some(fact) = fact {
                    out.push_str(&format!("  {} {}\n", self.dim(&format!("{name:<11}")), visible(&fact)));
                }
            }
            let id = memory["id"].as_str().unwrap_or_default();
            for change in entries(answer, "history").filter(|change| change["id"] == id) {
                out.push_str(&self.change(change));
            }
        }
        out
    }

    fn change(&self, change: &Value) -> String {
        let get = |name: &str| text(change, name).unwrap_or_default();
        let version = format!("  {} ", self.bold(&format!("v{}", change["version"])));
        let mut out = format!("{version}{} {} by {}", get("at"), get("change"), visible(&get("by")));
        if let Some(reason) = text(change, "reason") {
            out.push_str(&format!(": {}", visible(&reason)));
        }
        out.push('\n');
        for (sign, side, code) in [('-', "old", "31"), ('+', "new", "32")] {
            for (field, value) in change[side].as_object().into_iter().flatten() {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                out.push_str(&self.paint(code, &self.block(&format!("{sign} {field}: {value}"), 5)));
            }
        }
        out
    }

    /// Kind, time, id and labels, on one line where they fit.
    fn head(&self, memory: &Value) -> String {
        let kind = memory["kind"].as_str().unwrap_or_default();
        let mut head = format!("{} {}", self.paint(colour(memory), kind), date(memory));
        if let Some(session) = text(memory, "session") {
            let turn = memory["turn"].as_i64().map(|turn| format!(" #{turn}")).unwrap_or_default();
            head.push_str(&format!("  {}{turn}", visible(&session)));
        }
        for tag in list(&memory["tags"]) {
            head.push_str(&format!(" {}", self.paint("36", &format!("#{}", visible(tag)))));
        }
        if memory.get("deleted_at").is_some() {
            head.push_str(&format!(" {}", self.bad("deleted")));
        } else if memory.get("superseded_by").is_some() {
            head.push_str(&format!(" {}", self.warning("replaced")));
        }
        head.push_str(&format!("  {}", self.dim(short_id(memory["id"].as_str().unwrap_or_default()))));
        head
    }

    fn body(&self, memory: &Value, indent: usize) -> String {
        let content = memory["content"].as_str().unwrap_or_default();
        let content = match text(memory, "speaker") {
            Some(speaker) => format!("{speaker}: {content}"),
            None => content.to_owned(),
        };
        let mut out = self.block(&content, indent);
        if let (Some(situation), Some(lesson)) = (text(memory, "situation"), text(memory, "lesson")) {
            let outcome = memory["outcome"].as_f64().unwrap_or_default();
            out.push_str(&self.block(&format!("Situation: {situation}"), indent));
            out.push_str(&self.block(&format!("Outcome: {outcome}"), indent));
            out.push_str(&self.block(&format!("Lesson: {lesson}"), indent));
        }
        out
    }

    fn notes(&self, answer: &Value) -> String {
        list(&answer["notes"]).map(|note| self.dim(&self.block(note, 0))).collect()
    }
}

fn may_colour() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a convention of terminals, no setting of ours")]
    let look = |name: &str| std::env::var(name).unwrap_or_default();
    look("NO_COLOR").is_empty() && look("TERM") != "dumb"
}

fn console_width() -> u16 {
    console::Term::stdout().size().1
}

fn entries<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer[name].as_array().into_iter().flatten()
}

fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn text(object: &Value, name: &str) -> Option<String> {
    object[name].as_str().map(str::to_owned)
}

fn date(memory: &Value) -> String {
    memory["occurred_at"].as_str().unwrap_or_default().chars().take(10).collect()
}

fn colour(memory: &Value) -> &'static str {
    match memory["kind"].as_str() {
        Some("episode") => "35",
        Some("insight") => "33",
        Some("dialogue") => "34",
        _ => "32",
    }
}

/// Without what would steer the terminal: a memory may come from anywhere.
fn visible(text: &str) -> String {
    text.replace('\t', "    ").chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// Columns that a grapheme takes: two for the wide ones of East Asia and for pictures.
fn columns(grapheme: &str) -> usize {
    let Some(first) = grapheme.chars().next() else { return 0 };
    let wide = matches!(u32::from(first),
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60
        | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1f9ff | 0x20000..=0x3fffd);
    if wide { 2 } else { 1 }
}

fn width(text: &str) -> usize {
    text.graphemes(true).map(columns).sum()
}

/// As much as fits into `room` columns, with dots where something is missing.
fn fit(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for grapheme in text.graphemes(true) {
        let next = columns(grapheme);
        if used + next > room.saturating_sub(1) {
            break;
        }
        out.push_str(grapheme);
        used += next;
    }
    out.trim_end().to_owned() + "…"
}

/// Lines of at most `room` columns, broken between words where that is possible.
fn wrap(line: &str, room: usize) -> Vec<String> {
    let (mut lines, mut current, mut used) = (Vec::new(), String::new(), 0);
    for word in line.split_word_bounds() {
        let blank = word.trim().is_empty();
        if used + width(word) > room && used > 0 {
            lines.push(std::mem::take(&mut current).trim_end().to_owned());
            used = 0;
            if blank {
                continue;
            }
        }
        for grapheme in word.graphemes(true) {
            if used + columns(grapheme) > room && used > 0 {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push_str(grapheme);
            used += columns(grapheme);
        }
    }
    lines.push(current.trim_end().to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_whatever_is_in_them() {
        let text = "A short one.\n\nThe quick brown fox jumps over the lazy dog and an-unbreakable-word-of-many-letters \
                    日本語のとても長い文章がここにあります 👍👍👍";
        for width_of_page in [30, 40, 77] {
            let block = Paper::plain(width_of_page).block(text, 4);
            for line in block.lines() {
                assert!(width(line) <= width_of_page, "{line:?}");
                assert_eq!(line, line.trim_end());
            }
            let joined: String = block.chars().filter(|c| !c.is_whitespace()).collect();
            assert_eq!(joined, text.chars().filter(|c| !c.is_whitespace()).collect::<String>());
        }
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 3), "abc");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(visible("a\x1b[31mb\x07\tc\u{9b}d\n"), "a[31mb    cd\n");
    }
}
