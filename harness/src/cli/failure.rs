//! An error as the user meets it: one line, a way out, an exit code.

use std::fmt;
use std::io;

use crate::fetch::FetchError;
use crate::model::ModelError;
use crate::report::files::FolderError;
use crate::sides::SideError;

/// Bad input.
const INPUT: u8 = 2;
/// The device.
const DEVICE: u8 = 3;

/// Why a command did not run.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    message: String,
    hint: Option<String>,
    bare: bool,
}

impl Failure {
    /// Something in what the user gave.
    pub fn input(message: impl Into<String>) -> Self {
        Self { code: INPUT, message: message.into(), hint: None, bare: false }
    }

    /// The device is missing or failed.
    pub fn device(message: impl Into<String>) -> Self {
        Self { code: DEVICE, ..Self::input(message) }
    }

    /// No command: not an error message, but no success either.
    pub fn first_steps(message: &str) -> Self {
        Self { bare: true, ..Self::input(message) }
    }

    /// The way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bare {
            return f.write_str(&self.message);
        }
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<SideError> for Failure {
    fn from(error: SideError) -> Self {
        match error {
            SideError::Device { .. } => Self::device(error.to_string())
                .hint("`lockstep devices` says what can run here; --device host always can"),
            SideError::Input { .. } => Self::input(error.to_string()).hint(
                "`lockstep inspect FILE` shows what the file has; another conversion may work",
            ),
            SideError::Step { .. } | SideError::Panicked { .. } => {
                Self { code: 4, ..Self::input(error.to_string()) }
            }
        }
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        Self::input(error.to_string()).hint("give --out a folder that can be written to")
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::input(error.to_string()) }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::input(error.to_string()).hint(error.hint())
    }
}

/// Writing results failed: the disk is full, the folder has gone.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::input(format!("cannot write the results: {error}"))
            .hint("make room, or give --out another folder")
    }
}
