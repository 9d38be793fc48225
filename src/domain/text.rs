//! Analyzes text into terms. Documents and queries use the same analysis on every backend, so that both rank alike and
//! every text is found by its own words.
//!
//! NFKC and lower case; words by UAX #29; identifiers by their parts and as one word, whatever joins them; scripts
//! without spaces and Hangul also by n-grams (see `script`); Snowball stems; accents folded. A text without any word is
//! indexed by its symbols.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use rust_stemmers::Stemmer;
use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use unicode_segmentation::UnicodeSegmentation;

use super::language::Language;
use super::script::{ClusterPairs, Script, character_pairs, script_runs, syllable_before_particle};
use super::stop_words::is_stop_word;

/// Maximum length of a term in characters; longer words are truncated, in documents and queries alike.
const MAX_TERM_CHARS: usize = 64;

/// Must be increased if the same text results in other terms. The version is stored with the index, which is rebuilt if
/// it differs.
const ANALYSIS_VERSION: u32 = 3;

/// Term frequencies of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Occurrences of each term.
    pub counts: BTreeMap<String, u32>,
    /// Total number of occurrences.
    pub length: u32,
}

impl Terms {
    /// The terms with their occurrences.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.counts
            .iter()
            .map(|(term, count)| (term.as_str(), *count))
    }
}

/// Term frequencies of a text as one piece of memory, a fifth of what [`Terms`] need. A call may store millions of
/// characters, whose terms are kept until they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackedTerms {
    /// All terms, in their order.
    text: Box<str>,
    /// Where each term ends in the text, and how often it occurs.
    entries: Box<[(u32, u32)]>,
    /// Occurrences of all terms together.
    pub length: u32,
}

impl PackedTerms {
    /// The terms with their occurrences.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let mut begin = 0;
        self.entries.iter().map(move |(end, count)| {
            let end = *end as usize;
            let term = &self.text[begin..end];
            begin = end;
            (term, *count)
        })
    }
}

impl From<Terms> for PackedTerms {
    fn from(terms: Terms) -> Self {
        let size = terms.counts.keys().map(String::len).sum();
        let mut text = String::with_capacity(size);
        let mut entries = Vec::with_capacity(terms.counts.len());
        for (term, count) in terms.counts {
            text.push_str(&term);
            let end = u32::try_from(text.len()).expect("texts are shorter than 4 GiB");
            entries.push((end, count));
        }
        Self {
            text: text.into(),
            entries: entries.into(),
            length: terms.length,
        }
    }
}

/// The words of one or several texts, before it is decided which of them count.
#[derive(Debug, Clone, Default)]
pub struct TextWords {
    /// Terms of the words that distinguish texts.
    terms: Vec<String>,
    stop_words: Vec<String>,
    symbols: Vec<String>,
}

impl TextWords {
    /// Adds the words of further lines of a text.
    pub fn extend(&mut self, other: Self) {
        self.terms.extend(other.terms);
        self.stop_words.extend(other.stop_words);
        self.symbols.extend(other.symbols);
    }
}

/// Converts text to terms.
pub struct Analyzer {
    language: Language,
    stemmer: Option<Stemmer>,
}

impl fmt::Debug for Analyzer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

impl Analyzer {
    /// Creates an analyzer for texts that are mostly in `language`.
    #[must_use]
    pub fn new(language: Language) -> Self {
        Self {
            language,
            stemmer: language.algorithm().map(Stemmer::create),
        }
    }

    /// Identifies the analysis; an index from another analysis must be rebuilt.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{ANALYSIS_VERSION}:{}", self.language.as_str())
    }

    /// Returns the terms of `text`. Empty only if the text has nothing but white space and control characters.
    #[must_use]
    pub fn terms(&self, text: &str) -> Terms {
        self.count_terms(self.split_text(text))
    }

    /// Splits a text into its words, for [`Analyzer::count_terms`].
    #[must_use]
    pub fn split_text(&self, text: &str) -> TextWords {
        let (words, symbols) = split_words(&normalize_text(text));
        let mut split = TextWords::default();
        for word in words {
            if self.is_stop_word(&word) {
                split.stop_words.push(word);
            } else {
                split.terms.push(self.term(&word));
            }
        }
        // Emoji count in addition to words; punctuation counts only if there is nothing else.
        let emoji = symbols
            .iter()
            .filter(|symbol| symbol.chars().all(is_pictograph));
        split.terms.extend(emoji.map(|symbol| self.term(symbol)));
        split.symbols = symbols;
        split
    }

    /// Counts the terms of a text. Stop words count only if there is no other word, symbols only if there is no word.
    #[must_use]
    pub fn count_terms(&self, split: TextWords) -> Terms {
        let fallback = |words: Vec<String>| words.iter().map(|word| self.term(word)).collect();
        let kept: Vec<String> = if !split.terms.is_empty() {
            split.terms
        } else if !split.stop_words.is_empty() {
            fallback(split.stop_words)
        } else {
            fallback(split.symbols)
        };
        let mut terms = Terms::default();
        for term in kept.into_iter().filter(|term| !term.is_empty()) {
            *terms.counts.entry(term).or_default() += 1;
            terms.length += 1;
        }
        terms
    }

    /// Returns whether a folded word is too common to distinguish texts.
    #[must_use]
    pub fn is_stop_word(&self, word: &str) -> bool {
        self.language == Language::English && is_stop_word(self.language, word)
    }

    fn term(&self, word: &str) -> String {
        let end = word.char_indices().nth(MAX_TERM_CHARS);
        let short = end.map_or(word, |(end, _)| &word[..end]);
        let stem = match &self.stemmer {
            Some(stemmer) if short.chars().all(|c| c.is_alphabetic() || c == '\'') => {
                stemmer.stem(short)
            }
            _ => Cow::Borrowed(short),
        };
        let folded = fold_accents(&stem);
        // Some words consist of marks, and some stemmers remove a whole word.
        if folded.is_empty() {
            short.to_owned()
        } else {
            folded
        }
    }
}

