//! The engine's one error type, and which of the documented exit codes it belongs to.

use crate::device::DeviceError;
use crate::gguf;
use crate::llama::{ConfigError, Estimate, Mebibytes};

/// Why the engine could not load or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a usable GGUF.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// The file is not a model this engine computes.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A pass was asked for without tokens.
    #[error("no token to run: a pass needs at least one")]
    NoTokens,
    /// A token id outside the vocabulary.
    #[error("token id {token} at position {position} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The id.
        token: u32,
        /// Where it would have stood.
        position: usize,
        /// Number of ids.
        vocabulary: usize,
    },
    /// More positions than the cache holds.
    #[error(
        "{tokens} tokens after position {position} need {needed} positions, the context has \
         {context}; raise --context-tokens"
    )]
    Context {
        /// Tokens of the pass.
        tokens: usize,
        /// Tokens already there.
        position: usize,
        /// Positions needed.
        needed: usize,
        /// Positions there are.
        context: usize,
    },
    /// The device has not enough memory for the model; nothing was allocated.
    #[error(
        "the model needs {} on {device}, {} are free: {estimate}; {remedy}",
        Mebibytes(estimate.total_bytes()), Mebibytes(*free_bytes)
    )]
    Memory {
        /// The device.
        device: String,
        /// What is needed, by part.
        estimate: Estimate,
        /// What is free.
        free_bytes: u64,
        /// What would fit.
        remedy: String,
    },
    /// A weight on the device is not what the file has.
    #[error(
        "weight {tensor} on the device is not the file's: byte {byte}, in block {block} of {kind}, \
         is {device:#04x}, the file has {file:#04x}; load it again, and distrust the memory of \
         the device if that stays"
    )]
    Weight {
        /// The tensor.
        tensor: String,
        /// Its type.
        kind: &'static str,
        /// The first block that differs.
        block: u64,
        /// The first byte that differs, from the tensor's begin.
        byte: u64,
        /// What the device has there.
        device: u8,
        /// What the file has.
        file: u8,
    },
    /// The device has what was loaded, and the file has something else now.
    #[error("weight {tensor}: the file has changed since it was loaded; load it again")]
    FileChanged {
        /// The tensor.
        tensor: String,
    },
    /// A fault that this device has no place for: nothing would be broken.
    #[error(
        "the fault {fault} is in the plain kernels only, {device} runs others; use --device host"
    )]
    Unplanted {
        /// Its id.
        fault: &'static str,
        /// The device.
        device: String,
    },
    /// An operation was asked for alone, without what it reads or with too much of it.
    #[error("the operation `{operation}` cannot run alone: {reason}")]
    Operation {
        /// Its tap.
        operation: String,
        /// What is missing, or does not fit.
        reason: String,
    },
    /// A size of 0 was asked for.
    #[error("{what} is 0: at least 1 is needed")]
    Zero {
        /// The option.
        what: &'static str,
    },
}

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file, the tokens or the options.
    Input,
    /// The device.
    Device,
    /// The device, which has too little memory for the model and the options.
    Memory,
    /// The device, whose arithmetic is not the contract's.
    Refused,
}

impl Error {
    /// Who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Device(DeviceError::Refused { .. }) => ErrorKind::Refused,
            Self::Device(DeviceError::Allocation { .. }) | Self::Memory { .. } => ErrorKind::Memory,
            Self::Device(_) | Self::Weight { .. } => ErrorKind::Device,
            _ => ErrorKind::Input,
        }
    }
}
