//! What to run: the tokens, who chooses the next one, which sides there are.

use std::collections::BTreeSet;

use serde::Serialize;

use super::lane::Lane;
use crate::compare::triangle::Judge;
use crate::sides::TapLevel;

/// Who chooses the next token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Drive {
    /// The reference's largest logit.
    #[default]
    Reference,
    /// The engine's.
    Engine,
}

impl Drive {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Engine => "engine",
        }
    }
}

/// A run before it begins.
pub struct Plan<'a> {
    /// The ids both sides get.
    pub prompt_ids: Vec<u32>,
    /// The most tokens to choose; the last is not run.
    pub max_tokens: usize,
    /// Who chooses.
    pub drive: Drive,
    /// What is watched and compared besides the readout.
    pub level: TapLevel,
    /// The most tokens the sides run at once; a longer call is cut by each side itself.
    pub ubatch: usize,
    /// The tokens that end a text.
    pub end_ids: BTreeSet<u32>,
    /// Whether the tokens are run again in other chunkings after the steps.
    pub prefill_decode: bool,
    /// Whether to go on after one of them.
    pub past_end: bool,
    /// The text of a single token.
    pub text: &'a dyn Fn(u32) -> Option<String>,
    /// The text of many.
    pub decode: &'a dyn Fn(&[u32]) -> Option<String>,
}

/// Who the engine is compared with.
#[expect(clippy::large_enum_variant, reason = "there is one in a run")]
pub enum References {
    /// The contract: equal bits.
    Exact(Lane),
    /// The contract as it was computed before; it has one chunking, and no taps.
    Recorded(Lane),
    /// Two voices in float, one of which judges.
    Triangle {
        /// candle's floats.
        stock: Lane,
        /// f64.
        wide: Lane,
        /// Which of them is the reference.
        judge: Judge,
    },
}

/// The sides of a run, each in its thread.
pub struct Lanes {
    /// The side under test.
    pub engine: Lane,
    /// The others.
    pub references: References,
}

impl Lanes {
    /// The references, the judge first.
    pub fn references(&self) -> Vec<&Lane> {
        match &self.references {
            References::Exact(lane) | References::Recorded(lane) => vec![lane],
            References::Triangle { stock, wide, judge: Judge::Wide } => vec![wide, stock],
            References::Triangle { stock, wide, judge: Judge::Stock } => vec![stock, wide],
        }
    }

    /// All of them, the engine first.
    pub fn all(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.engine).chain(self.references())
    }
}