/// Returns a text in NFKC with plain apostrophes. Most texts are so already.
fn normalize_text(text: &str) -> Cow<'_, str> {
    let composed = if is_nfkc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfkc().collect())
    };
    if composed.contains('\u{2019}') {
        Cow::Owned(composed.replace('\u{2019}', "'"))
    } else {
        composed
    }
}

/// Returns the words and symbols of a normalized text.
fn split_words(normal: &str) -> (Vec<String>, Vec<String>) {
    let (mut words, mut symbols) = (Vec::new(), Vec::new());
    let mut ideograph_before: Option<char> = None;
    let mut clusters = ClusterPairs::default();
    let mut chain = Chain::default();
    for segment in normal.split_word_bounds() {
        if !segment.chars().any(char::is_alphanumeric) {
            ideograph_before = None;
            clusters.finish(&mut words);
            chain.sign(segment, &mut words);
            let visible = segment
                .chars()
                .filter(|c| !c.is_whitespace() && !c.is_control());
            symbols.extend(visible.map(String::from));
            continue;
        }
        let ideograph = single_ideograph(segment);
        if let (Some(left), Some(right)) = (ideograph_before, ideograph) {
            words.push(String::from_iter([left, right]));
        }
        ideograph_before = ideograph;
        let first = segment.chars().next();
        if first.is_some_and(|c| Script::of(c) == Script::SoutheastAsian) {
            chain.end(&mut words);
            clusters.push(segment, &mut words);
            continue;
        }
        clusters.finish(&mut words);
        chain.word(segment, &mut words);
        word_terms(segment, &mut words);
    }
    clusters.finish(&mut words);
    chain.end(&mut words);
    (words, symbols)
}

/// Words joined by hyphens, which are also written as one word: `HB-1004` and `HB1004`, `e-mail` and `email`.
#[derive(Debug, Default)]
struct Chain<'t> {
    segments: Vec<&'t str>,
    /// The last character was a hyphen.
    open: bool,
}

impl<'t> Chain<'t> {
    fn word(&mut self, segment: &'t str, words: &mut Vec<String>) {
        if !self.open {
            self.end(words);
        }
        self.open = false;
        self.segments.push(segment);
    }

    fn sign(&mut self, segment: &str, words: &mut Vec<String>) {
        if !self.segments.is_empty() && !self.open && matches!(segment, "-" | "\u{2010}") {
            self.open = true;
        } else {
            self.end(words);
        }
    }

    /// Numbers alone are not joined, because 3-4 need not mean 34.
    fn end(&mut self, words: &mut Vec<String>) {
        if self.segments.len() > 1 {
            // Longer words would be truncated.
            let joined: String = self
                .segments
                .iter()
                .take(MAX_TERM_CHARS)
                .map(|segment| one_word(segment))
                .collect();
            if joined.chars().any(char::is_alphabetic) {
                words.push(joined);
            }
        }
        self.segments.clear();
        self.open = false;
    }
}

/// Returns the segment in lower case without the characters that join the parts of an identifier.
fn one_word(segment: &str) -> String {
    let kept = segment
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control() && *c != '_');
    kept.collect::<String>().to_lowercase()
}

/// Adds the terms of one segment: the word with its parts, and the n-grams of scripts that need them.
fn word_terms(segment: &str, words: &mut Vec<String>) {
    if segment.is_ascii() {
        identifier_parts(segment, words);
        return;
    }
    let runs = script_runs(segment);
    let ngrams = |script: Script| matches!(script, Script::Katakana | Script::Hangul);
    if !runs.iter().any(|(script, _)| ngrams(*script)) {
        identifier_parts(segment, words);
        return;
    }
    for (script, run) in &runs {
        identifier_parts(run, words);
        if ngrams(*script) {
            words.extend(character_pairs(run));
        }
        if *script == Script::Hangul {
            words.extend(syllable_before_particle(run).map(str::to_owned));
        }
    }
}

