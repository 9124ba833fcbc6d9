//! How fast each side is, alone and together: medians, each part in a process of its own, and
//! whether that is slower than on the nights before.
//!
//! **Invariant:** no part shares a thread pool, a cache or an environment variable with another.

pub mod candle;
pub mod history;
pub mod judgement;
pub mod part;
pub mod table;

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The engine.
    Engine,
    /// The reference, the contract.
    Exact,
    /// The reference, candle's floats.
    Stock,
    /// The reference, f64.
    Wide,
    /// candle-transformers as it comes.
    Candle,
    /// candle-transformers with `CANDLE_DEQUANTIZE_ALL=1`.
    CandleDequantised,
    /// Engine and exact in lockstep.
    Lockstep,
}

impl Part {
    /// In the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Engine,
        Self::Exact,
        Self::Stock,
        Self::Wide,
        Self::Candle,
        Self::CandleDequantised,
        Self::Lockstep,
    ];

    /// The word on the command line, in JSON and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Exact => "exact",
            Self::Stock => "stock",
            Self::Wide => "wide",
            Self::Candle => "candle",
            Self::CandleDequantised => "candle-dequantised",
            Self::Lockstep => "lockstep",
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Threads of each side.
    pub threads: usize,
    /// How often.
    pub repeat: usize,
    /// Tokens of the prompt.
    pub prefill_tokens: usize,
    /// Tokens one by one after it.
    pub decode_tokens: usize,
}

impl Work {
    /// Positions that are needed.
    pub fn context_tokens(&self) -> usize {
        self.prefill_tokens + self.decode_tokens
    }

    /// The prompt, then the tokens one by one: ids spread over the vocabulary, equal everywhere.
    pub fn tokens(&self, vocabulary: usize) -> (Vec<u32>, Vec<u32>) {
        let id = |index: usize| ((index * 7919 + 1) % vocabulary) as u32;
        let prompt = (0..self.prefill_tokens).map(id).collect();
        let rest = (self.prefill_tokens..self.context_tokens()).map(id).collect();
        (prompt, rest)
    }
}

/// The seconds of one part, one value a repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// For the whole prompt.
    pub prefill: Vec<f64>,
    /// For all the tokens after it.
    pub decode: Vec<f64>,
}

/// A part with its speed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Which.
    pub part: Part,
    /// Median, tokens of the prompt in a second.
    pub prefill_tokens_per_second: f64,
    /// Median, tokens one by one in a second.
    pub decode_tokens_per_second: f64,
    /// Every repeat.
    pub seconds: Seconds,
}

impl Measured {
    /// From seconds to speed.
    pub fn new(part: Part, work: &Work, seconds: Seconds) -> Self {
        Self {
            part,
            prefill_tokens_per_second: work.prefill_tokens as f64 / median(&seconds.prefill),
            decode_tokens_per_second: work.decode_tokens as f64 / median(&seconds.decode),
            seconds,
        }
    }
}

/// The middle value; of an even count the mean of the two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn all_tokens_are_in_the_vocabulary() {
        let work = Work { threads: 1, repeat: 3, prefill_tokens: 128, decode_tokens: 32 };
        let (prompt, rest) = work.tokens(100);
        assert_eq!((prompt.len(), rest.len()), (128, 32));
        assert!(prompt.iter().chain(&rest).all(|&id| id < 100));
    }
}
