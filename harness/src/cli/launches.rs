//! Launch by launch in a process of its own: what names the cause after a device was lost.
//!
//! An illegal access or a launch that never ends takes the device from the process in which it
//! happened. Another process runs the same calls on the engine alone, waits for every launch, and
//! says which is the first to fail.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::sides::Setup;
use crate::report::output::Output;
use crate::sides::engine::{EngineSide, Tracer};
use crate::sides::{Side, Unwatched};

/// What the other process is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    setup: Setup,
    model: PathBuf,
    calls: Vec<Vec<u32>>,
}

/// What it answers, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    found: Option<String>,
}

/// Run calls from standard input launch by launch, on the engine alone
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct LaunchesCommand {}

impl LaunchesCommand {
    #[expect(clippy::unused_self, reason = "every command is executed in the same way")]
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        let question: Question = serde_json::from_str(&text)
            .map_err(|error| Failure::input(format!("no question on standard input: {error}")))?;
        let found = answer(&question)?;
        let code = if found.is_some() { 3 } else { 0 };
        let line = serde_json::to_string(&Answer { found }).expect("an answer is plain data");
        writeln!(Output::new(io::stdout()), "{line}")?;
        Ok(code)
    }
}

fn answer(question: &Question) -> Result<Option<String>, Failure> {
    let file = engine::gguf::File::open(&question.model)
        .map_err(|error| Failure::input(error.to_string()))?;
    let options = engine::Options { launch_by_launch: true, ..question.setup.engine() };
    let mut side = EngineSide::load(&file, &options)?;
    for call in &question.calls {
        if let Err(error) = side.forward(call, &mut Unwatched) {
            return Ok(Some(error.to_string()));
        }
    }
    Ok(None)
}

/// Asks this program in a process of its own.
pub(super) fn tracer(setup: Setup, model: PathBuf) -> Tracer {
    Box::new(move |calls| {
        ask(&setup, &model, calls).unwrap_or_else(|error| Some(error.to_string()))
    })
}

fn ask(setup: &Setup, model: &Path, calls: &[Vec<u32>]) -> io::Result<Option<String>> {
    let question =
        Question { setup: setup.clone(), model: model.to_path_buf(), calls: calls.to_vec() };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("launches").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let text = serde_json::to_vec(&question).map_err(io::Error::other)?;
    child.stdin.take().ok_or_else(|| io::Error::other("no way to ask"))?.write_all(&text)?;
    // It ends by its own limit; loading and the launches before take their time as well.
    let patience = Duration::from_secs(10 * setup.time_limit_seconds as u64 + 60);
    let begin = std::time::Instant::now();
    while child.try_wait()?.is_none() {
        if begin.elapsed() > patience {
            child.kill()?;
            return Ok(Some("it did not end either".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| io::Error::other(format!("it ended with {}", output.status)))?;
    Ok(answer.found)
}

/// A device by its word.
pub(super) mod device {
    use engine::DeviceChoice;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in super::super) fn serialize<S: Serializer>(
        choice: &DeviceChoice,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(choice)
    }

    pub(in super::super) fn deserialize<'d, D: Deserializer<'d>>(
        deserializer: D,
    ) -> Result<DeviceChoice, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A planted fault by its id.
pub(super) mod planted {
    use engine::Fault;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(in super::super) fn serialize<S: Serializer>(
        fault: &Option<Fault>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        fault.map(Fault::id).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'d, D: Deserializer<'d>>(
        deserializer: D,
    ) -> Result<Option<Fault>, D::Error> {
        let id = Option::<String>::deserialize(deserializer)?;
        id.map(|id| id.parse().map_err(de::Error::custom)).transpose()
    }
}
