//! What a step gives: the hidden state the output projection reads, and the logits.

/// A row in the float type of its mode.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// `exact` and `stock`.
    F32(Vec<f32>),
    /// `wide`.
    F64(Vec<f64>),
}

impl Row {
    /// How many values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in f64; exact for both types.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
            Self::F64(values) => values.clone(),
        }
    }
}

/// The readout of the last token of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Readout {
    /// The position of that token.
    pub position: usize,
    /// The tap `final_norm`.
    pub hidden: Row,
    /// The tap `logits`.
    pub logits: Row,
}
