//! What it means to agree: verdicts, and the witness of a divergence.
//!
//! **Invariant:** agreement is stated positively (`difference <= limit`), and NaN never agrees.

pub mod canary;
pub mod familiar;
pub mod limits;
pub mod neighbourhood;
pub mod outcomes;
pub mod rows;
pub mod sequence;
pub mod triangle;

use std::borrow::Cow;
use std::fmt;

use engine::gguf::Shown;
use serde::Serialize;

use crate::number::{Hash, Number};

/// What a run says.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Everything that was compared agrees, and something was.
    Agrees,
    /// The sides part here.
    Diverges(Box<Divergence>),
    /// Nothing can be concluded; never a success.
    Inconclusive(Reason),
}

impl Verdict {
    /// The word for it in tables and files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Diverges(_) => "diverges",
            Self::Inconclusive(_) => "inconclusive",
        }
    }

    /// The first divergence wins over the first doubt, and doubt over agreement.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        match (&self, &later) {
            (Self::Diverges(_), _) => self,
            (_, Self::Diverges(_)) => later,
            (Self::Inconclusive(_), _) => self,
            _ => later,
        }
    }
}

/// Why nothing can be concluded.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// No row was compared.
    NothingCompared,
    /// The user stopped the run.
    Interrupted {
        /// Steps that were compared before.
        steps_compared: usize,
    },
    /// The planted bit was not seen: what compares is broken.
    CanaryUnseen,
    /// Both sides are the same program on the same device.
    SameIdentity {
        /// What both say they are.
        identity: String,
    },
    /// Both sides computed the same value that is no number, at the same place.
    NonFiniteOnBothSides {
        /// Where.
        place: Place,
        /// The element.
        index: usize,
        /// Its name.
        value: Number,
    },
    /// A side stopped before the end.
    SideFailed {
        /// What it said.
        message: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingCompared => write!(f, "nothing was compared"),
            Self::Interrupted { steps_compared } => {
                write!(f, "interrupted after {steps_compared} steps")
            }
            Self::CanaryUnseen => write!(f, "the planted bit flip was not seen"),
            Self::SameIdentity { identity } => {
                write!(f, "both sides are {identity}: a side is never compared with itself")
            }
            Self::NonFiniteOnBothSides { place, index, value } => {
                write!(f, "{place} [{index}] is {value} on both sides")
            }
            Self::SideFailed { message } => write!(f, "{message}"),
        }
    }
}

/// Whether a step runs the prompt or one new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The last token of the prompt.
    PrefillLast,
    /// One token.
    Decode,
}

impl Phase {
    /// The word for it in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::PrefillLast => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// What records are paired on, never on the step alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// The token at this position.
    pub token_id: u32,
    /// Its position.
    pub position: usize,
    /// The layer, for the taps inside one.
    pub layer: Option<usize>,
    /// The name in CONTRACT.md, section 12.
    pub tap: Cow<'static, str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "layer {layer} tap {}", Shown(&self.tap))?,
            None => write!(f, "tap {}", Shown(&self.tap))?,
        }
        write!(f, " at position {}, token {}", self.position, self.token_id)
    }
}

/// Where in a run something was compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The record.
    #[serde(flatten)]
    pub key: Key,
    /// The step of the run, 0 is the prompt.
    pub step: usize,
    /// Prompt or decode.
    pub phase: Phase,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({}) {}", self.step, self.phase.word(), self.key)
    }
}

/// What a buffer of the engine holds before a launch writes it.
const POISON_BITS: &str = "0xffffffff";

/// What such a value says.
const NOT_WRITTEN: &str =
    "; the engine's value is poison: not written, or computed from what nobody wrote";

/// One element of both rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Element {
    /// Its place in the row.
    pub index: usize,
    /// What the reference has.
    pub expected: Number,
    /// Its bits.
    pub expected_bits: String,
    /// What the engine has.
    pub actual: Number,
    /// Its bits.
    pub actual_bits: String,
}

