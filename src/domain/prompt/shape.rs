//! Signs by which a sentence of a prompt is recognized as its question or request, without comparing it with memories.

use crate::domain::Language;
use crate::domain::stop_words::is_stop_word;

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
/// Question words that also begin clauses of statements ("When we arrived, it rained.").
const CLAUSE_WORDS: &[&str] = &[
    "what", "when", "where", "who", "how", "why", "should", "was", "wo", "wer", "wie", "quand",
    "qui", "que", "quando", "come", "chi", "wat", "wanneer", "waar",
];
/// Beginnings of commands, which begin with a question word and ask nothing.
const PROHIBITIONS: &[&str] = &["do not", "don t"];
/// Beginnings of requests for something that is known, in the same languages.
const REQUESTS: &[&str] = &[
    "tell me",
    "show me",
    "give me",
    "remind me",
    "please tell",
    "please show",
    "please give",
    "please remind",
    "find",
    "look up",
    "search for",
    "i need to know",
    "i want to know",
    "i would like to know",
    "i d like to know",
    "i am looking for",
    "i m looking for",
    "sag mir",
    "sage mir",
    "zeig mir",
    "zeige mir",
    "gib mir",
    "nenne",
    "nenn mir",
    "erinnere mich",
    "finde",
    "such",
    "suche",
    "ich suche",
    "ich muss wissen",
    "ich möchte wissen",
    "ich will wissen",
    "dis moi",
    "montre moi",
    "donne moi",
    "rappelle moi",
    "trouve",
    "cherche",
    "je cherche",
    "je veux savoir",
    "je voudrais savoir",
    "dime",
    "muéstrame",
    "dame",
    "recuérdame",
    "busca",
    "encuentra",
    "quiero saber",
    "necesito saber",
    "dimmi",
    "mostrami",
    "dammi",
    "ricordami",
    "trova",
    "cerca",
    "voglio sapere",
    "diga me",
    "mostre me",
    "lembre me",
    "procure",
    "encontre",
    "quero saber",
    "vertel me",
    "laat me zien",
    "geef me",
    "herinner me",
    "zoek",
    "ik zoek",
    "ik wil weten",
];

/// A sentence or line of a prompt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sentence<'a> {
    pub(super) text: &'a str,
    /// Whether it does not continue the line before it.
    pub(super) is_separate: bool,
}

/// Whether a sentence ends with a question mark, before closing quotes and brackets.
pub(super) fn has_question_mark(sentence: &str) -> bool {
    let end = sentence.trim_end_matches(|c: char| is_closing_mark(c) || c == '!');
    end.ends_with(['?', '？', '؟', '⁇', '⁈'])
}

/// Whether a sentence ends with a mark, so that the next one does not continue it.
pub(super) fn has_end_mark(sentence: &str) -> bool {
    let end = sentence.trim_end_matches(is_closing_mark);
    end.ends_with([
        '.', '!', '?', ':', '…', '。', '！', '？', '।', '؟', '۔', '⁇', '⁈',
    ])
}

fn is_closing_mark(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | ')' | ']' | '”' | '“' | '»' | '*' | '_')
}

/// Whether a sentence without a question mark asks something: it begins with a question word and is neither a command nor a
/// clause before a comma.
pub(super) fn begins_with_question_word(sentence: &str) -> bool {
    let normal = normalize_words(sentence);
    let word = normal.split(' ').next().unwrap_or_default();
    let is_clause = sentence.contains(',') && CLAUSE_WORDS.contains(&word);
    QUESTION_WORDS.contains(&word) && !is_clause && !begins_with_any(&normal, PROHIBITIONS)
}

/// Whether a sentence asks for something that is known ("Remind me of the port").
pub(super) fn begins_with_request(sentence: &str) -> bool {
    begins_with_any(&normalize_words(sentence), REQUESTS)
}

/// Marks the sentences that begin with a small letter, if more of the others begin with a capital letter: a person typed them
/// beside text from elsewhere. Continued lines, list items and code are not among them.
pub(super) fn mark_typed_sentences(sentences: &[Sentence<'_>]) -> Vec<bool> {
    let typed: Vec<bool> = sentences
        .iter()
        .map(|sentence| sentence.is_separate && is_typed_prose(sentence.text))
        .collect();
    let begins_with_capital =
        |sentence: &&Sentence<'_>| sentence.text.starts_with(char::is_uppercase);
    let capitals = sentences.iter().filter(begins_with_capital).count();
    if typed.iter().filter(|typed| **typed).count() > capitals {
        return vec![false; sentences.len()];
    }
    typed
}

/// Whether a sentence begins with a word in small letters, and consists of words rather than code.
fn is_typed_prose(sentence: &str) -> bool {
    let is_sign_of_code = |c: char| "{}[]<>=;|\\".contains(c);
    let Some((first, _)) = sentence.split_once(char::is_whitespace) else {
        return false;
    };
    first.starts_with(char::is_lowercase)
        && !first.contains(char::is_uppercase)
        && !sentence.contains(is_sign_of_code)
}

/// Returns the sentence up to another one that begins without a mark before it ("which port is it The weather is fine").
pub(super) fn cut_unmarked_sentence(text: &str) -> &str {
    let mut start = 0;
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        let at = start;
        start += word.len();
        (at, word.trim_end())
    });
    let words: Vec<(usize, &str)> = words.collect();
    let cut = words.windows(3).find(|window| {
        let (before, word, next) = (window[0].1, window[1].1, window[2].1);
        before.ends_with(char::is_lowercase)
            && !before.starts_with(char::is_uppercase)
            && is_capital_function_word(word)
            && next.starts_with(char::is_lowercase)
    });
    cut.map_or(text, |window| text[..window[1].0].trim_end())
}

/// Whether a word begins a sentence: an English function word with a capital letter, other than "I".
fn is_capital_function_word(word: &str) -> bool {
    word.len() > 1
        && word.starts_with(char::is_uppercase)
        && is_stop_word(Language::English, &word.to_lowercase())
}

/// Returns the words of a sentence in lower case with single spaces between them.
fn normalize_words(sentence: &str) -> String {
    let lower = sentence.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn begins_with_any(normal: &str, beginnings: &[&str]) -> bool {
    let begins = |beginning: &str| {
        normal
            .strip_prefix(beginning)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    beginnings.iter().any(|beginning| begins(beginning))
}
