//! Who is to blame: the operation, what it read, the weights, or nobody that can be told.

use std::fmt;

use serde::Serialize;

/// The first block of a weight that is not the file's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightDefect {
    /// Its GGUF name.
    pub tensor: String,
    /// The row of the matrix.
    pub row: usize,
    /// The block in that row.
    pub block: usize,
    /// The first byte that differs, in the tensor.
    pub offset_bytes: usize,
    /// What the file has there.
    pub expected_byte: u8,
    /// What the device has there.
    pub actual_byte: u8,
    /// How many bytes of the tensor differ.
    pub differing_bytes: usize,
}

/// What the operation alone showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Judgement {
    /// The same inputs give several answers.
    NotDeterministic {
        /// How often it ran.
        runs: usize,
        /// How many answers there were.
        answers: usize,
        /// How many elements were not the same in all.
        elements_differing: usize,
    },
    /// The device holds other weights than the file.
    Weights(WeightDefect),
    /// With the reference's inputs it differs from the reference.
    OperationGuilty {
        /// Whether it gives what the pass gave.
        reproduces: bool,
        /// How often it gave the same.
        runs: usize,
    },
    /// With the reference's inputs it agrees: what it read in the pass was something else.
    InputGuilty {
        /// How often it agreed.
        runs: usize,
    },
    /// The cache's rows of positions before this pass are not what was stored there.
    CacheOverwritten,
    /// It cannot be told.
    Untold {
        /// Why.
        reason: String,
    },
}

impl Judgement {
    /// The word for it in tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotDeterministic { .. } => "not deterministic",
            Self::Weights(_) => "weights",
            Self::OperationGuilty { .. } => "operation",
            Self::InputGuilty { .. } => "input",
            Self::CacheOverwritten => "cache",
            Self::Untold { .. } => "untold",
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDeterministic { runs, answers, elements_differing } => write!(
                f,
                "not deterministic: alone, with equal inputs, {runs} runs gave {answers} answers \
                 ({elements_differing} elements)"
            ),
            Self::Weights(defect) => write!(
                f,
                "the weights are guilty: {} differs from the file first in row {}, block {} \
                 (byte {}: 0x{:02x}, not 0x{:02x}); {} of its bytes differ",
                defect.tensor,
                defect.row,
                defect.block,
                defect.offset_bytes,
                defect.actual_byte,
                defect.expected_byte,
                defect.differing_bytes,
            ),
            Self::OperationGuilty { reproduces: true, runs } => write!(
                f,
                "the operation is guilty: alone, with the reference's inputs, it gives the same \
                 wrong rows ({runs} of {runs} runs)"
            ),
            Self::OperationGuilty { reproduces: false, runs } => write!(
                f,
                "the operation is guilty: alone, with the reference's inputs, it differs from the \
                 reference, in another way than in the pass ({runs} of {runs} runs)"
            ),
            Self::InputGuilty { runs } => write!(
                f,
                "its input is guilty: alone, with the reference's inputs, it agrees in every bit \
                 ({runs} of {runs} runs), so in the pass it did not run or read something else: a \
                 stale buffer, another row, another layer"
            ),
            Self::CacheOverwritten => write!(
                f,
                "the cache is guilty: rows of positions before this pass are not what was stored"
            ),
            Self::Untold { reason } => write!(f, "it cannot be told: {reason}"),
        }
    }
}
