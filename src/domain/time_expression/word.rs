//! The words and numbers of a question.

use std::borrow::Cow;

use chrono::NaiveDate;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::domain::text::fold_accents;

/// Endings of ordinal numbers in digits: 1st, 2nd, 3rd, 4th, 1er, 2e, 1º, 1ª.
const ORDINAL_ENDS: [&str; 9] = ["st", "nd", "rd", "th", "er", "re", "e", "º", "ª"];

/// A word of a question.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// In lower case without accents.
    pub(super) folded: String,
    /// In lower case.
    pub(super) lower: String,
    pub(super) is_capitalized: bool,
    /// First word of the text or after the end of a sentence.
    pub(super) opens_sentence: bool,
    pub(super) precedes_period: bool,
    pub(super) precedes_space: bool,
    /// The date, if the word is one in digits.
    pub(super) date: Option<NumericDate>,
}

/// A date in digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumericDate {
    day_first: Option<NaiveDate>,
    month_first: Option<NaiveDate>,
}

impl NumericDate {
    /// Returns the date; `None` if the order of day and month is unknown and matters.
    pub(super) fn resolve(self, month_may_be_first: bool) -> Option<NaiveDate> {
        match (self.day_first, self.month_first) {
            (Some(one), Some(other)) if month_may_be_first && one != other => None,
            (one, other) => one.or(other),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let separator = text.chars().find(|c| !c.is_ascii_digit())?;
        let parts: Vec<&str> = text.split(separator).collect();
        let [first, second, third] = parts.as_slice() else {
            return None;
        };
        let number = |part: &str| part.parse::<u32>().ok();
        let short = |part: &str| (1..=2).contains(&part.len());
        match separator {
            '/' | '.' | '-' if short(first) && short(second) && third.len() == 4 => {
                let year = third.parse().ok()?;
                let (first, second) = (number(first)?, number(second)?);
                let day_first = NaiveDate::from_ymd_opt(year, second, first);
                let month_first = NaiveDate::from_ymd_opt(year, first, second);
                (day_first.is_some() || month_first.is_some()).then_some(Self {
                    day_first,
                    // Only slashes and hyphens separate dates that begin with the month.
                    month_first: if separator == '.' {
                        day_first
                    } else {
                        month_first
                    },
                })
            }
            '/' | '.' if first.len() == 4 && short(second) && short(third) => {
                let year = first.parse().ok()?;
                NaiveDate::from_ymd_opt(year, number(second)?, number(third)?).map(Self::certain)
            }
            _ => None,
        }
    }

    fn certain(date: NaiveDate) -> Self {
        Self {
            day_first: Some(date),
            month_first: Some(date),
        }
    }
}

impl Word {
    /// Returns the number in digits, without the ending of an ordinal.
    pub(super) fn number(&self) -> Option<u32> {
        let digits = self.digits();
        let ordinal_or_plain = digits.len() == self.lower.len() || self.has_ordinal_end();
        digits
            .parse()
            .ok()
            .filter(|_| ordinal_or_plain && digits.len() <= 4)
    }

    /// Returns the number of a day in digits.
    pub(super) fn day(&self) -> Option<u32> {
        self.number()
            .filter(|day| (1..=31).contains(day) && self.digits().len() <= 2)
    }

    /// Returns the number if it is written as an ordinal.
    pub(super) fn ordinal(&self) -> Option<u32> {
        self.number()
            .filter(|_| self.has_ordinal_end() || self.precedes_period)
    }

    pub(super) fn has_digits(&self) -> bool {
        self.lower.contains(|c: char| c.is_ascii_digit())
    }

    pub(super) fn is_number(&self) -> bool {
        !self.lower.contains(char::is_alphabetic)
    }

    pub(super) fn year(&self) -> Option<i32> {
        let is_year = self.lower.len() == 4 && self.digits().len() == 4;
        self.lower.parse().ok().filter(|_| is_year)
    }

    /// Returns the number after one of `letters`: 3 of "Q3".
    pub(super) fn number_after(&self, letters: &[char]) -> Option<u32> {
        self.lower.strip_prefix(letters)?.parse().ok()
    }

    /// Returns the first year of a decade with its century, such as 1990s or 1990er.
    pub(super) fn decade(&self) -> Option<i32> {
        let digits = self.decade_digits()?;
        let year = digits.parse().ok()?;
        (digits.len() == 4 && year % 10 == 0 && (1_000..2_100).contains(&year)).then_some(year)
    }

    /// Returns the first year of a decade without its century, such as 90s or 90er.
    pub(super) fn short_decade(&self) -> Option<i32> {
        let digits = self.decade_digits()?;
        let year: i32 = digits.parse().ok()?;
        (digits.len() == 2 && year % 10 == 0).then_some(1_900 + year)
    }

    fn decade_digits(&self) -> Option<&str> {
        let ends = ["s", "er", "ern", "ies"];
        ends.iter().find_map(|end| self.lower.strip_suffix(end))
    }

    fn digits(&self) -> &str {
        let end = self.lower.find(|c: char| !c.is_ascii_digit());
        &self.lower[..end.unwrap_or(self.lower.len())]
    }

    fn has_ordinal_end(&self) -> bool {
        ORDINAL_ENDS.contains(&&self.lower[self.digits().len()..])
    }
}

/// Returns a word in lower case without accents.
pub(super) fn fold_word(word: &str) -> String {
    fold_accents(&word.to_lowercase())
}

/// Splits a text into words. Apostrophes and hyphens separate words, except within dates in digits.
pub(super) fn split_words(text: &str) -> Vec<Word> {
    let text = compose_text(text);
    let mut words = Vec::new();
    let mut opens_sentence = true;
    for chunk in text.split_whitespace() {
        match find_date(chunk) {
            Some(date) => words.push(Word::of_date(chunk, date)),
            None => split_chunk(chunk, opens_sentence, &mut words),
        }
        opens_sentence = chunk.ends_with(['.', '!', '?', ':', ';', '…']);
    }
    words
}

/// Composes letters and their accents, unless the text is composed already, as most texts are.
fn compose_text(text: &str) -> Cow<'_, str> {
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

fn find_date(chunk: &str) -> Option<NumericDate> {
    let mut pieces = chunk.split(|c: char| !c.is_ascii_digit() && c != '-');
    let iso = pieces.find_map(|piece| {
        let date = (piece.len() == 10).then(|| piece.parse().ok())?;
        date.map(NumericDate::certain)
    });
    iso.or_else(|| NumericDate::parse(chunk.trim_matches(|c: char| !c.is_alphanumeric())))
}

fn split_chunk(chunk: &str, opens_sentence: bool, words: &mut Vec<Word>) {
    let mut opens_sentence = opens_sentence;
    let mut rest = chunk;
    while let Some(start) = rest.find(char::is_alphanumeric) {
        let after = &rest[start..];
        let end = after.find(|c: char| !c.is_alphanumeric());
        let (word, following) = after.split_at(end.unwrap_or(after.len()));
        let lower = word.to_lowercase();
        words.push(Word {
            folded: fold_accents(&lower),
            lower,
            is_capitalized: word.starts_with(char::is_uppercase),
            opens_sentence,
            precedes_period: following.starts_with('.'),
            precedes_space: following.is_empty(),
            date: None,
        });
        opens_sentence = false;
        rest = following;
    }
}

impl Word {
    fn of_date(text: &str, date: NumericDate) -> Self {
        Self {
            folded: text.to_owned(),
            lower: text.to_owned(),
            is_capitalized: false,
            opens_sentence: false,
            precedes_period: false,
            precedes_space: true,
            date: Some(date),
        }
    }
}
