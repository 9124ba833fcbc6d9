//! The llama forward pass: what the file says, its weights on the device, the operations in order.

mod cache;
mod config;
mod engine;
mod finite;
mod layer;
mod readout;
mod rotary;
mod step;
mod tensors;
#[cfg(test)]
mod tests;
mod tuned;
mod watch;
mod weights;
mod workspace;

pub use config::{Config, ConfigError};
pub use engine::{Engine, Identity};
pub use rotary::{Rotary, RotaryTables};
pub use step::{Step, TapDigest};
