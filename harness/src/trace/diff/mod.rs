//! Two recorded traces against each other: pair by key, judge each pair, name the first that parts.
//!
//! **Invariant:** statistics can show that rows differ and never that they are equal.

mod judge;
mod pair;
mod report;
#[cfg(test)]
mod tests;

use std::fmt;

use engine::gguf::Shown;
use serde::Serialize;

use super::{HashKind, Header, Trace};
use crate::compare::{Element, Key};
use crate::number::{Hash, Number};
use judge::Judgement;
use pair::{Pairing, Which};

pub use pair::{Count, Unpaired};
pub use report::Report;

/// Why two traces are not compared at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Two files, two models.
    #[error("A ran the model {one}, B the model {two}: no row of one has a partner in the other")]
    Models {
        /// Name and hash.
        one: String,
        /// Name and hash.
        two: String,
    },
    /// Two variants of the contract: their bits are meant to differ.
    #[error("A computed {one}, B {two}: their bits are not meant to be equal")]
    Contracts {
        /// The variant.
        one: String,
        /// The variant.
        two: String,
    },
}

/// What a pair of rows is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Hashes of whole rows under one contract.
    Bits,
    /// Minimum, maximum, mean, counts and samples, within the bounds of `limits.rs`.
    Statistics,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// What most is decided by.
    pub evidence: Evidence,
    /// Pairs that were judged by bits.
    pub pairs_by_bits: usize,
    /// Pairs that were judged by statistics.
    pub pairs_by_statistics: usize,
    /// Pairs whose figures cover different elements.
    pub pairs_incomparable: usize,
    /// Pairs that part.
    pub pairs_differing: usize,
    /// What has no partner, by reason.
    pub unpaired: Vec<Count>,
    /// What it says.
    pub verdict: DiffVerdict,
}

/// What two traces say.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "snake_case")]
pub enum DiffVerdict {
    /// Equal bits everywhere, and nothing without a partner.
    Agrees,
    /// The first place in the order of computation.
    Diverges(Box<Finding>),
    /// Never a success.
    Inconclusive(Doubt),
}

/// The first place where the traces part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The record.
    #[serde(flatten)]
    pub key: Key,
    /// The line in A.
    pub line_a: Option<usize>,
    /// The line in B.
    pub line_b: Option<usize>,
    /// How.
    pub difference: Parting,
}

/// How two records part.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Parting {
    /// Other bits.
    Bits {
        /// The hash in A.
        hash_a: Hash,
        /// The hash in B.
        hash_b: Hash,
        /// The first element, where both have rows; A's is the expected one.
        element: Option<Element>,
        /// How many elements differ, where both have rows.
        differing_count: Option<usize>,
    },
    /// Rows of two lengths.
    Length {
        /// In A.
        a: usize,
        /// In B.
        b: usize,
    },
    /// Another count of values that are no number.
    NonFinite {
        /// NaN, or infinite values.
        what: &'static str,
        /// In A.
        a: usize,
        /// In B.
        b: usize,
    },
    /// A figure further off than rounding can bring it.
    Figure {
        /// Which.
        name: String,
        /// In A.
        a: Number,
        /// In B.
        b: Number,
        /// How far it may be.
        limit: Number,
    },
    /// Another token on top, at a gap too wide for that.
    Top1 {
        /// In A.
        a: u32,
        /// In B.
        b: u32,
        /// The smaller of both gaps.
        gap: Number,
        /// Below it the top may change.
        limit: Number,
    },
    /// One trace has no such record.
    Missing {
        /// The one that has it.
        only_in: &'static str,
    },
    /// The other trace ran another token there.
    OtherToken {
        /// In A.
        a: u32,
        /// In B.
        b: u32,
    },
}

/// Why nothing can be concluded.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Doubt {
    /// A side is never compared with itself.
    SameIdentity {
        /// What both say they are.
        identity: String,
    },
    /// No pair could be judged.
    NothingCompared,
    /// The comparison did not see a difference that was planted.
    CanaryUnseen,
    /// A trace without its end: what comes after it is not there.
    EndedEarly {
        /// Which.
        which: &'static str,
        /// Records of the other without a partner.
        missing_count: usize,
    },
    /// A key stands more than once: which of them is meant, nobody knows.
    Duplicates {
        /// How many records.
        count: usize,
    },
    /// The same NaN or infinities on both sides: nobody is right.
    NonFiniteOnBothSides {
        /// The first such record.
        key: Key,
    },
    /// Not told apart: figures that are alike prove nothing.
    StatisticsOnly {
        /// How many pairs.
        pairs_count: usize,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameIdentity { identity } => {
                write!(f, "both traces are of {identity}: a side is never compared with itself")
            }
            Self::NothingCompared => write!(f, "nothing was compared"),
            Self::CanaryUnseen => write!(f, "the planted difference was not seen"),
            Self::EndedEarly { which, missing_count } => {
                write!(f, "{which} ended early: {missing_count} records have no partner")
            }
            Self::Duplicates { count } => {
                write!(f, "{count} records stand under a key that another has too")
            }
            Self::NonFiniteOnBothSides { key } => {
                write!(f, "{key} has NaN or infinite values in both")
            }
            Self::StatisticsOnly { pairs_count } => write!(
                f,
                "not told apart: {pairs_count} pairs have figures that are alike, which proves \
                 nothing of their rows"
            ),
        }
    }
}

impl Diff {
    /// 0 agrees, 1 diverges, 4 inconclusive.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            DiffVerdict::Agrees => 0,
            DiffVerdict::Diverges(_) => 1,
            DiffVerdict::Inconclusive(_) => 4,
        }
    }
}

