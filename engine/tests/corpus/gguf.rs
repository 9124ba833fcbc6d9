//! What holds for any bytes that are read as a model: they are refused in one line, or they run.

use engine::gguf::File;
use engine::{Config, DeviceChoice, Engine, HostBuild, Options, Silent};

/// How far a file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Came {
    /// The strict reader refused it.
    Refused,
    /// It is a GGUF file, and no model.
    Read,
    /// It is a model, whose weights nobody looked at or which are not finite.
    Configured,
    /// It gave logits.
    Ran,
}

/// Reads a file, and runs it if it is a model and `run` says so: that takes a thousand times as
/// long as reading.
///
/// # Panics
/// When something does not hold.
pub(crate) fn read(bytes: &[u8], run: bool) -> Came {
    let file = match File::from_bytes(bytes.to_vec()) {
        Ok(file) => file,
        Err(error) => return refused(Came::Refused, &error.to_string()),
    };
    let mut end = 0;
    for tensor in file.tensors() {
        let data = file.bytes(tensor);
        assert_eq!(data.len() as u64, tensor.size_bytes);
        assert!(tensor.offset_bytes >= end, "`{}` overlaps", tensor.name);
        assert!(tensor.offset_bytes.is_multiple_of(file.alignment()));
        end = tensor.offset_bytes + tensor.size_bytes;
    }
    assert!(end <= file.size_bytes());
    for value in file.metadata().values() {
        one_line(&value.to_string());
    }
    let config = match Config::from_gguf(&file) {
        Ok(config) => config,
        Err(error) => return refused(Came::Read, &error.to_string()),
    };
    assert!(config.layers <= file.tensors().len());
    if !run {
        return Came::Configured;
    }
    let options = Options {
        device: DeviceChoice::Host,
        host_build: Some(HostBuild::Baseline),
        context_tokens: 4,
        ubatch: 4,
        threads: 1,
        ..Options::default()
    };
    let mut engine = match Engine::load(&file, &options) {
        Ok(engine) => engine,
        Err(error) => return refused(Came::Configured, &error.to_string()),
    };
    let tokens = [0, (config.vocabulary - 1) as u32];
    let readout = engine.forward(&tokens, &mut Silent).expect("both tokens are in the vocabulary");
    assert_eq!(readout.hidden.len(), config.hidden);
    assert_eq!(readout.logits.len(), config.vocabulary);
    Came::Ran
}

fn refused(came: Came, message: &str) -> Came {
    one_line(message);
    came
}

/// What people are shown is short, and nothing in it steers a terminal.
fn one_line(message: &str) {
    assert!(!message.is_empty());
    assert!(message.len() <= 1000, "a message of {} bytes", message.len());
    assert!(!message.contains(char::is_control), "{message:?}");
}
