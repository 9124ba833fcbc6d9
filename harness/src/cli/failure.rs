//! An error as the user meets it: one line, a way out, an exit code.

use std::fmt;
use std::io;

use crate::fetch::FetchError;
use crate::find::replay::ReplayError;
use crate::find::witness::WitnessError;
use crate::model::ModelError;
use crate::report::files::FolderError;
use crate::sides::SideError;
use crate::sides::recording::RecordingError;

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
    /// A model that is not there, rather than one that is wrong.
    pub(super) absent: bool,
}

impl Failure {
    /// Something in what the user gave.
    pub fn input(message: impl Into<String>) -> Self {
        Self { code: INPUT, message: message.into(), hint: None, bare: false, absent: false }
    }

    /// The device is missing or failed.
    pub fn device(message: impl Into<String>) -> Self {
        Self { code: DEVICE, ..Self::input(message) }
    }

    /// No command: not an error message, but no success either.
    pub fn first_steps(message: &str) -> Self {
        Self { bare: true, ..Self::input(message) }
    }

    /// What happened, without the way out.
    pub fn first_line(&self) -> String {
        self.message.lines().next().unwrap_or_default().to_owned()
    }

    /// What happened and the way out, in one line.
    pub(super) fn one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {}", self.first_line(), hint.replace('\n', " ")),
            None => self.first_line(),
        }
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
            // What to lower stands in the message.
            SideError::Memory { .. } => Self::device(error.to_string()),
            SideError::Refused { .. } => Self::device(error.to_string()).hint(
                "CONTRACT.md section 14 says what a device owes; rebuild its kernels without \
                 flags that loosen arithmetic, or take another --device",
            ),
            SideError::Input { .. } => Self::input(error.to_string()).hint(
                "`lockstep inspect FILE` shows what the file has; another conversion may work",
            ),
            SideError::Foreign { .. } => Self::input(error.to_string())
                .hint("docs/foreign-engine.md says what an engine is asked and what it answers"),
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

impl From<WitnessError> for Failure {
    fn from(error: WitnessError) -> Self {
        Self::input(error.to_string())
            .hint("`lockstep find` writes witnesses; the .bin file has to stand beside the .json")
    }
}

impl From<reference::Error> for Failure {
    fn from(error: reference::Error) -> Self {
        Self::input(format!("the reference cannot read the model: {error}"))
            .hint("`lockstep inspect FILE` shows what the file has")
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Engine(error) => error.into(),
            ReplayError::Reference(error) => {
                Self { code: 4, ..Self::input(format!("nothing was compared: {error}")) }
            }
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let hint = error.hint();
        let absent = matches!(error, ModelError::Unknown { .. } | ModelError::NotFetched { .. });
        Self { hint, absent, ..Self::input(error.to_string()) }
    }
}

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        Self::input(error.to_string())
            .hint("remove the file, or record it again with --record and without --against")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::sides::Side;
    use crate::sides::engine::EngineSide;
    use engine::{DeviceChoice, HostBuild, Options, Unfit};

    #[test]
    fn a_weight_that_changed_on_the_device_is_named() {
        let model = Model::resolve(None).unwrap();
        let options = Options { device: DeviceChoice::Host, ..Options::default() };
        let mut side = EngineSide::load(&model.file, &options).unwrap();
        side.verify(&model.file).unwrap();
        let verified = side.verified().unwrap();
        assert_eq!(verified.tensors, model.file.tensors().len());
        side.flip_weight_bit("blk.1.attn_k.weight", 1000, 6).unwrap();
        let failure = Failure::from(side.verify(&model.file).unwrap_err());
        assert_eq!(failure.code, 3);
        let words = failure.to_string();
        let head = "error: engine: weight blk.1.attn_k.weight on the device is not the file's: \
                    byte 1000, in block ";
        assert!(words.starts_with(head), "{words}");
        assert!(side.verified().is_none(), "what was verified before is no longer said");
    }

    #[test]
    fn too_little_memory_is_the_device_s_and_says_what_to_lower() {
        let message = "the model needs more; --context-tokens 7 would fit".to_owned();
        let failure = Failure::from(SideError::Memory { side: "engine", message });
        assert_eq!(failure.code, 3);
        let expected = "error: engine: the model needs more; --context-tokens 7 would fit";
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn a_device_that_fails_the_probe_is_named_with_the_way_out() {
        let model = Model::resolve(None).unwrap();
        let options = Options {
            device: DeviceChoice::Host,
            host_build: Some(HostBuild::Unfit(Unfit::Contracted)),
            ..Options::default()
        };
        let Err(error) = EngineSide::load(&model.file, &options) else { panic!("not refused") };
        let failure = Failure::from(error);
        assert_eq!(failure.code, 3);
        let words = failure.to_string();
        if words.contains("cannot run the build") {
            eprintln!("SKIPPED the words of a refusal: this CPU cannot run the build");
            return;
        }
        let device = format!("host ({} contracted)", std::env::consts::ARCH);
        assert_eq!(
            words,
            format!(
                "error: engine: device {device} is refused: it contracts a product and a sum into \
                 one operation: 1.0000001 * 1.0000001 + -1.0000002 gave 0x28800000, 0x00000000 is \
                 due\n  hint: CONTRACT.md section 14 says what a device owes; rebuild its kernels \
                 without flags that loosen arithmetic, or take another --device"
            )
        );
    }
}