/// Compares two traces.
pub fn compare(one: &Trace, two: &Trace) -> Result<Diff, Refusal> {
    refuse(&one.header, &two.header)?;
    let evidence = evidence(&one.header, &two.header);
    let mut diff = Diff {
        evidence,
        pairs_by_bits: 0,
        pairs_by_statistics: 0,
        pairs_incomparable: 0,
        pairs_differing: 0,
        unpaired: Vec::new(),
        verdict: DiffVerdict::Agrees,
    };
    let (a, b) = (&one.header.side, &two.header.side);
    if a == b {
        let [name, device, build] =
            [&a.implementation, &a.device, &a.build].map(|text| text.escape_debug());
        let identity = format!("{name} on {device}, {build}");
        diff.verdict = DiffVerdict::Inconclusive(Doubt::SameIdentity { identity });
        return Ok(diff);
    }
    let pairing = Pairing::of(one, two);
    let mut found: Vec<((usize, usize), Finding)> = Vec::new();
    let mut doubts = Vec::new();
    let mut canary = None;
    for pair in &pairing.pairs {
        let (a, b) = (&one.records[pair.a], &two.records[pair.b]);
        let by = judge::evidence(evidence, a, b);
        match judge::judge(by, &one.header, &two.header, (a, b)) {
            Judgement::Incomparable => {
                diff.pairs_incomparable += 1;
                continue;
            }
            Judgement::Alike => {
                canary.get_or_insert_with(|| judge::canary(by, &one.header, &two.header, (a, b)));
            }
            Judgement::NonFinite => {
                doubts.push(Doubt::NonFiniteOnBothSides { key: pair.key.clone() });
            }
            Judgement::Parts(difference) => {
                diff.pairs_differing += 1;
                let lines = (Some(a.line), Some(b.line));
                found.push(((pair.a, 0), finding(&pair.key, lines, difference)));
            }
        }
        match by {
            Evidence::Bits => diff.pairs_by_bits += 1,
            Evidence::Statistics => diff.pairs_by_statistics += 1,
        }
    }
    if evidence == Evidence::Statistics {
        found.extend(judge::tops(one, two));
    }
    found.extend(pairing.missing(one, two));
    found.sort_by_key(|(order, _)| *order);
    diff.unpaired = pairing.counts(one, two);
    let first = found.into_iter().next().map(|(_, finding)| finding);
    diff.verdict = verdict(&diff, first, doubts, canary, (one, two));
    Ok(diff)
}

fn finding(key: &Key, lines: (Option<usize>, Option<usize>), difference: Parting) -> Finding {
    Finding { key: key.clone(), line_a: lines.0, line_b: lines.1, difference }
}

/// A divergence wins over doubt, and doubt over agreement.
fn verdict(
    diff: &Diff,
    first: Option<Finding>,
    doubts: Vec<Doubt>,
    canary: Option<bool>,
    (one, two): (&Trace, &Trace),
) -> DiffVerdict {
    let judged = diff.pairs_by_bits + diff.pairs_by_statistics;
    if judged == 0 {
        return DiffVerdict::Inconclusive(Doubt::NothingCompared);
    }
    if let Some(first) = first {
        return DiffVerdict::Diverges(Box::new(first));
    }
    let mut doubts = doubts.into_iter();
    if let Some(doubt) = doubts.next() {
        return DiffVerdict::Inconclusive(doubt);
    }
    if canary != Some(true) {
        return DiffVerdict::Inconclusive(Doubt::CanaryUnseen);
    }
    let count = |reason: Unpaired| -> usize {
        diff.unpaired.iter().filter(|count| count.reason == reason).map(|count| count.records).sum()
    };
    let duplicates = count(Unpaired::Duplicate);
    if duplicates > 0 {
        return DiffVerdict::Inconclusive(Doubt::Duplicates { count: duplicates });
    }
    if diff.pairs_by_statistics > 0 || diff.pairs_incomparable > 0 {
        let pairs_count = diff.pairs_by_statistics + diff.pairs_incomparable;
        return DiffVerdict::Inconclusive(Doubt::StatisticsOnly { pairs_count });
    }
    for (which, trace) in [(Which::A, one), (Which::B, two)] {
        if trace.is_early() {
            let missing_count = count(Unpaired::BehindEarlyEnd);
            let which = which.word();
            return DiffVerdict::Inconclusive(Doubt::EndedEarly { which, missing_count });
        }
    }
    DiffVerdict::Agrees
}

fn refuse(one: &Header, two: &Header) -> Result<(), Refusal> {
    if let (Some(a), Some(b)) = (&one.model, &two.model)
        && a.sha256 != b.sha256
    {
        let words = |name: &str, hash: &str| {
            format!("{} ({})", Shown(name), Shown(hash.get(..16).unwrap_or(hash)))
        };
        let (one, two) = (words(&a.name, &a.sha256), words(&b.name, &b.sha256));
        return Err(Refusal::Models { one, two });
    }
    if let (Some(a), Some(b)) = (&one.contract, &two.contract)
        && a != b
    {
        let words = |activations: &str, kv: &str| {
            format!("activations {}, cache {}", Shown(activations), Shown(kv))
        };
        let one = words(&a.activations, &a.kv);
        let two = words(&b.activations, &b.kv);
        return Err(Refusal::Contracts { one, two });
    }
    Ok(())
}

/// Bits are compared only where both computed the same contract and hash by it.
fn evidence(one: &Header, two: &Header) -> Evidence {
    let hashes = one.hash == HashKind::Contract && two.hash == HashKind::Contract;
    let contracts = one.contract.is_some() && one.contract == two.contract;
    if hashes && contracts && one.precision == two.precision {
        Evidence::Bits
    } else {
        Evidence::Statistics
    }
}
