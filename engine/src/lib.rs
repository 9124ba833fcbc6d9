//! The engine under test: a GGUF file on a GPU, or on the host through the same kernels.
//!
//! Its arithmetic is CONTRACT.md's; it shares no code with the reference.

pub mod device;
mod error;
mod fault;
pub mod gguf;
mod hash;
pub mod kernels;
mod llama;
mod options;
mod taps;

pub use device::{InFlight, Pulse};
pub use error::{Error, ErrorKind};
#[doc(hidden)]
pub use fault::{Fault, FaultError};
pub use hash::hash_row;
pub use kernels::RowDigest;
pub use llama::{
    Config, ConfigError, Engine, Estimate, Identity, Mebibytes, OperationInputs, Rotary,
    RotaryTables, Step, TapDigest, VerifiedWeights,
};
#[doc(hidden)]
pub use options::Unfit;
pub use options::{Activations, DeviceChoice, DeviceChoiceError, HostBuild, KvType, Options};
pub use taps::{DigestedTap, Observer, Place, Readout, Silent, Tap, TapLevel};