/// Removes accents, but keeps the marks that spell vowels and tones in the scripts of South and Southeast Asia.
pub(super) fn fold_accents(word: &str) -> String {
    if word.is_ascii() {
        return word.to_owned();
    }
    word.nfd()
        .filter(|c| !is_combining_mark(*c) || Script::needs_marks(*c))
        .nfc()
        .collect()
}

/// Adds the segment as one word and the parts of an identifier: `getUserName` and `get_user_name` result in
/// `getusername`, `get`, `user`, `name`; `HB1004` also in `hb` and `1004`, and `example.com` in its parts.
fn identifier_parts(segment: &str, words: &mut Vec<String>) {
    if segment.chars().all(char::is_lowercase) {
        words.push(segment.to_owned());
        return;
    }
    // A combining mark may follow a white space, which is not part of a word.
    let segment: String = segment
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .collect();
    let whole = one_word(&segment);
    let mut parts: Vec<String> = Vec::new();
    let mut part = String::new();
    let mut before: Option<char> = None;
    let mut letters = segment.chars().peekable();
    while let Some(c) = letters.next() {
        if !(c.is_alphanumeric() || c == '\'' || is_combining_mark(c)) {
            parts.extend(Some(std::mem::take(&mut part)).filter(|p| !p.is_empty()));
        } else {
            let next_lower = letters.peek().is_some_and(|n| n.is_lowercase());
            let hump = c.is_uppercase()
                && before.is_some_and(|b| {
                    b.is_lowercase() || b.is_numeric() || (b.is_uppercase() && next_lower)
                });
            if hump {
                parts.extend(Some(std::mem::take(&mut part)).filter(|p| !p.is_empty()));
            }
            part.push(c);
        }
        before = Some(c);
    }
    parts.extend(Some(part).filter(|p| !p.is_empty()));
    for part in &parts {
        words.extend(runs(part).iter().map(|run| run.to_lowercase()));
    }
    if parts.len() > 1 {
        words.extend(parts.iter().map(|p| p.to_lowercase()));
    }
    words.push(whole);
}

/// Splits a part with few letters and digits at their borders. Digits between single letters are a key rather than a
/// number.
fn runs(part: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    if !part.chars().any(char::is_numeric) {
        return runs;
    }
    let mut start = 0;
    let mut before: Option<bool> = None;
    for (at, c) in part.char_indices().filter(|(_, c)| !is_combining_mark(*c)) {
        let digit = c.is_numeric();
        if before.is_some_and(|before| before != digit) {
            runs.push(&part[start..at]);
            start = at;
        }
        before = Some(digit);
    }
    runs.push(&part[start..]);
    let word = |run: &&str| run.chars().all(char::is_numeric) || run.chars().nth(1).is_some();
    if (2..=3).contains(&runs.len()) && runs.iter().all(word) {
        runs
    } else {
        Vec::new()
    }
}

fn single_ideograph(segment: &str) -> Option<char> {
    let mut chars = segment.chars();
    let first = chars.next()?;
    let single = chars.next().is_none();
    (single && matches!(Script::of(first), Script::Ideographic | Script::Katakana)).then_some(first)
}

