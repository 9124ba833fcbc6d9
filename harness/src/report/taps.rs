//! The lines of `taps.jsonl`: what every tap of every step came to, in few characters.
//!
//! A line `{"taps": [[layer, name], ...]}` says which taps the lines after it speak of, in the
//! order of the run. A line of a step has runs of one letter each, `"540="`: equal bits in all 540
//! taps.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::compare::outcomes::{State, TapOutcome};
use crate::compare::{Phase, Verdict};
use crate::event::Step;
use crate::number::Number;

/// The most taps of a step that are told in full: after the first all others differ because of it.
const UNEQUAL_MAX: usize = 8;

/// A tap: its layer and its name.
pub type TapName = (Option<usize>, Cow<'static, str>);

/// Which taps there are.
#[derive(Debug, Serialize)]
pub struct TapsLine<'a> {
    taps: &'a [TapName],
}

/// One step.
#[derive(Debug, Serialize)]
pub struct OutcomesLine<'a> {
    step: usize,
    phase: Phase,
    verdict: &'static str,
    outcomes: String,
    rows_compared: u64,
    elements_compared: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound_shares: Option<Vec<Option<Number>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unequal: Vec<Unequal<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// A tap that is not equal in every row.
#[derive(Debug, Serialize)]
struct Unequal<'a> {
    layer: Option<usize>,
    tap: &'a str,
    rows_differing: u64,
    elements_differing: u64,
}

/// Remembers which taps were named last.
#[derive(Debug, Default)]
pub struct Names {
    last: Vec<TapName>,
}

impl Names {
    /// The line that has to stand before a step, if its taps are others than those before.
    pub fn line(&mut self, step: &Step) -> Option<TapsLine<'_>> {
        let same = self.last.len() == step.taps.len()
            && self
                .last
                .iter()
                .zip(&step.taps)
                .all(|((layer, name), tap)| *layer == tap.layer && *name == tap.tap);
        if same {
            return None;
        }
        self.last = step.taps.iter().map(|tap| (tap.layer, tap.tap.clone())).collect();
        Some(TapsLine { taps: &self.last })
    }
}

impl<'a> OutcomesLine<'a> {
    /// What a step came to.
    pub fn of(step: &'a Step) -> Self {
        let shares: Vec<_> = step.taps.iter().map(|tap| tap.bound_share).collect();
        let unequal = |tap: &&TapOutcome| !matches!(tap.state, State::Equal | State::Within);
        Self {
            step: step.step,
            phase: step.phase,
            verdict: step.verdict.word(),
            outcomes: runs(step.taps.iter().map(|tap| tap.state)),
            rows_compared: step.tally.rows_compared,
            elements_compared: step.tally.elements_compared,
            bound_shares: shares.iter().any(Option::is_some).then_some(shares),
            unequal: step
                .taps
                .iter()
                .filter(unequal)
                .take(UNEQUAL_MAX)
                .map(|tap| Unequal {
                    layer: tap.layer,
                    tap: &tap.tap,
                    rows_differing: tap.rows_differing,
                    elements_differing: tap.elements_differing,
                })
                .collect(),
            message: match &step.verdict {
                Verdict::Agrees => None,
                Verdict::Diverges(divergence) => Some(divergence.to_string()),
                Verdict::Inconclusive(reason) => Some(reason.to_string()),
            },
        }
    }
}

/// States as runs of letters.
pub fn runs(states: impl Iterator<Item = State>) -> String {
    let mut text = String::new();
    let mut open: Option<(State, usize)> = None;
    let mut close = |open: Option<(State, usize)>| {
        if let Some((state, count)) = open {
            let _ = write!(text, "{count}{}", state.letter());
        }
    };
    for state in states {
        open = match open {
            Some((last, count)) if last == state => Some((state, count + 1)),
            other => {
                close(other);
                Some((state, 1))
            }
        };
    }
    close(open);
    text
}

/// Back from runs of letters: how many taps of which state. Nothing where it is no such text.
pub fn states(runs: &str) -> Option<Vec<(usize, State)>> {
    let mut found = Vec::new();
    let mut count = String::new();
    for letter in runs.chars() {
        if letter.is_ascii_digit() {
            count.push(letter);
        } else {
            found.push((count.parse().ok()?, State::of_letter(letter)?));
            count.clear();
        }
    }
    count.is_empty().then_some(found)
}

/// A line of the file as it is read again; what is unknown is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReadLine {
    /// The names that hold from here on.
    pub taps: Option<Vec<TapName>>,
    /// The step, in the line of one.
    pub step: Option<usize>,
    /// What it showed.
    pub verdict: Option<String>,
    /// Runs of letters.
    pub outcomes: Option<String>,
    /// Distances over their limits; a number, or the name of what is none.
    pub bound_shares: Option<Vec<serde_json::Value>>,
    /// What it says where it does not agree.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_read_back_and_other_texts_do_not() {
        let all = [State::Equal, State::Equal, State::Differs, State::Equal, State::NoPartner];
        let text = runs(all.into_iter());
        assert_eq!(text, "2=1x1=1-");
        let back: Vec<State> = states(&text)
            .unwrap()
            .into_iter()
            .flat_map(|(count, state)| std::iter::repeat_n(state, count))
            .collect();
        assert_eq!(back, all);
        for text in ["=", "2", "2=3", "2?", "99999999999999999999999="] {
            assert_eq!(states(text), None, "{text}");
        }
    }
}
