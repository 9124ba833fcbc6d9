//! `lockstep serve`: our engine as a foreign one, over JSON lines, here or on another machine.

use std::io::{self, BufRead, Write};

use clap::Args;
use engine::DeviceChoice;

use super::{EXIT_CODES, Failure, run};
use crate::identity::ModelIdentity;
use crate::model::Model;
use crate::report::output::Output;
use crate::sides::engine::EngineSide;
use crate::sides::foreign::message::{Answer, PROTOCOL, Request, hexadecimal};
use crate::sides::{Row, Side, SideIdentity, Tap, TapLevel, Values, Watcher};

const EXAMPLES: &str = "\
Examples:
  lockstep run --engine-command \"lockstep serve\"
  lockstep find --model model.gguf --engine-command \"ssh card lockstep serve --model model.gguf\"

Requests come on standard input and answers go to standard output, as docs/foreign-engine.md says.
The other end says which model; --model is for a machine where the file is at another place.";

/// Be an engine for `--engine-command`: JSON lines on standard input and output
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct ServeCommand {
    /// A GGUF file, or a name `lockstep fetch` knows [default: the file that is asked for]
    #[arg(long, value_name = "FILE|NAME", value_hint = clap::ValueHint::FilePath)]
    model: Option<String>,

    /// Where the engine runs: auto, host, hip, hip:N, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,

    /// A fault to plant into the engine, by its id in `lockstep faults`
    #[arg(long, value_name = "ID", hide = true)]
    plant: Option<engine::Fault>,
}

impl ServeCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let mut output = Output::new(io::stdout());
        match self.serve(&mut io::stdin().lock(), &mut output) {
            Ok(()) => Ok(0),
            Err(failure) => {
                // The other end shows it; this one may have no terminal.
                say(&mut output, &Answer::Error { message: failure.first_line() })?;
                Err(failure)
            }
        }
    }

    fn serve(
        &self,
        input: &mut impl BufRead,
        output: &mut (impl Write + Send),
    ) -> Result<(), Failure> {
        let mut loaded: Option<EngineSide> = None;
        let mut line = String::new();
        loop {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let request: Request = serde_json::from_str(&line)
                .map_err(|error| Failure::input(format!("the line is no request: {error}")))?;
            match (request, &mut loaded) {
                (Request::Quit {}, _) => return Ok(()),
                (hello @ Request::Hello { .. }, None) => {
                    let (side, answer) = self.load(hello)?;
                    loaded = Some(side);
                    say(output, &answer)?;
                }
                (Request::Forward { tokens, level }, Some(side)) => {
                    let mut watcher = Lines { level, output, failed: None };
                    let readout = side.forward(&tokens, &mut watcher)?;
                    if let Some(error) = watcher.failed {
                        return Err(error.into());
                    }
                    let (hidden, logits) = (digits(&readout.hidden), digits(&readout.logits));
                    let position = readout.position;
                    say(output, &Answer::Readout { position, hidden, logits })?;
                }
                (Request::Reset {}, Some(side)) => {
                    side.reset();
                    say(output, &Answer::Reset {})?;
                }
                (request, _) => {
                    let word = request.word();
                    return Err(Failure::input(format!("`{word}` is out of turn: hello is first")));
                }
            }
        }
    }

    fn load(&self, hello: Request) -> Result<(EngineSide, Answer), Failure> {
        let Request::Hello { protocol, model, ubatch, context_tokens, activations, kv, threads } =
            hello
        else {
            unreachable!("the caller has matched it")
        };
        if protocol != PROTOCOL {
            return Err(Failure::input(format!(
                "version {protocol} of the protocol is asked for, {PROTOCOL} is known here"
            )));
        }
        let model = Model::resolve(Some(self.model.as_ref().unwrap_or(&model)))?;
        let options = engine::Options {
            device: self.device,
            activations: known(&activations, &ACTIVATIONS, "activations")?,
            kv: known(&kv, &KV, "KV type")?,
            context_tokens,
            ubatch,
            threads: threads.clamp(1, run::all_threads()),
            fault: self.plant,
            ..engine::Options::default()
        };
        let side = EngineSide::load(&model.file, &options)?;
        let answer = greeting(&model, side.identity())?;
        Ok((side, answer))
    }
}

const ACTIVATIONS: [(&str, engine::Activations); 3] = [
    ("i24", engine::Activations::I24),
    ("i16", engine::Activations::I16),
    ("i8", engine::Activations::I8),
];
const KV: [(&str, engine::KvType); 2] =
    [("f32", engine::KvType::F32), ("f16", engine::KvType::F16)];

fn known<T: Copy>(word: &str, all: &[(&str, T)], what: &str) -> Result<T, Failure> {
    let found = all.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| Failure::input(format!("there is no {what} `{}`", word.escape_debug())))
}

fn greeting(model: &Model, side: SideIdentity) -> Result<Answer, Failure> {
    let identity = ModelIdentity::of_file(String::new(), &model.path)?;
    Ok(Answer::Hello {
        protocol: PROTOCOL,
        implementation: format!("{} over JSON lines", side.implementation),
        device: side.device,
        build: side.build,
        model_sha256: identity.sha256,
        vocabulary: model.vocabulary,
    })
}

fn say(output: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let line = serde_json::to_string(answer).expect("an answer is plain data");
    writeln!(output, "{line}")?;
    output.flush()
}

fn digits(row: &Row) -> String {
    match row {
        Row::F32(values) => hexadecimal(values),
        Row::F64(_) => unreachable!("the engine's rows are f32"),
    }
}

/// Says each tap as it comes.
struct Lines<'a, W> {
    level: TapLevel,
    output: &'a mut W,
    failed: Option<io::Error>,
}

impl<W: Write + Send> Watcher for Lines<'_, W> {
    fn level(&self) -> TapLevel {
        self.level
    }

    fn tap(&mut self, tap: Tap<'_>) {
        let Values::F32(values) = tap.values else { unreachable!("the engine's rows are f32") };
        let answer = Answer::Tap {
            name: tap.name.to_owned(),
            layer: tap.layer,
            first_position: tap.first_position,
            rows: tap.rows,
            width: tap.width,
            values: hexadecimal(values),
        };
        if let Err(error) = say(self.output, &answer) {
            self.failed.get_or_insert(error);
        }
    }
}