fn is_pictograph(c: char) -> bool {
    matches!(c, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn english(text: &str) -> Vec<String> {
        Analyzer::new(Language::English)
            .terms(text)
            .counts
            .into_keys()
            .collect()
    }

    #[test]
    fn packed_terms_are_the_same_terms() {
        let analyzer = Analyzer::new(Language::English);
        for text in ["", "one", "Größe größe 東京 😀 the cats' pyjamas pyjamas"] {
            let terms = analyzer.terms(text);
            let packed = PackedTerms::from(terms.clone());
            assert!(packed.iter().eq(terms.iter()), "{text}");
            assert_eq!(packed.length, terms.length, "{text}");
        }
    }

    #[test]
    fn words_are_stemmed_folded_and_freed_of_stop_words() {
        assert_eq!(english("The Cafés are RUNNING"), ["cafe", "run"]);
        assert_eq!(english("to be or not to be"), ["be", "not", "or", "to"]);
    }

    #[test]
    fn identifiers_are_found_whole_and_by_part() {
        assert_eq!(
            english("getUserName"),
            ["get", "getusernam", "name", "user"]
        );
        assert_eq!(english("HTTPServer"), ["http", "httpserver", "server"]);
        assert_eq!(english("max_chars"), ["char", "max", "maxchar"]);
        assert_eq!(english("__init__"), ["init"]);
    }

    #[test]
    fn identifiers_meet_however_they_are_joined() {
        for (one, other, common) in [
            ("HB-1004", "HB1004", &["1004", "hb", "hb1004"][..]),
            ("HB1004", "hb 1004", &["1004", "hb"]),
            (
                "user_profile_id",
                "userProfileId",
                &["id", "profil", "user", "userprofileid"],
            ),
            ("user-profile-id", "userprofileid", &["userprofileid"]),
            (
                "USER_PROFILE_ID",
                "user profile id",
                &["id", "profil", "user"],
            ),
            ("e-mail", "E\u{2011}Mail", &["e", "email", "mail"]),
            ("Wi-Fi", "wifi", &["wifi"]),
            ("HV-2011-8834", "HV20118834", &["hv", "hv20118834"]),
            ("8 GB", "8GB", &["8", "gb"]),
            ("getHttp2Client", "http2", &["2", "http", "http2"]),
        ] {
            let (one, other) = (english(one), english(other));
            assert_eq!(
                one.iter()
                    .filter(|term| other.contains(term))
                    .collect::<Vec<_>>(),
                common,
                "{one:?} {other:?}"
            );
        }
        assert_eq!(english("3-4"), ["3", "4"]);
        assert_eq!(english("k8s"), ["k8s"]);
        assert_eq!(english("550e8400"), ["550e8400"]);
        assert_eq!(
            english("left - right -- middle"),
            ["left", "middl", "right"]
        );
    }

    #[test]
    fn scripts_without_spaces_get_pairs() {
        assert!(english("東京都").contains(&"東京".to_owned()));
        assert!(english("東京都").contains(&"京都".to_owned()));
    }

    #[test]
    fn compounds_particles_and_southeast_asian_words_are_found_by_their_parts() {
        for (text, query) in [
            ("データベースサーバーを再起動する", "サーバー"),
            ("ｻｰﾊﾞｰの設定", "サーバー"),
            ("프로젝트의 서버는 서울에 있다", "서버"),
            ("API서버는 8080 포트를 사용한다", "서버"),
            ("API서버는 8080 포트를 사용한다", "API"),
            ("책을 샀다", "책이"),
            ("เซิร์ฟเวอร์หลักอยู่ที่เชียงใหม่", "เชียงใหม่"),
            ("ເຊີບເວີຫຼັກຢູ່ວຽງຈັນ", "ວຽງຈັນ"),
            ("ម៉ាស៊ីនមេស្ថិតនៅភ្នំពេញ", "ភ្នំពេញ"),
        ] {
            let (text, query) = (english(text), english(query));
            assert!(
                query.iter().any(|term| text.contains(term)),
                "{query:?} in {text:?}"
            );
        }
    }

    #[test]
    fn marks_that_spell_vowels_and_tones_are_kept() {
        assert_ne!(english("ปา"), english("ป้า"));
        assert_ne!(english("कि"), english("की"));
    }

    #[test]
    fn text_without_words_is_found_by_its_symbols() {
        assert_eq!(english("!?"), ["!", "?"]);
        assert_eq!(english("👍"), ["👍"]);
        assert_eq!(english("great 👍!"), ["great", "👍"]);
    }

    #[test]
    fn texts_that_are_split_apart_count_as_one_text() {
        let analyzer = Analyzer::new(Language::English);
        for (a, b) in [
            ("the walrus", "tags"),
            ("the", "of"),
            ("the", "walrus"),
            ("!!!", "?"),
            ("!!!", "a"),
            ("", "HB-"),
            ("📦", "the"),
        ] {
            let mut words = analyzer.split_text(a);
            words.extend(analyzer.split_text(b));
            assert_eq!(
                analyzer.count_terms(words),
                analyzer.terms(&format!("{a}\n{b}")),
                "{a:?} {b:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_texts_that_are_split_apart_count_as_one_text(a in ".{0,30}", b in ".{0,30}") {
            let analyzer = Analyzer::new(Language::English);
            let mut words = analyzer.split_text(&a);
            words.extend(analyzer.split_text(&b));
            prop_assert_eq!(analyzer.count_terms(words), analyzer.terms(&format!("{a}\n{b}")));
        }


        #[test]
        fn every_visible_text_has_terms(text in "\\PC{1,80}") {
            let visible = text.chars().any(|c| !c.is_whitespace() && !c.is_control());
            let terms = Analyzer::new(Language::English).terms(&text);
            prop_assert_eq!(!terms.counts.is_empty(), visible);
            prop_assert_eq!(terms.counts.values().sum::<u32>(), terms.length);
            for term in terms.counts.keys() {
                prop_assert!(!term.is_empty() && !term.contains(char::is_whitespace), "term {:?}", term);
            }
        }
    }
}
