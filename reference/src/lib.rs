//! The llama forward pass on candle, on the CPU, in three arithmetics: the contract, candle's, f64.
//!
//! **Invariant:** nothing here comes from the engine; CONTRACT.md is all the two have in common.
#![forbid(unsafe_code)]

mod arithmetic;
mod blocks;
pub mod bounds;
mod config;
mod error;
pub mod exact;
mod file;
pub mod judge;
mod model;
mod observer;
pub mod operation;
mod options;
mod readout;
mod reference;
mod rotary;
mod stock;
mod weight_type;
pub mod wide;

pub use config::Config;
pub use error::Error;
pub use exact::row_hash;
pub use observer::{Observer, Silent, Tap, TapLevel, Values};
pub use operation::Operations;
pub use options::{Activations, KvType, Mode, Options};
pub use readout::{Readout, Row};
pub use reference::Reference;
pub use weight_type::WeightType;
