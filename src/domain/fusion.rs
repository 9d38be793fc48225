//! One ranking out of words, meaning, what was said around, and time.
//!
//! Every signal is a share of the best of the pool, and the score is their weighted sum: what a memory's own words and
//! meaning give, what those of the turns around it give, how much of the question its whole session covers, whether it
//! happened when the question says, and whether the question names its speaker, who is worth as much as the name in the
//! text of a note. Short turns and turns that ask lose a
//! little: they seldom are answers. Memories outside of a conversation have nothing around them, and lose nothing.
//!
//! Pure, and every hit keeps its shares, so that an answer can say why it is what it is. The constants were fitted to
//! questions about long conversations; see `docs/recall.md`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::conversation::Setting;
use super::lexical::Part;

/// What a term counts for that stands 1, 2 or 3 turns before.
const BEHIND: [f64; 3] = [0.4, 0.5, 0.1];
/// What it counts for 1, 2 or 3 turns after.
const AHEAD: [f64; 3] = [0.3, 0.3, 0.1];
/// What it counts for in the turn just before, where that asks: an answer has the words of its question.
const ASKED: f64 = 1.0;
/// Weight of the share of the question that the session covers.
const SESSION_WORDS: f64 = 0.3;
/// Below this the best cosine says nothing: among any texts some are nearest.
const UNSURE: f64 = 0.15;
/// From there on meaning gains weight, up to the whole of it so far above.
const SURE: f64 = 0.2;
/// Beside meaning, words count in full from where the best memory covers this part of the question, and less below: the
/// best of those that share a stray word with the question has no claim against one that means the same.
const COVERED: f64 = 0.75;
/// Weight of the own meaning.
const MEANING: f64 = 0.4;
/// Weight of the mean meaning around.
const AROUND: f64 = 0.6;
/// Weights within that mean, 1 and 2 turns away.
const AROUND_NEAR: [f64; 2] = [0.6, 0.4];
/// What stands for that mean where nothing is around: a share of the own meaning.
const ALONE: f64 = 0.5;
/// Weight of the best meaning in the session.
const SESSION_MEANING: f64 = 0.3;
/// Weight of the time.
const TIME: f64 = 1.0;
/// Weight of the speaker.
const SPEAKER: f64 = 0.2;
/// The most that a short turn loses.
const SHORT: f64 = 0.4;
/// Terms from which on a turn is not short.
const FULL_LENGTH: f64 = 30.0;
/// What a turn that asks loses.
const ASKING: f64 = 0.1;
/// Turns that are looked at on each side. More than three where turns were replaced and the old ones are asked for, too.
const MOST_AROUND: usize = 8;
/// How far away turns have a say in the ranking of memories that were found.
pub const REACH: i64 = 3;

/// A way of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// BM25.
    Words,
    /// Cosine of vectors.
    Meaning,
}

/// Where a hit stood in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Place {
    /// From 1.
    pub rank: usize,
    /// In the channel's own measure.
    pub score: f64,
}

/// What the score of a hit consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Its own words.
    Words,
    /// Its own meaning.
    Meaning,
    /// Words and meaning of the turns around.
    Around,
    /// Words and meaning of the whole session.
    Session,
    /// When it happened.
    Time,
    /// Who said it.
    Speaker,
}

/// A memory of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Terms of the question that it has.
    pub parts: &'a [Part],
    /// Cosine, where the search by meaning found it.
    pub cosine: Option<f64>,
    /// What else is known.
    pub setting: &'a Setting,
    /// The terms by which the question names its speaker, where it does.
    pub named: Option<&'a [usize]>,
    /// How near it is to the time that the question names, 0 to 1.
    pub time: f64,
}

/// The question.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Of each term whether it is the name of a speaker. In what was said by somebody such a term is an address and no
    /// subject, and counts for nothing; whoever it names has said it.
    pub names: &'a [bool],
    /// Weight of all its terms, found or not; 0 where that is not known.
    pub total: f64,
}

