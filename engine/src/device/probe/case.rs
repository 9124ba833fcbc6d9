//! A case of the probe: an operation, its inputs, the bits that are due, and what demands them.

use super::demand::Demand;
use super::operation::{Answer, Operation};
use std::fmt;

/// The three words a lane of the kernel reads.
pub(super) type Words = [u32; 3];

/// One operation on chosen inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) operation: Operation,
    pub(super) inputs: Words,
    pub(super) expected: u32,
}

impl Case {
    /// An operation on up to three f32 that answers with an f32.
    pub(super) const fn float(operation: Operation, inputs: [f32; 3], expected: f32) -> Self {
        Self::bits(operation, inputs, expected.to_bits())
    }

    /// An operation on up to three f32, the answer as its bits.
    pub(super) const fn bits(operation: Operation, [x, y, z]: [f32; 3], expected: u32) -> Self {
        Self { operation, inputs: [x.to_bits(), y.to_bits(), z.to_bits()], expected }
    }

    /// An operation on one word.
    pub(super) const fn word(operation: Operation, input: u32, expected: u32) -> Self {
        Self { operation, inputs: [input, 0, 0], expected }
    }

    /// Whether an answer is the one that is due; payload and sign of NaN are nobody's.
    pub(super) fn accepts(&self, actual: u32) -> bool {
        let is_nan: fn(u32) -> bool = match self.operation.answer() {
            Answer::Float => |word| f32::from_bits(word).is_nan(),
            Answer::Half => |word| (0x7c01..0x8000).contains(&(word & 0xffff_7fff)),
            Answer::Word => |_| false,
        };
        actual == self.expected || (is_nan(actual) && is_nan(self.expected))
    }
}

/// The cases of one demand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) demand: Demand,
    pub(super) cases: &'static [Case],
}

/// An operation whose answer was not the one that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub(super) demand: Demand,
    pub(super) operation: Operation,
    pub(super) inputs: Words,
    pub(super) expected: u32,
    pub(super) actual: u32,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { demand, operation, inputs, expected, actual } = self;
        let formula = operation.with_inputs(*inputs);
        write!(f, "{}: {formula} gave {actual:#010x}, {expected:#010x} is due", demand.failure())
    }
}
