//! The question in a long prompt: hooks and models pass whole prompts to recall.
//!
//! The shape of its sentences shows the question: a question mark, a small letter at the beginning beside text with capital
//! letters, a question word, or words that ask for something ("Remind me of"). Of several sentences with the same sign, the
//! last one decides. Without any sign, the request is the last or the first sentence, because texts that people paste into a
//! prompt come before or after it; the caller compares both with the memories. If neither is near to any, the last sentence
//! decides about the meaning, and all words count.

mod shape;

use std::ops::Range;

use super::Analyzer;
use super::Language;
use super::passage::split_statements;
use super::stop_words::is_stop_word;
use shape::{
    Sentence, begins_with_question_word, begins_with_request, cut_unmarked_sentence, has_end_mark,
    has_question_mark, mark_typed_sentences,
};

/// Prompts of at most this many bytes are questions as they are.
const SHORT_BYTES: usize = 120;
/// A question with fewer terms ("Why did it fail?") needs the sentence before it.
const LEAST_TERMS: usize = 2;
/// Longest prompt in bytes that is searched for a question, from its end.
const MOST_BYTES: usize = 16 * 1024;

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
    let prompt_end = PromptEnd::new(end, analyzer);
    if prompt_end.sentences.len() < 2 {
        return whole;
    }
    match prompt_end.find_asked() {
        Some(question) => SearchedPrompt::of_text(question),
        None => SearchedPrompt {
            words: prompt,
            meaning: prompt_end.find_last_request().unwrap_or(prompt),
            other_request: (end.len() == prompt.len())
                .then(|| prompt_end.sentences[0].text)
                .filter(|text| says_enough(text, analyzer)),
        },
    }
}

/// The end of a prompt with its sentences.
struct PromptEnd<'a, 'b> {
    text: &'a str,
    sentences: Vec<Sentence<'a>>,
    /// Start and end of each sentence in the text.
    ranges: Vec<Range<usize>>,
    analyzer: &'b Analyzer,
}

impl<'a, 'b> PromptEnd<'a, 'b> {
    fn new(text: &'a str, analyzer: &'b Analyzer) -> Self {
        let ranges = split_statements(text);
        let sentence_at = |at: usize| {
            let range: &Range<usize> = &ranges[at];
            let before = at.checked_sub(1).map(|before| &ranges[before]);
            Sentence {
                text: text[range.clone()].trim(),
                is_separate: before
                    .is_none_or(|before| is_complete(&text[before.start..range.start])),
            }
        };
        Self {
            text,
            sentences: (0..ranges.len()).map(sentence_at).collect(),
            ranges,
            analyzer,
        }
    }

    /// Finds the question or the request by its shape.
    fn find_asked(&self) -> Option<&'a str> {
        let typed = mark_typed_sentences(&self.sentences);
        let text_of = |at: usize| self.sentences[at].text;
        self.find_last(|at| has_question_mark(text_of(at)))
            .or_else(|| self.find_last(|at| typed[at]))
            .or_else(|| self.find_last(|at| begins_with_question_word(text_of(at))))
            .or_else(|| self.find_last(|at| begins_with_request(text_of(at))))
            .or_else(|| {
                let marked = |at: &usize| has_question_mark(text_of(*at));
                let last = (0..self.sentences.len()).rev().find(marked)?;
                self.extend_back(last)
            })
    }

    /// Returns the last sentence with a sign that says enough by itself.
    fn find_last(&self, has_sign: impl Fn(usize) -> bool) -> Option<&'a str> {
        let last = (0..self.sentences.len())
            .rev()
            .filter(|at| has_sign(*at))
            .map(|at| self.sentences[at].text)
            .find(|text| says_enough(text, self.analyzer))?;
        if has_question_mark(last) {
            return Some(last);
        }
        // Only the other text needs the period behind a request, and it changes the meaning a little.
        let last = last.trim_end_matches('.');
        let cut = cut_unmarked_sentence(last);
        Some(if says_enough(cut, self.analyzer) {
            cut
        } else {
            last
        })
    }

    /// Returns a sentence with as many sentences before it as it needs to say enough.
    fn extend_back(&self, at: usize) -> Option<&'a str> {
        let end = self.ranges[at].end;
        let mut texts = (0..=at)
            .rev()
            .map(|from| self.text[self.ranges[from].start..end].trim());
        texts.find(|text| says_enough(text, self.analyzer))
    }

    /// Returns the last sentence, which may be the request.
    fn find_last_request(&self) -> Option<&'a str> {
        self.extend_back(self.sentences.len() - 1)
    }
}

