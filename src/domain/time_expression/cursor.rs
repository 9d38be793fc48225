//! Reads the parts of a time expression from the words of a question, in one language.

use chrono::NaiveDate;

use super::grammar::{Grammar, Lexicon, Meaning, Reading};
use super::period::{Unit, Which};
use super::word::Word;

/// The words of a question and their meanings in one language.
pub(super) struct Question<'q> {
    pub(super) lexicon: &'q Lexicon,
    pub(super) words: &'q [Word],
    pub(super) today: NaiveDate,
    readings: Vec<Vec<Reading>>,
    /// Places at which an expression can start: every rule begins with a known word or with digits.
    pub(super) starts: Vec<usize>,
}

impl<'q> Question<'q> {
    pub(super) fn new(lexicon: &'q Lexicon, words: &'q [Word], today: NaiveDate) -> Self {
        let mut readings: Vec<Vec<Reading>> = (0..words.len())
            .map(|at| lexicon.list_readings(&words[at..]))
            .collect();
        for at in 0..words.len() {
            let blocked = readings[at]
                .iter()
                .find(|reading| reading.meaning == Meaning::NoTime)
                .map_or(0, |reading| reading.length);
            for reading in readings.iter_mut().skip(at).take(blocked) {
                reading.clear();
            }
        }
        let places = 0..words.len();
        Self {
            lexicon,
            words,
            today,
            starts: places
                .filter(|at| !readings[*at].is_empty() || words[*at].has_digits())
                .collect(),
            readings,
        }
    }

    /// Returns a cursor before the word at this place.
    pub(super) fn cursor(&self, at: usize) -> Cursor<'_> {
        Cursor { question: self, at }
    }
}

/// A position in a question. Each method reads one part and moves behind it, or returns nothing and stays.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'q> {
    question: &'q Question<'q>,
    pub(super) at: usize,
}

