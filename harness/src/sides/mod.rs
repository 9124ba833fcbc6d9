//! What a side is: something that takes token ids and gives rows; one adapter file for each.
//!
//! **Invariant:** a side never sees the other, and hashes its rows with its own code.

pub mod accepted;
pub mod engine;
pub mod foreign;
#[cfg(test)]
pub(crate) mod imaginary;
pub mod question;
pub mod recorded;
pub mod recording;
pub mod reference;
pub mod sabotaged;

use serde::{Deserialize, Serialize};

use crate::number::Number;
use question::{Answer, Question};

/// Who computed: three words that make it possible to refuse comparing a side with itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SideIdentity {
    /// The program: `engine`, or a mode of the reference.
    pub implementation: String,
    /// Where it ran.
    pub device: String,
    /// What was built: version, kernels and their hash.
    pub build: String,
}

/// How much of a forward pass is watched. Each level includes the ones before it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum TapLevel {
    /// The last token's hidden state and logits.
    #[default]
    Readout,
    /// The stream after every layer too.
    Layer,
    /// Every operation.
    Op,
}

/// A row, or rows one after another, in the precision of their side.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// binary32.
    F32(&'a [f32]),
    /// binary64.
    F64(&'a [f64]),
}

/// One operation's output for the positions of one chunk, `rows * width` values.
#[derive(Clone, Copy, Debug)]
pub struct Tap<'a> {
    /// The name in CONTRACT.md, section 12.
    pub name: &'static str,
    /// The layer, for the taps inside one.
    pub layer: Option<usize>,
    /// The position of the first row.
    pub first_position: usize,
    /// How many positions.
    pub rows: usize,
    /// How many values a row has.
    pub width: usize,
    /// The values, row after row.
    pub values: Values<'a>,
}

/// The taps inside a layer, in the order of computation (CONTRACT.md, section 12).
pub(crate) const LAYER_TAPS: [&str; 15] = [
    "attn_norm",
    "q",
    "k",
    "v",
    "q_rope",
    "k_rope",
    "attn_out",
    "wo",
    "attn_residual",
    "ffn_norm",
    "gate",
    "up",
    "swiglu",
    "down",
    "ffn_residual",
];

/// Receives the taps of a forward pass in their order.
pub trait Watcher: Send {
    /// How much it wants to see; asked before each pass.
    fn level(&self) -> TapLevel;
    /// One tap; the values live only during the call.
    fn tap(&mut self, tap: Tap<'_>);
    /// Whether a side that can shows hashes first, and rows only of the taps that are then wanted.
    fn hashes_first(&self) -> bool {
        false
    }
    /// Some taps by the hashes of their rows, in their order.
    fn hashes(&mut self, _taps: Vec<HashedTap>) {}
    /// Which of the taps just shown is to be given with its rows; asked again after each.
    fn wanted(&mut self) -> Option<usize> {
        None
    }
}

/// A tap whose rows are still where they were computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedTap {
    /// The name in CONTRACT.md, section 12.
    pub name: &'static str,
    /// The layer, for the taps inside one.
    pub layer: Option<usize>,
    /// The position of the first row.
    pub first_position: usize,
    /// The side's hash of each row.
    pub hashes: Vec<u64>,
}

/// Wants nothing but the readout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watcher for Unwatched {
    fn level(&self) -> TapLevel {
        TapLevel::Readout
    }

    fn tap(&mut self, _tap: Tap<'_>) {}
}

/// A row that is owned.
#[derive(Clone, Debug)]
pub enum Row {
    /// binary32.
    F32(Vec<f32>),
    /// binary64.
    F64(Vec<f64>),
}

impl Row {
    /// A copy of borrowed values.
    pub fn copy_of(values: Values<'_>) -> Self {
        match values {
            Values::F32(values) => Self::F32(values.to_vec()),
            Values::F64(values) => Self::F64(values.to_vec()),
        }
    }