/// Whether a sentence, given with the space behind it, ends before the next one: with a mark or with a paragraph.
fn is_complete(sentence: &str) -> bool {
    let space = &sentence[sentence.trim_end().len()..];
    has_end_mark(sentence) || space.matches('\n').count() > 1
}

/// Whether a sentence has enough terms to be searched for. A text of stop words alone has them as terms.
fn says_enough(text: &str, analyzer: &Analyzer) -> bool {
    let is_informative =
        |word: &str| !word.is_empty() && !is_stop_word(Language::English, &word.to_lowercase());
    text.split(|c: char| !c.is_alphanumeric())
        .any(is_informative)
        && analyzer.terms(text).counts.len() >= LEAST_TERMS
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

    #[test]
    fn a_sentence_typed_beside_other_text_is_the_request() {
        let request = "relatives in Nigeria and when we phone them";
        for prompt in [
            format!("{NOISE} {request}"),
            format!("{request}. {NOISE}"),
            format!("{request}\n{NOISE}"),
            format!("{NOISE} {request}. {NOISE}"),
            format!("{NOISE} {request} The weather is fine. {NOISE}"),
            format!("{NOISE} It was plan B. {request}. {NOISE}"),
            format!("{NOISE}\n\n{request}\n\nWhen we arrived, it rained. {NOISE}"),
        ] {
            let found = searched(&prompt);
            assert_eq!(found.words, request, "{prompt}");
            assert_eq!(found.meaning, found.words);
        }
    }

    #[test]
    fn small_letters_mean_nothing_in_code_lists_wrapped_lines_and_plain_small_text() {
        let wrapped =
            format!("{NOISE} The summary that he wants is about the\ntravel of all teams. Thanks.");
        let code = format!("{NOISE}\n\nlet total = rows.sum();\nreturn total;\n\nThanks.");
        let list =
            format!("{NOISE}\n\n- fixed the import of rows\n- removed the old parser\n\nThanks.");
        let product = format!("{NOISE} iPhone sales are down again. Thanks.");
        for prompt in [wrapped, code, list, product, NOISE.to_lowercase()] {
            assert_eq!(searched(&prompt).words, prompt);
        }
    }

    #[test]
    fn words_that_ask_for_something_show_the_request() {
        for request in [
            "Remind me of the port of the heron service.",
            "Please tell me the port of the heron service.",
            "I need to know the port of the heron service.",
            "Zeig mir den Port des Dienstes heron.",
            "Dis-moi le port du service heron.",
        ] {
            let prompt = format!("{NOISE} {request} {NOISE}");
            assert_eq!(searched(&prompt).words, request.trim_end_matches('.'));
        }
    }

    #[test]
    fn commands_and_clauses_with_a_question_word_ask_nothing() {
        for statement in [
            "Do not use bullet points in the summary.",
            "Don't use bullet points in the summary.",
            "When the report was finished, everybody went home.",
            "What the team needs, he says, is a larger budget.",
        ] {
            let prompt = format!("{NOISE} {statement} {NOISE}");
            assert_eq!(searched(&prompt).words, prompt, "{statement}");
        }
    }

    /// The golden questions that are sentences, or paraphrases without a question mark.
    fn list_golden_questions() -> Vec<String> {
        let lines = include_str!("../../../tests/golden/queries.jsonl").lines();
        let rows = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        rows.filter(|row| matches!(row["group"].as_str(), Some("paraphrase" | "question")))
            .map(|row| row["query"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn golden_questions_are_found_between_other_text() {
        let questions = list_golden_questions();
        let is_found = |question: &&String| {
            let stop = if question.ends_with('?') { "" } else { "." };
            let prompts = [
                format!("{NOISE} {question}"),
                format!("{question}{stop} {NOISE} {NOISE}"),
                format!("{NOISE} {question}{stop} {NOISE}"),
                format!("{NOISE}\n\n{question}\n\n{NOISE}"),
            ];
            prompts.iter().all(|prompt| {
                prompt.len() <= SHORT_BYTES || searched(prompt).meaning == question.as_str()
            })
        };
        let missed: Vec<&String> = questions.iter().filter(|q| !is_found(q)).collect();
        assert!(
            questions.len() > 150 && missed.len() * 50 <= questions.len(),
            "at most 2 % may be missed: {missed:?}"
        );
    }
}
