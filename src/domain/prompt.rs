//! The question in a long prompt: hooks and models pass whole prompts to recall.
//!
//! The last question decides, with or without a question mark. Without any question, the request is the last or the first
//! sentence, because texts that people paste into a prompt come before or after it; the caller compares both with the
//! memories. If neither is near to any, the last sentence decides about the meaning, and all words count.

use super::Analyzer;
use super::Language;
use super::passage::split_statements;
use super::stop_words::is_stop_word;

/// Prompts of at most this many bytes are questions as they are.
const SHORT_BYTES: usize = 120;
/// A question with fewer terms ("Why did it fail?") needs the sentence before it.
const LEAST_TERMS: usize = 2;
/// Longest prompt in bytes that is searched for a question, from its end.
const MOST_BYTES: usize = 16 * 1024;
/// Words that begin questions in English, German, French, Spanish, Italian, Portuguese and Dutch.
const QUESTION_WORDS: &[&str] = &[
    "what", "which", "who", "whom", "whose", "when", "where", "why", "how", "is", "are", "was",
    "were", "do", "does", "did", "can", "could", "should", "shall", "may", "must", "will", "would",
    "wer", "wen", "wem", "wessen", "was", "wann", "wo", "woher", "wohin", "warum", "wieso",
    "weshalb", "wie", "wieviel", "welche", "welcher", "welches", "welchen", "welchem", "qui",
    "que", "quoi", "quel", "quelle", "quels", "quelles", "quand", "où", "pourquoi", "comment",
    "combien", "qué", "quién", "quiénes", "cuál", "cuáles", "cuándo", "dónde", "cómo", "cuánto",
    "cuánta", "chi", "cosa", "quale", "quali", "quando", "dove", "perché", "come", "quanto",
    "quanti", "quem", "qual", "quais", "onde", "porquê", "wat", "wie", "welk", "wanneer", "waar",
    "waarom", "hoe", "hoeveel",
];

/// The parts of a prompt that are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchedPrompt<'a> {
    /// Its words, names and times are searched for.
    pub words: &'a str,
    /// Its meaning is searched for.
    pub meaning: &'a str,
    /// Another sentence that may be the request, if no sentence is a question.
    pub other_request: Option<&'a str>,
}

impl<'a> SearchedPrompt<'a> {
    /// Searches for the words and the meaning of `text`.
    #[must_use]
    pub fn of_text(text: &'a str) -> Self {
        Self {
            words: text,
            meaning: text,
            other_request: None,
        }
    }
}

/// Finds the question in a prompt; a short prompt is a question itself.
#[must_use]
pub fn find_question<'a>(prompt: &'a str, analyzer: &Analyzer) -> SearchedPrompt<'a> {
    let whole = SearchedPrompt::of_text(prompt);
    if prompt.len() <= SHORT_BYTES {
        return whole;
    }
    let end = &prompt[prompt.ceil_char_boundary(prompt.len().saturating_sub(MOST_BYTES))..];
    let statements = split_statements(end);
    if statements.len() < 2 {
        return whole;
    }
    let text_of = |at: usize| end[statements[at].clone()].trim();
    let last =
        |asks: &dyn Fn(&str) -> bool| (0..statements.len()).rev().find(|at| asks(text_of(*at)));
    let complete = last(&|text| has_question_mark(text) && says_enough(text, analyzer))
        .or_else(|| last(&|text| begins_with_question_word(text) && says_enough(text, analyzer)));
    let with_sentences_before = |at: usize| {
        let to = statements[at].end;
        let mut texts = (0..=at)
            .rev()
            .map(|from| end[statements[from].start..to].trim());
        texts.find(|text| says_enough(text, analyzer))
    };
    let question = match complete {
        Some(at) => Some(text_of(at)),
        None => last(&has_question_mark).and_then(with_sentences_before),
    };
    match question {
        Some(question) => SearchedPrompt::of_text(question),
        None => SearchedPrompt {
            words: prompt,
            meaning: with_sentences_before(statements.len() - 1).unwrap_or(prompt),
            other_request: (end.len() == prompt.len())
                .then(|| text_of(0))
                .filter(|text| says_enough(text, analyzer)),
        },
    }
}

/// Whether a sentence has enough terms to be searched for. A text of stop words alone has them as terms.
fn says_enough(text: &str, analyzer: &Analyzer) -> bool {
    let is_informative =
        |word: &str| !word.is_empty() && !is_stop_word(Language::English, &word.to_lowercase());
    text.split(|c: char| !c.is_alphanumeric())
        .any(is_informative)
        && analyzer.terms(text).counts.len() >= LEAST_TERMS
}

fn has_question_mark(statement: &str) -> bool {
    let end = statement.trim_end_matches(|c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '"' | '\'' | ')' | ']' | '”' | '“' | '»' | '*' | '_' | '!'
            )
    });
    end.ends_with(['?', '？', '؟', '⁇', '⁈'])
}

fn begins_with_question_word(statement: &str) -> bool {
    let is_mark = |c: char| !c.is_alphanumeric();
    let start = statement.trim_start_matches(is_mark);
    let word = start.split(is_mark).next().unwrap_or_default();
    QUESTION_WORDS.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: &str = "I spent the morning on the quarterly report. The numbers look fine, apart from travel. \
                         Dr. Weber wants a summary by 5 p.m. and a chart.";

    fn searched(prompt: &str) -> SearchedPrompt<'_> {
        find_question(prompt, &Analyzer::new(Language::English))
    }

    #[test]
    fn short_prompts_and_single_sentences_stay_whole() {
        let long = "the port of the heron service ".repeat(20);
        for prompt in ["", "Hello. Which port?", &long] {
            assert_eq!(searched(prompt).words, prompt);
            assert_eq!(searched(prompt).meaning, prompt);
        }
    }

    #[test]
    fn the_last_question_is_searched_for_wherever_it_is() {
        for question in [
            "Which port does heron listen on?",
            "which port does heron listen on",
            "Auf welchem Port lauscht heron?",
            "heron 服务监听哪个端口？",
        ] {
            let stop = if question.ends_with(['?', '？']) {
                ""
            } else {
                "."
            };
            for prompt in [
                format!("{NOISE} {question}"),
                format!("{NOISE}\n\n{question}\n\n{NOISE}"),
                format!("{question}{stop} {NOISE}"),
                format!("Did I tell you? {NOISE} {question}{stop} {NOISE} Thanks!"),
            ] {
                let found = searched(&prompt);
                assert_eq!(found.words.trim_end_matches('.'), question, "{prompt}");
                assert_eq!(found.words, found.meaning);
            }
        }
    }

    #[test]
    fn a_question_that_says_little_gets_the_sentence_before_it() {
        let prompt = format!("{NOISE} The import of the invoices stopped at noon. Why was that?");
        let expected = "The import of the invoices stopped at noon. Why was that?";
        assert_eq!(searched(&prompt).meaning, expected);
    }

    #[test]
    fn without_a_question_the_last_sentence_decides_about_the_meaning() {
        let prompt = format!("{NOISE} Update the settings of the heron service.");
        let found = searched(&prompt);
        assert_eq!(found.meaning, "Update the settings of the heron service.");
        assert_eq!(found.words, prompt);
        let first = "I spent the morning on the quarterly report.";
        assert_eq!(found.other_request, Some(first), "it may be the request");
    }
}
