//! The llama forward pass: what the file says, its weights on the device, the operations in order.

mod cache;
mod config;
mod engine;
mod layer;
mod operation;
mod operation_inputs;
mod readout;
mod rotary;
mod step;
#[cfg(test)]
mod tests;
mod tuned;
mod watch;
mod weights;
mod workspace;

pub use config::{Config, ConfigError};
pub use engine::{Engine, Identity};
pub use operation_inputs::OperationInputs;
pub use rotary::{Rotary, RotaryTables};
pub use step::{Step, TapDigest};
