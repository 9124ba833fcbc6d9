//! The engine's one error type, and which of the documented exit codes it belongs to.

use crate::device::DeviceError;
use crate::gguf;
use crate::llama::ConfigError;

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
    /// The device, whose arithmetic is not the contract's.
    Refused,
}

impl Error {
    /// Who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Device(DeviceError::Refused { .. }) => ErrorKind::Refused,
            Self::Device(_) => ErrorKind::Device,
            _ => ErrorKind::Input,
        }
    }
}