impl Element {
    /// The same element of both rows.
    pub fn new(index: usize, expected: Number, actual: Number) -> Self {
        let (expected_bits, actual_bits) = (expected.bits(), actual.bits());
        Self { index, expected, expected_bits, actual, actual_bits }
    }
}

/// How two things differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    /// One row has a NaN or an infinity where the other has none, or another one.
    NonFinite,
    /// Finite values with other bits.
    Bits,
    /// Rows of two lengths.
    Length {
        /// Of the reference.
        expected_count: usize,
        /// Of the engine.
        actual_count: usize,
    },
    /// One row is f32 and the other f64.
    Precision,
    /// Two taps that are no pair: one is missing, or they came in another order.
    Sequence {
        /// What the reference emitted; nothing when it had ended.
        expected: Option<Key>,
        /// What the engine emitted; nothing when it had ended.
        actual: Option<Key>,
    },
    /// Equal rows, but the sides' own hashes of them differ.
    Hash {
        /// Of the reference.
        expected: Hash,
        /// Of the engine.
        actual: Hash,
    },
    /// The same tokens gave other bits in another chunking, on one side.
    Chunking {
        /// Which side.
        side: String,
        /// How the tokens were cut.
        chunking: String,
    },
    /// Further from f64 than the rule allows.
    Distance {
        /// What was measured.
        quantity: &'static str,
        /// How far.
        distance: Number,
        /// How far it may be.
        limit: Number,
    },
    /// Another token on top, although the gap is too wide for that.
    Top1 {
        /// Of the reference.
        expected_id: u32,
        /// Of the engine.
        actual_id: Option<u32>,
        /// Between the reference's first and second.
        gap: Number,
        /// The gap below which the top may change.
        limit: Number,
    },
}

/// The first place where the sides part, with all that is needed to look at it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// How.
    pub difference: Difference,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The first element that differs, where rows were compared.
    pub element: Option<Element>,
    /// How many elements differ.
    pub differing_count: usize,
    /// Of how many.
    pub elements_count: usize,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        let show = |key: &Option<Key>| key.as_ref().map_or("nothing".into(), Key::to_string);
        match &self.difference {
            Difference::NonFinite | Difference::Bits => {}
            Difference::Length { expected_count, actual_count } => {
                write!(
                    f,
                    ": the engine has {actual_count} values, the reference {expected_count}"
                )?;
            }
            Difference::Precision => write!(f, ": one row is f32, the other f64")?,
            Difference::Sequence { expected, actual } => {
                let (engine, reference) = (show(actual), show(expected));
                write!(f, ": no pair: the engine emitted {engine}, the reference {reference}")?;
            }
            Difference::Hash { expected, actual } => {
                write!(
                    f,
                    ": equal rows, but the engine hashes {actual}, the reference {expected}"
                )?;
            }
            Difference::Chunking { side, chunking } => {
                write!(f, ": {side} gives other bits in {chunking}")?;
            }
            Difference::Distance { quantity, distance, limit } => {
                write!(f, ": {quantity} is {distance}, the limit {limit}")?;
            }
            Difference::Top1 { expected_id, actual_id, gap, limit } => {
                let actual = actual_id.map_or("none".to_owned(), |id| id.to_string());
                write!(f, ": top-1 is {actual}, not {expected_id}, at gap {gap} over {limit}")?;
            }
        }
        let Some(element) = &self.element else { return Ok(()) };
        let (actual, expected) = match self.difference {
            Difference::Chunking { .. } => ("cut so", "in the run"),
            _ => ("engine", "reference"),
        };
        let Element { index, .. } = element;
        write!(f, " [{index}]: {actual} {} ({})", element.actual, element.actual_bits)?;
        write!(f, ", {expected} {} ({})", element.expected, element.expected_bits)?;
        write!(f, "; {} of {} elements differ", self.differing_count, self.elements_count)?;
        let poison = self.difference == Difference::NonFinite && element.actual_bits == POISON_BITS;
        if poison && !element.expected.to_f64().is_nan() {
            f.write_str(NOT_WRITTEN)
        } else {
            Ok(())
        }
    }
}
