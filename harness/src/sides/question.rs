//! What a side can be asked after a divergence, besides running tokens.

use std::ops::Range;
use std::sync::Arc;

pub use engine::OperationInputs;

/// A question. None of them moves the side's sequence.
#[derive(Clone, Debug)]
pub enum Question {
    /// The rows of one operation alone.
    Operation {
        /// Its tap.
        tap: String,
        /// Its layer.
        layer: Option<usize>,
        /// What it reads.
        inputs: Arc<OperationInputs>,
    },
    /// Keys and values as the side keeps them.
    Cache {
        /// Of which layer.
        layer: usize,
        /// Of which positions.
        positions: Range<usize>,
    },
    /// The bytes of a weight where the side computes.
    Weight {
        /// Its GGUF name.
        tensor: String,
    },
}

/// What the side said.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To an operation.
    Rows(Vec<f32>),
    /// To the cache.
    Cache {
        /// Row after row.
        keys: Vec<f32>,
        /// Row after row.
        values: Vec<f32>,
    },
    /// To a weight: the file's layout, or nothing where the side has no such tensor.
    Weight(Option<Vec<u8>>),
    /// This side cannot be asked.
    Unable,
}