    /// How many values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One value. Panics outside the row.
    pub fn at(&self, index: usize) -> Number {
        match self {
            Self::F32(values) => Number::F32(values[index]),
            Self::F64(values) => Number::F64(values[index]),
        }
    }

    /// All values in f64; exact for both types.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            Self::F64(values) => values.clone(),
        }
    }
}

/// Where in device memory a row was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of the allocation.
    pub pointer: u64,
    /// Size of the allocation.
    pub allocation_bytes: u64,
    /// Offset of the row in it.
    pub offset_bytes: u64,
}

/// What the last token of a call left behind.
#[derive(Clone, Debug)]
pub struct Readout {
    /// The position of that token.
    pub position: usize,
    /// What the output projection reads: tap `final_norm`.
    pub hidden: Row,
    /// One value for each token of the vocabulary.
    pub logits: Row,
    /// Where `hidden` was read from, on a side that has device memory.
    pub hidden_place: Option<Place>,
    /// Where `logits` was read from.
    pub logits_place: Option<Place>,
}

/// How many copies between host and device had their bounds checked, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Copies {
    /// Checked before they ran.
    pub checked: u64,
    /// All.
    pub total: u64,
}

/// The weights that a side's device holds, read back and equal to the file's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// BLAKE3 over names and hashes of all of them.
    pub hash: String,
}

/// Why a side did not load or did not step.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SideError {
    /// The model or an option is at fault.
    #[error("{side}: {message}")]
    Input {
        /// Which side.
        side: &'static str,
        /// What it said.
        message: String,
    },
    /// The device is missing or failed.
    #[error("{side}: {message}")]
    Device {
        /// Which side.
        side: &'static str,
        /// What it said, with the remedy.
        message: String,
    },
    /// The device has too little memory.
    #[error("{side}: {message}")]
    Memory {
        /// Which side.
        side: &'static str,
        /// What is needed, what is free, what to lower.
        message: String,
    },
    /// The device is there, and its arithmetic is not the contract's.
    #[error("{side}: {message}")]
    Refused {
        /// Which side.
        side: &'static str,
        /// The first operation whose bits are wrong.
        message: String,
    },
    /// The side refused or failed a step that was in order.
    #[error("{side}: {message}")]
    Step {
        /// Which side.
        side: &'static str,
        /// What it said.
        message: String,
    },
    /// The process of a foreign engine is not what the protocol asks for.
    #[error("{side}: {message}")]
    Foreign {
        /// Which side.
        side: &'static str,
        /// The defect.
        message: String,
    },
    /// A panic, caught at the edge of the side's thread.
    #[error("{side} stopped with a panic: {message}")]
    Panicked {
        /// Which side.
        side: &'static str,
        /// Its message.
        message: String,
    },
}

/// Something that runs a model, one call after another; loading it is the adapter's own affair.
pub trait Side {
    /// Who this is.
    fn identity(&self) -> SideIdentity;
    /// Appends `tokens` to the sequence and runs them; the watcher sees their taps.
    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError>;
    /// Forgets the sequence; the next token stands at position 0.
    fn reset(&mut self);
    /// How many positions are taken.
    fn position(&self) -> usize;
    /// This side's own implementation of CONTRACT.md, section 13.
    fn hasher(&self) -> fn(&[f32]) -> u64;
    /// The copies so far, on a side that has device memory.
    fn copies(&self) -> Option<Copies>;
    /// Says what has been in flight for too long, on a side whose device can hang.
    fn hang(&self) -> Option<Hang> {
        None
    }
    /// The weights, on a side that was asked to read them back when it was loaded.
    fn verified(&self) -> Option<Verified> {
        None
    }
    /// Answers a question about one operation; its sequence stays as it is.
    fn answer(&mut self, _question: &Question) -> Result<Answer, SideError> {
        Ok(Answer::Unable)
    }
}

/// Asked from another thread: what a side has waited for longer than it may, in words.
pub type Hang = Box<dyn Fn() -> Option<String> + Send>;

/// The causes of an error in one line, from the outermost in.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
