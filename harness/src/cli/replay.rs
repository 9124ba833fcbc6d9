//! `lockstep replay`: the operation of a witness once more, on both sides.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::DeviceChoice;
use reference::Mode;
use serde_json::json;

use super::options::{ActivationsChoice, KvChoice, TIME_LIMIT_SECONDS, positive};
use super::run::all_threads;
use super::sides::Setup;
use super::{EXIT_CODES, Failure, Format};
use crate::find::replay::{Replay, Verdict, replay};
use crate::find::witness::{Witness, WitnessError, WitnessModel};
use crate::identity::ModelIdentity;
use crate::model::Model;
use crate::report::output::Output;

const EXAMPLES: &str = "\
Examples:
  lockstep replay lockstep-witness.json
  lockstep replay out/witness.json --device host
  lockstep replay out/witness.json --model model.gguf --format json

The engine runs the operation five times from the saved inputs, the reference once. Exit code 1: it
still diverges; 0: it agrees now; 4: it cannot be told, with the reason.";

/// Run the operation of a witness again, from its saved inputs, on both sides
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct ReplayCommand {
    /// The witness that `lockstep find` wrote
    #[arg(value_name = "WITNESS.json")]
    witness: PathBuf,

    /// The model, where it is not found under the name it had
    #[arg(long, value_name = "FILE|NAME")]
    model: Option<String>,

    /// Where the engine runs [default: where it ran]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceChoice>,

    /// Threads of each side [default: as many as the machine has]
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,

    /// Text for people, or one line of JSON for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

impl ReplayCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let witness = Witness::read(&self.witness)?;
        let asked = self.model.as_deref().or(witness.options.model.as_deref());
        let model = Model::resolve(asked)?;
        let setup = self.setup(&witness, &model)?;
        let identity =
            ModelIdentity::of_file(model.name.clone(), &model.path).map_err(|error| {
                Failure::input(format!("cannot read the model {}: {error}", model.name))
            })?;
        let ModelIdentity { name, sha256, bytes } = identity;
        let now = WitnessModel { name, sha256, bytes };
        let mut operations =
            reference::Operations::open(&model.path, &setup.reference(Mode::Exact))?;
        let replay = replay(&witness, &now, &model.file, &setup.engine(), &mut operations)?;
        let mut output = Output::new(io::stdout());
        let text = match self.format {
            Format::Terminal => text(&witness, &replay),
            Format::Json => line(&witness, &replay),
        };
        output.write_all(text.as_bytes())?;
        output.flush()?;
        Ok(replay.exit_code())
    }

    fn setup(&self, witness: &Witness, model: &Model) -> Result<Setup, Failure> {
        let options = &witness.options;
        let wrong = |option, value: &str| WitnessError::Option { option, value: value.to_owned() };
        // A witness comes from anywhere: its sizes are the model's before memory is asked for.
        for (option, value) in
            [("context_tokens", options.context_tokens), ("ubatch", options.ubatch)]
        {
            let usual = option == "ubatch" && value <= 1 << 16;
            if value == 0 || !(usual || value <= model.context_tokens) {
                return Err(wrong(option, &value.to_string()).into());
            }
        }
        let device = match self.device {
            Some(device) => device,
            None => options.device.parse().map_err(|_| wrong("device", &options.device))?,
        };
        let plant = match &options.plant {
            None => None,
            Some(id) => Some(id.parse().map_err(|_| wrong("plant", id))?),
        };
        Ok(Setup {
            device,
            activations: ActivationsChoice::from_str(&options.activations, false)
                .map_err(|_| wrong("activations", &options.activations))?,
            kv: KvChoice::from_str(&options.kv, false).map_err(|_| wrong("kv", &options.kv))?,
            context_tokens: options.context_tokens,
            ubatch: options.ubatch,
            threads: self.threads.unwrap_or_else(all_threads),
            unchecked: false,
            time_limit_seconds: TIME_LIMIT_SECONDS,
            verify_weights: false,
            plant,
            engine_command: None,
        })
    }
}

fn words(verdict: &Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::StillThere => ("still_there", "STILL THERE: the engine differs".to_owned()),
        Verdict::Gone => ("gone", "GONE: the engine agrees with the reference".to_owned()),
        Verdict::Untold { reason } => ("untold", format!("CANNOT BE TOLD: {reason}")),
    }
}

fn text(witness: &Witness, replay: &Replay) -> String {
    let mut text = format!("witness    {}\n", witness.summary);
    for note in &replay.notes {
        text += &format!("note       {note}\n");
    }
    if let Some(element) = &replay.element {
        let (count, all) = (replay.differing_count, replay.elements_count);
        text += &format!("now        {element}; {count} of {all} elements differ\n");
        let same = if replay.same_rows { "as" } else { "not as" };
        text += &format!("rows       the engine's are {same} they were\n");
    }
    text + &format!("verdict    {}\n", words(&replay.verdict).1)
}

fn line(witness: &Witness, replay: &Replay) -> String {
    let (verdict, message) = words(&replay.verdict);
    let line = json!({
        "event": "replayed",
        "verdict": verdict,
        "exit_code": replay.exit_code(),
        "message": message,
        "witness": witness.summary,
        "element": replay.element,
        "elements_differing": replay.differing_count,
        "elements_count": replay.elements_count,
        "same_rows": replay.same_rows,
        "notes": replay.notes,
    });
    line.to_string() + "\n"
}
