//! A recorded trace: what one side gave, row by row, in one form for every engine.
//!
//! A file of JSON lines: the header, then a line for each row and each landscape, then the end.
//! Numbers round-trip, NaN and infinities are strings, hashes are hexadecimal.

pub mod diff;
mod error;
mod fields;
pub mod greta;
pub mod json;
mod parse;
pub mod record;
#[cfg(test)]
mod tests;
mod write;

use serde::Serialize;

pub use error::TraceError;
pub(crate) use fields::Fields;
pub use parse::{parse, read};
pub use write::Writer;

use crate::compare::{Key, Phase};
use crate::event::Stopped;
use crate::identity::ModelIdentity;
use crate::landscape::Logit;
use crate::number::{Hash, Number};
use crate::sides::{SideIdentity, TapLevel};

/// The version of the form.
pub const VERSION: u64 = 1;

/// The longest line that is read: the row of two million logits fits.
pub const LINE_BYTES_MAX: usize = 1 << 24;

/// Whole: header, rows in the order they were computed, landscapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The first line.
    pub header: Header,
    /// The rows, in the order of the file.
    pub records: Vec<Record>,
    /// The tops of the logits.
    pub landscapes: Vec<Landscape>,
    /// How the file ends.
    pub ending: Ending,
}

impl Trace {
    /// Whether rows may be missing at its end: it has none, or its run was stopped.
    pub fn is_early(&self) -> bool {
        matches!(
            self.ending,
            Ending::Early { .. } | Ending::Whole(Stopped::Interrupted | Stopped::Failed)
        )
    }
}

/// Whose rows these are, and what their numbers mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Header {
    /// The version of the form.
    pub trace: u64,
    /// Which program wrote the file.
    pub written_by: String,
    /// Who computed.
    pub side: SideIdentity,
    /// The model file, where it is known.
    pub model: Option<ModelIdentity>,
    /// The variant of CONTRACT.md that was computed; none for any other arithmetic.
    pub contract: Option<Contract>,
    /// The precision of the rows.
    pub precision: Precision,
    /// Significant decimal digits of the numbers, where they were rounded for printing.
    pub digits: Option<u32>,
    /// What the hashes are.
    pub hash: HashKind,
    /// What was watched; none where nobody said it.
    pub tap: Option<TapLevel>,
    /// The options of the run, where they are known.
    pub options: Option<TraceOptions>,
    /// The ids of the prompt, where they are known.
    pub prompt_ids: Option<Vec<u32>>,
}

/// A variant of the contract: two runs of equal variants have equal bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contract {
    /// Digits of an activation.
    pub activations: String,
    /// Type of the cache.
    pub kv: String,
}

/// The type of a row's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// binary32.
    F32,
    /// binary64.
    F64,
}

/// Which function of which elements a hash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKind {
    /// CONTRACT.md section 13, over the whole row.
    Contract,
    /// Another function, or of a part of the row: no evidence here.
    Foreign,
    /// There is none.
    None,
}

/// The options of a run on one side, as far as they can change a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceOptions {
    /// The device that was asked for.
    pub device: String,
    /// Tokens of one chunk.
    pub ubatch: usize,
    /// Positions of the cache.
    pub context_tokens: usize,
    /// Threads of the side.
    pub threads: usize,
    /// The most tokens to choose.
    pub max_tokens: usize,
}

/// One row of one tap.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where it stands in the file; 0 for one that was never in a file.
    pub line: usize,
    /// The token at the position; none where the engine did not say it.
    pub token_id: Option<u32>,
    /// Its position.
    pub position: usize,
    /// The layer, for the taps inside one.
    pub layer: Option<usize>,
    /// The name in CONTRACT.md, section 12, or an engine's own.
    pub tap: String,
    /// The step of the run, 0 is the prompt. Nothing is paired on it.
    pub step: usize,
    /// Prompt or decode.
    pub phase: Phase,
    /// The hash, of the kind that the header says.
    pub hash: Option<Hash>,
    /// How many values the row has.
    pub elements_count: Option<usize>,
    /// How many of them, from the first, the figures cover; none for all.
    pub covered_count: Option<usize>,
    /// The smallest value that is a number.
    pub min: Number,
    /// The largest.
    pub max: Number,
    /// The mean.
    pub mean: Number,
    /// How many are NaN; none where nobody counted.
    pub nan: Option<usize>,
    /// How many are infinite.
    pub inf: Option<usize>,
    /// The first values, where only they are known.
    pub sample: Option<Vec<Number>>,
    /// Every value.
    pub row: Option<Vec<f32>>,
}

impl Record {
    /// What it is paired on; none where the token is unknown.
    pub fn key(&self) -> Option<Key> {
        let token_id = self.token_id?;
        let tap = self.tap.clone().into();
        Some(Key { token_id, position: self.position, layer: self.layer, tap })
    }
}

/// The top of the logits at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Landscape {
    /// Where it stands in the file.
    pub line: usize,
    /// The step of the run.
    pub step: usize,
    /// The token that was run; none where the engine did not say it.
    pub token_id: Option<u32>,
    /// Its position.
    pub position: Option<usize>,
    /// The largest logits.
    pub top: Vec<Logit>,
    /// First minus second.
    pub gap: Option<Number>,
    /// Over the largest 64.
    pub entropy: Number,
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its last line.
    Whole(Stopped),
    /// Without: the run was killed, or is not over.
    Early {
        /// Bytes of a line that was not written to its end.
        cut_bytes: usize,
    },
}
