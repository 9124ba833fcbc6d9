//! A speed against those of earlier nights: their median, their spread, two levels.

use std::fmt;

use serde::Serialize;

use super::history::{History, Night};
use super::{Part, median};

/// Earlier nights that are needed before a speed is judged; a median of fewer is none.
pub const NIGHTS_MIN: usize = 3;

/// Earlier nights that are looked at.
pub const NIGHTS_MAX: usize = 14;

/// A value further from the median than so many median deviations is outside the spread. For a
/// normal distribution that is 2.7 standard deviations, one night in 150 and slower.
const SPREADS: f64 = 4.0;

/// Parts of the median below which a speed is told and below which it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// Below it the line warns.
    pub warn_below: f64,
    /// Below it the line fails.
    pub fail_below: f64,
}

/// What a speed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// No earlier night measured the same.
    NoHistory,
    /// There are earlier nights, but not enough of them.
    TooFew,
    /// As fast as before.
    Ok,
    /// Below the first level, or below the second within the spread.
    Warn,
    /// Below the second level and outside the spread.
    Fail,
}

/// Which of the two speeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The prompt.
    Prefill,
    /// One by one.
    Decode,
}

impl Phase {
    fn of(self, night: &Night) -> f64 {
        match self {
            Self::Prefill => night.prefill_tokens_per_second,
            Self::Decode => night.decode_tokens_per_second,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// One speed with what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Of what.
    pub part: Part,
    /// Which speed of it.
    pub phase: Phase,
    /// Tonight's.
    pub tokens_per_second: f64,
    /// How many earlier nights there are, at most [`NIGHTS_MAX`].
    pub nights_count: usize,
    /// Their median; none without nights.
    pub median: Option<f64>,
    /// The median of the distances from it.
    pub median_deviation: Option<f64>,
    /// Tonight's as a part of the median.
    pub ratio: Option<f64>,
    /// The answer.
    pub verdict: Word,
}

/// Both speeds of a night against the history.
pub fn judge(history: &History, now: &Night, levels: Levels) -> [Judgement; 2] {
    let nights = history.last(now, NIGHTS_MAX);
    [Phase::Prefill, Phase::Decode].map(|phase| {
        let earlier: Vec<f64> = nights.iter().map(|night| phase.of(night)).collect();
        one(now.part, phase, phase.of(now), &earlier, levels)
    })
}

fn one(part: Part, phase: Phase, speed: f64, earlier: &[f64], levels: Levels) -> Judgement {
    let some = |value: f64| (!earlier.is_empty()).then_some(value);
    let middle = median(earlier);
    let distances: Vec<f64> = earlier.iter().map(|value| (value - middle).abs()).collect();
    let deviation = median(&distances);
    let reaches = |level: f64| speed >= level * middle;
    let within_spread = speed >= middle - SPREADS * deviation;
    let verdict = match earlier.len() {
        0 => Word::NoHistory,
        1..NIGHTS_MIN => Word::TooFew,
        _ if reaches(levels.warn_below) => Word::Ok,
        _ if reaches(levels.fail_below) => {
            if within_spread {
                Word::Ok
            } else {
                Word::Warn
            }
        }
        _ => {
            if within_spread {
                Word::Warn
            } else {
                Word::Fail
            }
        }
    };
    Judgement {
        part,
        phase,
        tokens_per_second: speed,
        nights_count: earlier.len(),
        median: some(middle),
        median_deviation: some(deviation),
        ratio: some(speed / middle),
        verdict,
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, phase) = (self.part.name(), self.phase.name());
        write!(f, "{part:<18}  {phase:<7}  {:>9.1} tok/s", self.tokens_per_second)?;
        if let (Some(median), Some(deviation), Some(ratio)) =
            (self.median, self.median_deviation, self.ratio)
        {
            let count = self.nights_count;
            let nights = if count == 1 { "night" } else { "nights" };
            write!(f, ", {ratio:.2} of {median:.1} ± {deviation:.1} in {count} {nights}")?;
        }
        f.write_str(match self.verdict {
            Word::NoHistory => ": no history",
            Word::TooFew => ": too few nights to judge",
            Word::Ok => ": ok",
            Word::Warn => ": slower, warn",
            Word::Fail => ": slower, fail",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Levels = Levels { warn_below: 0.95, fail_below: 0.85 };

    fn verdict(speed: f64, earlier: &[f64]) -> Word {
        one(Part::Engine, Phase::Decode, speed, earlier, LEVELS).verdict
    }

    #[test]
    fn three_nights_are_judged_and_fewer_are_not() {
        assert_eq!(verdict(1.0, &[]), Word::NoHistory);
        assert_eq!(verdict(1.0, &[100.0, 100.0]), Word::TooFew);
        assert_eq!(verdict(1.0, &[100.0; 3]), Word::Fail);
        assert_eq!(verdict(84.9, &[100.0; 3]), Word::Fail);
        assert_eq!(verdict(85.0, &[100.0; 3]), Word::Warn);
        assert_eq!(verdict(94.9, &[100.0; 3]), Word::Warn);
        assert_eq!(verdict(95.0, &[100.0; 3]), Word::Ok);
        assert_eq!(verdict(300.0, &[100.0; 3]), Word::Ok);
        assert_eq!(verdict(f64::NAN, &[100.0; 3]), Word::Fail, "what is no number is no success");
    }

    #[test]
    fn one_slow_night_before_does_not_move_the_median() {
        assert_eq!(verdict(90.0, &[100.0, 10.0, 100.0, 101.0]), Word::Warn);
        assert_eq!(verdict(80.0, &[100.0, 10.0, 100.0, 101.0]), Word::Fail);
    }

    #[test]
    fn a_runner_that_swings_is_failed_only_outside_its_swing() {
        let swinging = [80.0, 90.0, 100.0, 110.0, 120.0];
        let found = one(Part::Engine, Phase::Prefill, 80.0, &swinging, LEVELS);
        assert_eq!((found.median, found.median_deviation), (Some(100.0), Some(10.0)));
        assert_eq!(found.verdict, Word::Warn);
        assert_eq!(verdict(90.0, &swinging), Word::Ok);
        assert_eq!(verdict(59.0, &swinging), Word::Fail);
    }

    #[test]
    fn a_line_says_what_it_was_compared_with() {
        let words = |speed, earlier: &[f64]| {
            one(Part::Engine, Phase::Decode, speed, earlier, LEVELS).to_string()
        };
        assert_eq!(
            words(84.0, &[99.0, 100.0, 102.0]),
            "engine              decode        84.0 tok/s, 0.84 of 100.0 ± 1.0 in 3 nights: \
             slower, fail"
        );
        assert_eq!(words(7.25, &[]), "engine              decode         7.2 tok/s: no history");
    }
}
