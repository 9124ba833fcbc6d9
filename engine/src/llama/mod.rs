//! The llama forward pass: what the file says, its weights on the device, the operations in order.

mod attribute;
mod cache;
mod config;
mod engine;
mod estimate;
mod finite;
mod layer;
mod operation;
mod operation_inputs;
mod readout;
mod rotary;
mod shapes;
mod step;
#[cfg(test)]
mod tests;
mod tuned;
mod tuned_products;
mod verify;
mod watch;
mod weights;
mod workspace;

pub use config::{Config, ConfigError};
pub use engine::{Engine, Identity};
pub use estimate::{Estimate, Mebibytes};
pub use operation_inputs::OperationInputs;
pub use rotary::{Rotary, RotaryTables};
pub use step::{Step, TapDigest};
pub use verify::VerifiedWeights;
