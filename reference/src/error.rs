//! Every way in which loading or running the reference fails.

use std::path::PathBuf;

/// Why a model was refused or a step did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// candle's reader refused the file.
    #[error("cannot read {} as GGUF", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What candle said.
        #[source]
        source: candle_core::Error,
    },
    /// An operation was asked for alone, with inputs that are not those of the model.
    #[error("the operation `{operation}` cannot run alone: {reason}")]
    OperationInput {
        /// Its tap.
        operation: String,
        /// What is wrong.
        reason: String,
    },
    /// Another architecture.
    #[error("architecture `{architecture}` is not supported, only `llama` is")]
    Architecture {
        /// `general.architecture` of the file.
        architecture: String,
    },
    /// A metadata entry that the forward pass needs.
    #[error("metadata `{key}` is missing")]
    MetadataMissing {
        /// Its key.
        key: String,
    },
    /// A metadata entry of another type or outside its range.
    #[error("metadata `{key}` is {value}, expected {expected}")]
    MetadataValue {
        /// Its key.
        key: String,
        /// What the file has.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// A feature that the contract does not have.
    #[error("the model uses {feature}, which the contract does not have")]
    Unsupported {
        /// Which feature, by the name of the metadata or tensor that asks for it.
        feature: String,
    },
    /// A tensor that the forward pass needs.
    #[error("tensor `{tensor}` is missing")]
    TensorMissing {
        /// Its name.
        tensor: String,
    },
    /// A tensor of a type the contract does not have.
    #[error("tensor `{tensor}` has the unsupported type {kind}")]
    TensorType {
        /// Its name.
        tensor: String,
        /// Its type.
        kind: String,
    },
    /// A tensor of another shape.
    #[error("tensor `{tensor}` has shape {actual:?}, expected {expected:?}")]
    TensorShape {
        /// Its name.
        tensor: String,
        /// The shape in the file, slowest dimension first.
        actual: Vec<usize>,
        /// The shape that the metadata asks for.
        expected: Vec<usize>,
    },
    /// A tensor whose bytes candle could not read.
    #[error("tensor `{tensor}` cannot be read")]
    TensorRead {
        /// Its name.
        tensor: String,
        /// What candle said.
        #[source]
        source: candle_core::Error,
    },
    /// An option outside its range.
    #[error("option {option} is {value}, expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given.
        value: usize,
        /// What is possible.
        expected: String,
    },
    /// The pool of threads did not start.
    #[error("cannot start a pool of {threads} threads")]
    Pool {
        /// How many were asked for.
        threads: usize,
        /// What rayon said.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
    /// A call without tokens.
    #[error("no token to run: the prompt is empty")]
    Empty,
    /// A token that the model does not know.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The token id.
        token: u32,
        /// How many tokens the model knows.
        vocabulary: usize,
    },
    /// More tokens than positions.
    #[error("{needed} tokens do not fit into a context of {context_tokens}")]
    Context {
        /// How many positions would be in use after the call.
        needed: usize,
        /// How many there are.
        context_tokens: usize,
    },
    /// An operation of candle failed.
    #[error("operation of candle failed")]
    Candle(#[from] candle_core::Error),
}
