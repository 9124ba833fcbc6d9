//! Why a tap differs: causes tested against the data, and silence where none reproduces it.
//!
//! **Invariant:** nothing is near enough. A cause is named when it gives the engine's rows bit for
//! bit, or inside a bound that CONTRACT.md derives; the smaller of two errors is no verdict.

mod attention;
mod clamped;
mod elsewhere;
mod evidence;
mod explanation;
mod flips;
mod held;
mod hypothesis;
mod keys;
mod library;
mod memory;
mod narrow;
mod operation;
mod places;
mod planes;
mod product;
mod reading;
mod rotary;
mod rounding;
mod rowwise;
mod scaled;
mod scales;
mod sources;
mod substitutes;
mod table;
mod weights;

pub use evidence::{Evidence, Repeats, same};
pub use explanation::{Certainty, Explanation, Label};
pub use hypothesis::{Answer, Diagnosis, Hypothesis, Needs, No, Untested};
pub use library::{Library, Shelf, Weight};
pub use sources::look_at;
pub use table::{HYPOTHESES, diagnose};