/// A memory's score and what it consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    /// The sum of the shares, damped.
    pub score: f64,
    /// In units of the score, before the damping; those that are not 0.
    pub shares: BTreeMap<Share, f64>,
    /// What is left by the damping.
    pub damping: f64,
    /// BM25 with the terms of the turns around, without names: how much of what is asked about somebody is covered.
    pub coverage: f64,
}

/// Turns of the pool in the order of their conversations, so that a turn's neighbours are next to it.
struct Turns {
    order: Vec<usize>,
    /// Of each member its place in that order.
    place: Vec<Option<usize>>,
    /// Of each member its session; memories without one have one of their own.
    session: Vec<usize>,
    sessions: usize,
}

impl Turns {
    fn new(members: &[Member<'_>]) -> Self {
        let mut order: Vec<usize> = (0..members.len())
            .filter(|at| members[*at].setting.turn.is_some())
            .collect();
        order.sort_by(|a, b| members[*a].setting.turn.cmp(&members[*b].setting.turn));
        let mut place = vec![None; members.len()];
        let mut session = vec![usize::MAX; members.len()];
        let mut sessions = 0;
        for (index, at) in order.iter().enumerate() {
            let follows = index > 0 && {
                let (a, b) = (
                    &members[order[index - 1]].setting.turn,
                    &members[*at].setting.turn,
                );
                a.as_ref().map(|t| (t.project, &t.session))
                    == b.as_ref().map(|t| (t.project, &t.session))
            };
            sessions += usize::from(!follows);
            place[*at] = Some(index);
            session[*at] = sessions - 1;
        }
        for own in session.iter_mut().filter(|session| **session == usize::MAX) {
            *own = sessions;
            sessions += 1;
        }
        Self {
            order,
            place,
            session,
            sessions,
        }
    }

    /// The neighbours of a member with their distance, negative before it.
    fn around(&self, members: &[Member<'_>], at: usize, found: &mut Vec<(i64, usize)>) {
        found.clear();
        let (Some(place), Some(turn)) = (self.place[at], &members[at].setting.turn) else {
            return;
        };
        let mut add = |other: usize| {
            let Some(number) = members[other].setting.turn.as_ref().map(|turn| turn.number) else {
                return false;
            };
            let distance = number.saturating_sub(turn.number);
            let near = self.session[other] == self.session[at] && distance.abs() <= REACH;
            if near && distance != 0 {
                found.push((distance, other));
            }
            near
        };
        let _ = self.order[..place]
            .iter()
            .rev()
            .take(MOST_AROUND)
            .all(|other| add(*other));
        let _ = self.order[place + 1..]
            .iter()
            .take(MOST_AROUND)
            .all(|other| add(*other));
    }
}

fn step(distance: i64) -> usize {
    usize::try_from(distance.abs() - 1).unwrap_or_default()
}

/// Of each member what its terms give. In what somebody said the names of speakers give nothing; where a note has such a
/// name, those who bear it have as much of it in all that they said.
fn counted(members: &[Member<'_>], names: &[bool]) -> Vec<Vec<Part>> {
    let mut noted = vec![0.0_f64; names.len()];
    for member in members
        .iter()
        .filter(|member| member.setting.speaker.is_none())
    {
        for part in member
            .parts
            .iter()
            .filter(|part| part.term < names.len() && names[part.term])
        {
            noted[part.term] = noted[part.term].max(part.gain);
        }
    }
    let of = |member: &Member<'_>| {
        let spoken = member.setting.speaker.is_some();
        let counts = |part: &&Part| part.term < names.len() && !(spoken && names[part.term]);
        let said = member
            .named
            .unwrap_or_default()
            .iter()
            .filter(|term| **term < names.len() && names[**term]);
        let said = said
            .map(|term| Part {
                term: *term,
                gain: noted[*term],
            })
            .filter(|part| part.gain > 0.0);
        member
            .parts
            .iter()
            .filter(counts)
            .copied()
            .chain(said)
            .collect()
    };
    members.iter().map(of).collect()
}

/// The members' scores, in their order.
#[must_use]
pub fn fuse(members: &[Member<'_>], question: Question<'_>) -> Vec<Fused> {
    let turns = Turns::new(members);
    let terms = question.names.len();
    let parts = counted(members, question.names);
    let parts = |at: usize| parts[at].iter();

    // The best of each term in each session.
    let mut best = vec![0.0_f64; turns.sessions * terms];
    for (at, session) in turns.session.iter().enumerate() {
        for part in parts(at) {
            let known = &mut best[session * terms + part.term];
            *known = known.max(part.gain);
        }
    }
    let session_words: Vec<f64> = (0..turns.sessions)
        .map(|session| best[session * terms..][..terms].iter().sum())
        .collect();

    // Meaning, from the worst candidate to the best.
    let cosines = || members.iter().filter_map(|member| member.cosine);
    let (low, high) = (
        cosines().fold(f64::INFINITY, f64::min),
        cosines().fold(f64::NEG_INFINITY, f64::max),
    );
    let sure = ((high - UNSURE) / SURE).clamp(0.0, 1.0);
    let share = |cosine: f64| {
        sure * if high > low {
            (cosine - low) / (high - low)
        } else {
            1.0
        }
    };
    let meaning: Vec<f64> = members
        .iter()
        .map(|member| member.cosine.map_or(0.0, share))
        .collect();
    let mut session_meaning = vec![0.0_f64; turns.sessions];
    for (session, meaning) in turns.session.iter().zip(&meaning) {
        session_meaning[*session] = session_meaning[*session].max(*meaning);
    }

    let mut near = Vec::new();
    let mut scratch = vec![0.0_f64; terms];
    let mut own = vec![0.0_f64; members.len()];
    let mut coverage = vec![0.0_f64; members.len()];
    let mut nameless = vec![0.0_f64; members.len()];
    // The mean meaning around, where there is anything.
    let mut around: Vec<Option<f64>> = vec![None; members.len()];
    for at in 0..members.len() {
        turns.around(members, at, &mut near);
        scratch.fill(0.0);
        for part in parts(at) {
            scratch[part.term] = part.gain;
        }
        own[at] = scratch.iter().sum();
        let (mut sum, mut weights) = (0.0, 0.0);
        for (distance, other) in &near {
            let step = step(*distance);
            let weight = match distance {
                -1 if members[*other].setting.asks => ASKED,
                ..0 => BEHIND[step],
                _ => AHEAD[step],
            };
            for part in parts(*other) {
                scratch[part.term] = scratch[part.term].max(weight * part.gain);
            }
            if let Some(weight) = AROUND_NEAR.get(step) {
                sum += weight * meaning[*other];
                weights += weight;
            }
        }
        coverage[at] = scratch.iter().sum();
        nameless[at] = scratch
            .iter()
            .zip(question.names)
            .filter(|(_, name)| !**name)
            .map(|(gain, _)| gain)
            .sum();
        around[at] = (weights > 0.0).then(|| sum / weights);
    }

    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let (most_words, most_session) = (most(&coverage), most(&session_words));
    let trust = if high.is_finite() && question.total > 0.0 {
        (most_words / (question.total * COVERED)).min(1.0)
    } else {
        1.0
    };
    let divided = |value: f64, by: f64| if by > 0.0 { trust * value / by } else { 0.0 };
    let fused = |at: usize| {
        let Member {
            setting,
            named,
            time,
            ..
        } = members[at];
        let session = turns.session[at];
        let alone = if around[at].is_none() {
            AROUND * ALONE
        } else {
            0.0
        };
        let words = SESSION_WORDS * divided(session_words[session], most_session);
        let topic = SESSION_MEANING * session_meaning[session];
        // A memory that is its own session has what that gives from itself.
        let (own_words, own_topic, session_share) = if setting.turn.is_some() {
            (0.0, 0.0, words + topic)
        } else {
            (words, topic, 0.0)
        };
        let shares = [
            (Share::Words, divided(own[at], most_words) + own_words),
            (Share::Meaning, (MEANING + alone) * meaning[at] + own_topic),
            (
                Share::Around,
                divided(coverage[at] - own[at], most_words)
                    + AROUND * around[at].unwrap_or_default(),
            ),
            (Share::Session, session_share),
            (Share::Time, TIME * time),
            (Share::Speaker, if named.is_some() { SPEAKER } else { 0.0 }),
        ];
        let mut damping = 1.0;
        if setting.turn.is_some() {
            let full = f64::from(setting.length).ln_1p() / FULL_LENGTH.ln_1p();
            damping = 1.0 - SHORT * (1.0 - full.min(1.0));
            if setting.asks {
                damping *= 1.0 - ASKING;
            }
        }
        let score = damping * shares.iter().map(|(_, share)| share).sum::<f64>();
        let shares = shares
            .into_iter()
            .filter(|(_, share)| *share > 0.0)
            .collect();
        Fused {
            score,
            shares,
            damping,
            coverage: nameless[at],
        }
    };
    (0..members.len()).map(fused).collect()
}

/// Candidates by what they are worth before anything around them is known: the sum of their shares of each channel's
/// best.
#[must_use]
pub fn preliminary<K: Copy + Eq + std::hash::Hash>(
    words: &[(K, f64)],
    meaning: &[(K, f64)],
) -> HashMap<K, f64> {
    let mut scores: HashMap<K, f64> = HashMap::with_capacity(words.len() + meaning.len());
    let most = words.iter().map(|(_, score)| *score).fold(0.0, f64::max);
    for (key, score) in words {
        *scores.entry(*key).or_default() += if most > 0.0 { score / most } else { 0.0 };
    }
    let low = meaning
        .iter()
        .map(|(_, cosine)| *cosine)
        .fold(f64::INFINITY, f64::min);
    let high = meaning
        .iter()
        .map(|(_, cosine)| *cosine)
        .fold(f64::NEG_INFINITY, f64::max);
    for (key, cosine) in meaning {
        *scores.entry(*key).or_default() += if high > low {
            (cosine - low) / (high - low)
        } else {
            1.0
        };
    }
    scores
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn said(number: Option<i64>, length: u32, asks: bool) -> Setting {
        Setting::new(
            1,
            (Some("s".to_owned()), number),
            None,
            length,
            asks,
            DateTime::UNIX_EPOCH,
        )
    }

    fn member<'a>(parts: &'a [Part], cosine: Option<f64>, setting: &'a Setting) -> Member<'a> {
        Member {
            parts,
            cosine,
            setting,
            named: None,
            time: 0.0,
        }
    }

    fn scores(members: &[Member<'_>]) -> Vec<f64> {
        fuse(
            members,
            Question {
                names: &[false, false],
                total: 0.0,
            },
        )
        .iter()
        .map(|fused| fused.score)
        .collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-9, "{found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn an_answer_has_the_words_of_its_question() {
        let parts = [Part { term: 0, gain: 2.0 }];
        let (question, answer, late) = (
            said(Some(1), 30, true),
            said(Some(2), 30, false),
            said(Some(3), 30, false),
        );
        // Coverage 2, 2 and 1; the session covers all of it.
        let members = [
            member(&parts, None, &question),
            member(&[], None, &answer),
            member(&[], None, &late),
        ];
        close(&scores(&members), &[1.3 * 0.9, 1.3, 0.5 + 0.3]);
        let plain = said(Some(1), 30, false);
        let members = [member(&parts, None, &plain), member(&[], None, &answer)];
        close(&scores(&members), &[1.3, 0.4 + 0.3]);
    }

    #[test]
    fn memories_outside_of_conversations_have_nothing_around_them_and_lose_nothing() {
        let (one, two) = ([Part { term: 0, gain: 3.0 }], [Part { term: 1, gain: 1.5 }]);
        let note = said(None, 1, true);
        let members = [
            member(&one, Some(0.6), &note),
            member(&two, Some(0.4), &note),
            member(&[], Some(0.2), &note),
        ];
        let found = fuse(
            &members,
            Question {
                names: &[false, false],
                total: 0.0,
            },
        );
        // Meaning is 1, 0.5 and 0 and weighs 0.4 + 0.6 / 2 + 0.3.
        close(
            &found.iter().map(|fused| fused.score).collect::<Vec<_>>(),
            &[2.3, 0.65 + 0.5, 0.0],
        );
        assert_eq!(
            found[0].shares.keys().collect::<Vec<_>>(),
            [&Share::Words, &Share::Meaning]
        );
    }

    #[test]
    fn stray_words_count_less_beside_meaning() {
        let stray = [Part { term: 0, gain: 1.0 }];
        let note = said(None, 5, false);
        let question = Question {
            names: &[false, false],
            total: 6.0,
        };
        let scores = |cosines: [Option<f64>; 2]| {
            let members = [
                member(&stray, cosines[0], &note),
                member(&[], cosines[1], &note),
            ];
            fuse(&members, question)
                .iter()
                .map(|fused| fused.score)
                .collect::<Vec<_>>()
        };
        // A sixth of the question is covered, of three quarters that are wanted.
        close(&scores([Some(0.2), Some(0.6)]), &[1.3 / 4.5, 1.0]);
        close(&scores([None, None]), &[1.3, 0.0]);
    }

    #[test]
    fn meaning_around_counts_and_a_low_best_cosine_does_not() {
        let settings = [
            said(Some(1), 30, false),
            said(Some(2), 30, false),
            said(Some(4), 30, false),
        ];
        let cosines = |cosines: [f64; 3]| {
            let members: Vec<Member<'_>> = settings
                .iter()
                .zip(cosines)
                .map(|(setting, cosine)| member(&[], Some(cosine), setting))
                .collect();
            scores(&members)
        };
        // Meaning 1, 0.5, 0. Around the first: the second; around the second: the first and, two away, the third.
        let around = [0.5, (0.6 * 1.0 + 0.4 * 0.0) / 1.0, 0.5];
        let expected = [
            0.4 + 0.6 * around[0] + 0.3,
            0.2 + 0.6 * around[1] + 0.3,
            0.6 * around[2] + 0.3,
        ];
        close(&cosines([0.8, 0.5, 0.2]), &expected);
        close(&cosines([0.14, 0.05, 0.0]), &[0.0; 3]);
        close(&cosines([0.25, 0.25, 0.25]), &[0.5 * 1.3; 3]);
    }

    #[test]
    fn names_speakers_times_and_lengths() {
        let parts = [Part { term: 0, gain: 1.0 }, Part { term: 1, gain: 1.0 }];
        let spoken = Setting {
            speaker: Some("Ada".to_owned()),
            ..said(None, 5, false)
        };
        let note = said(None, 5, false);
        let question = Question {
            names: &[true, false],
            total: 0.0,
        };
        let ada = Member {
            named: Some(&[0]),
            time: 0.5,
            ..member(&parts[1..], None, &spoken)
        };
        // Without a note that has the name, it is worth nothing beside the speaker.
        let found = fuse(&[ada, member(&parts, None, &spoken)], question);
        close(
            &found.iter().map(|fused| fused.score).collect::<Vec<_>>(),
            &[1.3 + 0.5 + 0.2, 1.3],
        );
        // With it, who says it has it.
        let found = fuse(
            &[
                ada,
                member(&parts, None, &spoken),
                member(&parts, None, &note),
            ],
            question,
        );
        close(
            &found.iter().map(|fused| fused.score).collect::<Vec<_>>(),
            &[1.3 + 0.5 + 0.2, 0.65, 1.3],
        );
        assert!(
            found
                .iter()
                .all(|fused| (fused.coverage - 1.0).abs() < 1e-9),
            "names are no coverage"
        );
        let short = said(Some(1), 1, false);
        let members = [member(&parts, None, &short)];
        close(
            &scores(&members),
            &[1.3 * (1.0 - 0.4 * (1.0 - 2.0_f64.ln() / 31.0_f64.ln()))],
        );
        assert!(
            fuse(
                &[],
                Question {
                    names: &[],
                    total: 0.0
                }
            )
            .is_empty()
        );
    }
}
