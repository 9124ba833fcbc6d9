//! Why a tap differs: causes tested against the data, and silence where none reproduces it.
//!
//! **Invariant:** nothing is near enough. A cause is named when it gives the engine's rows bit for
//! bit, or inside a bound that CONTRACT.md derives; the smaller of two errors is no verdict.

mod evidence;
mod explanation;
mod hypothesis;
mod library;

pub use evidence::{Evidence, Repeats, same};
pub use explanation::{Certainty, Explanation, Label};
pub use hypothesis::{Answer, Diagnosis, Hypothesis, No, Untested};
pub use library::{Library, Shelf, Weight};

/// The hypotheses in their order: what needs least to be believed comes first.
pub const HYPOTHESES: [Hypothesis; 0] = [];

/// Tests every hypothesis.
pub fn diagnose(evidence: &Evidence<'_>) -> Diagnosis {
    Diagnosis::of(evidence, &HYPOTHESES, None)
}
