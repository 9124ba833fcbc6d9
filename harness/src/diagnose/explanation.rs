//! What a diagnosis says: the label of a cause, how sure it is, on what evidence, where to look.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

/// The causes that have a name. `docs/diagnosis.md` says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// The same inputs gave several answers.
    Race,
    /// The device holds other bytes of a weight than the file.
    MemoryCorruption,
    /// One bit of one output is another.
    BitFlip,
    /// The poison of a fresh buffer, or its zeros, stand where values should.
    NotWritten,
    /// The operation read memory that nobody wrote.
    Uninitialised,
    /// Rows and columns are exchanged, in the whole, in tiles or in heads.
    Transposed,
    /// A row is another row of the same pass.
    WrongRow,
    /// Every element stands some elements away.
    Shifted,
    /// Heads are exchanged, or read another head's keys and values.
    HeadMapping,
    /// The values of another layer.
    WrongLayer,
    /// The values of an earlier pass.
    Stale,
    /// Part of the tensor holds another tensor's values.
    Overlap,
    /// A summand is missing.
    MissingTerm,
    /// A summand counts twice.
    DoubleTerm,
    /// An activation function was left out or is another one.
    Activation,
    /// The operation read another tensor than its input.
    WrongInput,
    /// Attention covers one key too few or too many.
    OffByOneLength,
    /// Attention does not see what came before this chunk.
    MissingContext,
    /// Attention sees positions that it must not.
    WrongMask,
    /// Pairs of the rotary embedding are others, or turn another way.
    RotaryConvention,
    /// The rotary embedding turned by another position.
    RotaryPosition,
    /// Multiplied by a constant.
    Scaled,
    /// Limited to a range.
    Clamped,
    /// The epsilon of a norm is another.
    WrongEpsilon,
    /// A field of a quantised block was read wrongly.
    Dequantisation,
    /// The bytes were read as another type.
    WeightType,
    /// Another weight tensor of the same shape.
    WrongMatrix,
    /// Weights and activations met at other places of the inner index.
    ContractionIndex,
    /// Another rounding, or another order of a sum.
    Rounding,
    /// NaN or infinity, without a cause that explains it.
    NonFinite,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::Race,
        Self::MemoryCorruption,
        Self::BitFlip,
        Self::NotWritten,
        Self::Uninitialised,
        Self::Transposed,
        Self::WrongRow,
        Self::Shifted,
        Self::HeadMapping,
        Self::WrongLayer,
        Self::Stale,
        Self::Overlap,
        Self::MissingTerm,
        Self::DoubleTerm,
        Self::Activation,
        Self::WrongInput,
        Self::OffByOneLength,
        Self::MissingContext,
        Self::WrongMask,
        Self::RotaryConvention,
        Self::RotaryPosition,
        Self::Scaled,
        Self::Clamped,
        Self::WrongEpsilon,
        Self::Dequantisation,
        Self::WeightType,
        Self::WrongMatrix,
        Self::ContractionIndex,
        Self::Rounding,
        Self::NonFinite,
    ];

    /// The words in reports; those of the fault matrix.
    pub fn words(self) -> &'static str {
        match self {
            Self::Race => "race",
            Self::MemoryCorruption => "memory corruption",
            Self::BitFlip => "bit flip",
            Self::NotWritten => "not written",
            Self::Uninitialised => "uninitialised",
            Self::Transposed => "transposed",
            Self::WrongRow => "wrong row",
            Self::Shifted => "shifted",
            Self::HeadMapping => "head mapping",
            Self::WrongLayer => "wrong layer",
            Self::Stale => "stale",
            Self::Overlap => "overlap",
            Self::MissingTerm => "missing term",
            Self::DoubleTerm => "double term",
            Self::Activation => "activation",
            Self::WrongInput => "wrong input",
            Self::OffByOneLength => "off by one (length)",
            Self::MissingContext => "missing context",
            Self::WrongMask => "wrong mask",
            Self::RotaryConvention => "rotary convention",
            Self::RotaryPosition => "rotary position",
            Self::Scaled => "scaled",
            Self::Clamped => "clamped",
            Self::WrongEpsilon => "wrong epsilon",
            Self::Dequantisation => "dequantisation",
            Self::WeightType => "weight type",
            Self::WrongMatrix => "wrong matrix",
            Self::ContractionIndex => "contraction index",
            Self::Rounding => "rounding",
            Self::NonFinite => "non-finite",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.words())
    }
}

/// How well an explanation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Every element of every row is reproduced, bit for bit.
    Exact,
    /// Every element that the cause determines is; the others come from outside of known tensors.
    ExactInside,
    /// Every element is as near as the bounds of CONTRACT.md, section 15, say.
    WithinBound,
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::ExactInside => "exact inside",
            Self::WithinBound => "within bound",
        })
    }
}

/// A cause that reproduces what the engine computed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The cause.
    pub label: Label,
    /// How well it holds.
    pub certainty: Certainty,
    /// One sentence with the numbers.
    pub evidence: String,
    /// The cause's own numbers and names: which row, which layer, by how much.
    pub parameters: BTreeMap<&'static str, String>,
    /// Sources of the engine where such a fault would stand.
    pub look_at: Vec<&'static str>,
}

impl Explanation {
    /// An exact explanation without parameters.
    pub fn new(label: Label, evidence: impl Into<String>) -> Self {
        Self {
            label,
            certainty: Certainty::Exact,
            evidence: evidence.into(),
            parameters: BTreeMap::new(),
            look_at: Vec::new(),
        }
    }

    /// The same with one more parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.parameters.insert(name, value.to_string());
        self
    }

    /// The same with sources of its own, in the place of those of its label.
    #[must_use]
    pub fn looking_at(mut self, sources: &[&'static str]) -> Self {
        self.look_at = sources.to_vec();
        self
    }

    /// The same with another certainty.
    #[must_use]
    pub fn certain(mut self, certainty: Certainty) -> Self {
        self.certainty = certainty;
        self
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.label, self.certainty, self.evidence)
    }
}
