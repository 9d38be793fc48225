//! The size of text that a hook adds to a conversation, and its form.

use serde_json::json;

/// Bytes of a token, on average over English text and code. An estimate is enough, because the budget is one.
const BYTES_PER_TOKEN: usize = 4;
/// Ends a text that was cut.
const CUT: &str = "… (recall finds more)";

/// Returns the approximate number of tokens of a text.
#[must_use]
pub fn estimate_tokens(text: &str) -> usize {
    text.len().div_ceil(BYTES_PER_TOKEN)
}

/// Cuts a text after the last line that fits into a number of tokens.
#[must_use]
pub fn cut_at_line(text: &str, tokens: usize) -> String {
    if estimate_tokens(text) <= tokens {
        return text.to_owned();
    }
    let room = (tokens * BYTES_PER_TOKEN).saturating_sub(CUT.len() + 1);
    let fitting = &text[..text.floor_char_boundary(room)];
    match fitting.rfind('\n') {
        Some(end) => format!("{}\n{CUT}", &fitting[..end]),
        None => String::new(),
    }
}

/// Returns the answer of a hook that adds text to the conversation. Only this field reaches the model.
#[must_use]
pub fn format_context(event_name: &str, text: &str) -> String {
    let output = json!({ "hookEventName": event_name, "additionalContext": text });
    json!({ "hookSpecificOutput": output }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_after_a_whole_line() {
        let text =
            "first line\nsecond line that is much longer than the others\nthird ü line\n".repeat(5);
        for tokens in 0..100 {
            let cut = cut_at_line(&text, tokens);
            assert!(estimate_tokens(&cut) <= tokens, "{tokens}: {cut}");
            let mut lines = cut.lines().filter(|line| *line != CUT);
            assert!(
                lines.all(|line| text.lines().any(|whole| whole == line)),
                "{cut}"
            );
        }
        assert_eq!(cut_at_line("short", 10), "short");
    }

    #[test]
    fn only_the_additional_context_is_answered() {
        let answer: serde_json::Value =
            serde_json::from_str(&format_context("UserPromptSubmit", "a \"b\"\n")).expect("JSON");
        let expected = json!({ "hookSpecificOutput":
            { "hookEventName": "UserPromptSubmit", "additionalContext": "a \"b\"\n" } });
        assert_eq!(answer, expected);
    }
}