impl<'q> Cursor<'q> {
    pub(super) fn grammar(&self) -> &'static Grammar {
        self.question.lexicon.grammar
    }

    pub(super) fn today(&self) -> NaiveDate {
        self.question.today
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.question.words.len()
    }

    /// Returns the next word.
    pub(super) fn peek_word(&self) -> Option<&'q Word> {
        self.question.words.get(self.at)
    }

    /// Returns the preceding word.
    pub(super) fn peek_before(&self) -> Option<&'q Word> {
        self.question.words.get(self.at.checked_sub(1)?)
    }

    /// Reads the longest phrase whose meaning `select` accepts.
    pub(super) fn take<T>(&mut self, select: impl Fn(Meaning) -> Option<T>) -> Option<T> {
        let readings = self.question.readings.get(self.at)?;
        let (value, length) = readings
            .iter()
            .find_map(|reading| Some((select(reading.meaning)?, reading.length)))?;
        self.at += length;
        Some(value)
    }

    /// Reads a word in digits.
    fn take_digits<T>(&mut self, select: impl Fn(&Word) -> Option<T>) -> Option<T> {
        let value = select(self.peek_word()?)?;
        self.at += 1;
        Some(value)
    }

    /// Reads a phrase of this meaning.
    pub(super) fn expect(&mut self, meaning: Meaning) -> Option<()> {
        self.take(|found| (found == meaning).then_some(()))
    }

    /// Reads a phrase of this meaning if there is one.
    pub(super) fn skip(&mut self, meaning: Meaning) -> bool {
        self.expect(meaning).is_some()
    }

    pub(super) fn month(&mut self) -> Option<u32> {
        self.take(|meaning| match meaning {
            Meaning::Month(month) => Some(month),
            _ => None,
        })
    }

    pub(super) fn season(&mut self) -> Option<u32> {
        self.take(|meaning| match meaning {
            Meaning::Season(month) => Some(month),
            _ => None,
        })
    }

    pub(super) fn weekday(&mut self) -> Option<u32> {
        self.take(|meaning| match meaning {
            Meaning::Weekday(weekday) => Some(weekday),
            _ => None,
        })
    }

    /// Reads a weekday, even if its name is also another word.
    pub(super) fn any_weekday(&mut self) -> Option<u32> {
        self.take(|meaning| match meaning {
            Meaning::Weekday(weekday) | Meaning::AmbiguousWeekday(weekday) => Some(weekday),
            _ => None,
        })
    }

    pub(super) fn unit(&mut self) -> Option<Unit> {
        self.take(|meaning| match meaning {
            Meaning::Unit(unit) => Some(unit),
            _ => None,
        })
    }

    /// Reads a number in words or digits.
    pub(super) fn number(&mut self) -> Option<u32> {
        let in_words = self.take(|meaning| match meaning {
            Meaning::Number(number) => Some(number),
            _ => None,
        });
        in_words.or_else(|| self.take_digits(|word| word.number()))
    }

    /// Reads an ordinal number in words or digits.
    pub(super) fn ordinal(&mut self) -> Option<u32> {
        self.ordinal_word()
            .or_else(|| self.take_digits(|word| word.ordinal()))
    }

    pub(super) fn ordinal_word(&mut self) -> Option<u32> {
        self.take(|meaning| match meaning {
            Meaning::Ordinal(ordinal) => Some(ordinal),
            _ => None,
        })
    }

    /// Reads the number of a day in digits.
    pub(super) fn day_number(&mut self) -> Option<u32> {
        self.take_digits(|word| word.day())
    }

    pub(super) fn four_digit_year(&mut self) -> Option<i32> {
        self.take_digits(|word| word.year())
    }

    /// Reads a year that is unlikely to be another number.
    pub(super) fn plausible_year(&mut self) -> Option<i32> {
        self.take_digits(|word| word.year().filter(|year| (1_900..2_100).contains(year)))
    }

    /// Reads the year after a period, as in "of the year 2025".
    pub(super) fn year_behind(&mut self) -> Option<i32> {
        let mut cursor = *self;
        cursor.skip(Meaning::Of);
        cursor.skip(Meaning::The);
        cursor.skip(Meaning::Unit(Unit::Year));
        cursor.skip(Meaning::Of);
        let year = cursor.plausible_year()?;
        *self = cursor;
        Some(year)
    }

    pub(super) fn numbered(&mut self, letters: &[char], most: u32) -> Option<u32> {
        self.take_digits(|word| {
            word.number_after(letters)
                .filter(|number| (1..=most).contains(number))
        })
    }

    pub(super) fn decade(&mut self) -> Option<i32> {
        self.take_digits(Word::decade)
    }

    /// Reads a decade without its century.
    pub(super) fn short_decade(&mut self) -> Option<i32> {
        let in_words = self.take(|meaning| match meaning {
            Meaning::Decade(first) => Some(first),
            _ => None,
        });
        in_words.or_else(|| self.take_digits(Word::short_decade))
    }

    pub(super) fn date(&mut self) -> Option<NaiveDate> {
        let month_may_be_first = self.grammar().has_month_before_day;
        self.take_digits(|word| word.date?.resolve(month_may_be_first))
    }

    /// Reads "last", "this" or "next".
    pub(super) fn which(&mut self) -> Option<Which> {
        self.take(|meaning| match meaning {
            Meaning::BeforeLast => Some(Which::BeforeLast),
            Meaning::Last => Some(Which::Last),
            Meaning::This => Some(Which::This),
            Meaning::Next => Some(Which::Next),
            _ => None,
        })
    }

    /// Reads "last" or "next" after a noun, if the language puts them there.
    pub(super) fn which_behind(&mut self) -> Option<Which> {
        let follows = self.grammar().has_adjective_after_noun;
        self.take(|meaning| match meaning {
            Meaning::BeforeLast => Some(Which::BeforeLast),
            Meaning::Last if follows => Some(Which::Last),
            Meaning::Next if follows => Some(Which::Next),
            _ => None,
        })
    }
}
