//! Faults of real engines, planted on purpose: what a search has to find. None is on by itself.
//!
//! A fault of the host's code is asked for in `llama/`, at the one place it would have been made;
//! a kernel's fault is a number of the build `faulty` (engine/kernels/faults.toml).

use crate::gguf::TensorType;
use std::str::FromStr;

/// A planted fault, after the real one that it is modelled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The token table is read as `[hidden][vocabulary]`.
    EmbeddingTransposed,
    /// Keys are projected with as many rows as queries have.
    KeyRowsOfQueries,
    /// The weights of keys and values are transposed when they are loaded.
    KvWeightsTransposed,
    /// Minima of `Q4_K` and `Q5_K` come from the bytes of the scales.
    MinimaFromScales,
    /// `Q6_K` is unpacked as if its values lay one after the other.
    LinearQ6K,
    /// Tiles of a product's result are stored transposed above 32 rows.
    TileTransposed,
    /// Tiles of a product's activations are read transposed above 32 rows.
    OperandTransposed,
    /// A decode reads the cache of layer 0 in every layer.
    CacheOfLayerZero,
    /// A decode does not attend to its own position.
    OneKeyLess,
    /// Rotary pairs are the halves of a head.
    RotaryHalves,
    /// Queries are scaled twice.
    ScaledTwice,
    /// From the second decode on, logits are those of the first.
    StaleLogits,
    /// Keys and values are stored with as many heads as queries have.
    CacheHeadsOfQueries,
    /// Attention is not launched.
    LaunchSkipped,
    /// One logit is NaN.
    NanLogit,
    /// All logits are NaN.
    NanLogits,
    /// Epsilon is 1e-6 whatever the file says.
    EpsilonDefault,
    /// The cache in f16 is narrowed by truncation.
    Truncation,
    /// A later chunk of a prompt attends to its own keys only.
    ChunkForgets,
    /// A quantised matrix is taken for one of f16.
    BlockAsF16,
    /// The readout is that of the first row.
    ReadoutOfRowZero,
    /// One bit of a weight flips after it was uploaded.
    WeightBit,
}

impl Fault {
    /// Every fault, its id in the fault matrix, and its number in the build `faulty` if it is a
    /// kernel's.
    pub const ALL: [(Self, &'static str, Option<u32>); 22] = [
        (Self::EmbeddingTransposed, "F01", Some(1)),
        (Self::KeyRowsOfQueries, "F02", None),
        (Self::KvWeightsTransposed, "F03", None),
        (Self::MinimaFromScales, "F04", Some(4)),
        (Self::LinearQ6K, "F05", Some(5)),
        (Self::TileTransposed, "F06", Some(6)),
        (Self::OperandTransposed, "F07", Some(7)),
        (Self::CacheOfLayerZero, "F08", None),
        (Self::OneKeyLess, "F09", Some(9)),
        (Self::RotaryHalves, "F10", Some(10)),
        (Self::ScaledTwice, "F11", Some(11)),
        (Self::StaleLogits, "F14", None),
        (Self::CacheHeadsOfQueries, "F15", None),
        (Self::LaunchSkipped, "F23", None),
        (Self::NanLogit, "F24", None),
        (Self::NanLogits, "F24-all", None),
        (Self::EpsilonDefault, "F26", Some(26)),
        (Self::Truncation, "F27", Some(27)),
        (Self::ChunkForgets, "F30", Some(30)),
        (Self::BlockAsF16, "F31", None),
        (Self::ReadoutOfRowZero, "F34", None),
        (Self::WeightBit, "F39", None),
    ];

    fn entry(self) -> (Self, &'static str, Option<u32>) {
        let found = Self::ALL.into_iter().find(|(fault, ..)| *fault == self);
        found.expect("every fault is in the list")
    }

    /// Its id in the fault matrix.
    pub fn id(self) -> &'static str {
        self.entry().1
    }

    /// Whether a device that runs tuned kernels has it, with a token table of this type. Tuned
    /// products unpack blocks with code of their own; the rows of the table are unpacked by the
    /// plain kernel everywhere.
    pub fn is_on_waves(self, table: TensorType) -> bool {
        match self {
            Self::MinimaFromScales => matches!(table, TensorType::Q4K | TensorType::Q5K),
            Self::LinearQ6K => table == TensorType::Q6K,
            _ => true,
        }
    }

    /// Its number in the build `faulty`.
    pub fn kernel_number(self) -> Option<u32> {
        self.entry().2
    }
}

/// The text given for a fault is none of the ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown fault `{text}`: use one of {}", ids())]
pub struct FaultError {
    text: String,
}

fn ids() -> String {
    Fault::ALL.map(|(_, id, _)| id).join(", ")
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|(_, id, _)| *id == text);
        found.map(|(fault, ..)| fault).ok_or_else(|| FaultError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_number_of_a_kernel_has_its_edits_and_every_edit_its_fault() {
        let list = include_str!("../kernels/faults.toml");
        let numbers = list.lines().filter_map(|line| line.strip_prefix("number = "));
        let planted: BTreeSet<u32> = numbers.map(|number| number.parse().unwrap()).collect();
        let named: BTreeSet<u32> = Fault::ALL.iter().filter_map(|(_, _, number)| *number).collect();
        assert_eq!(planted, named);
    }

    #[test]
    fn ids_round_trip_and_are_told_when_there_is_none() {
        for (fault, id, _) in Fault::ALL {
            assert_eq!(id.parse(), Ok(fault));
        }
        let error = "F99".parse::<Fault>().unwrap_err().to_string();
        assert!(error.starts_with("unknown fault `F99`: use one of F01, F02"), "{error}");
    }
}
