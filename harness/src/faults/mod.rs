//! `lockstep faults`: every fault planted, and whether the search catches, places and explains it.
//!
//! **Invariant:** what is due was written down before (`cases.rs`); a fault that shows elsewhere is
//! not "caught somehow" but misplaced.

pub mod cases;
pub mod table;
pub mod weak;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::compare::{Reason, Verdict};
use crate::event::{Display, Event, Outcome};
use crate::find::examine::Means;
use crate::find::search::Search;
use crate::find::{self, Finding, report};
use crate::identity::{ModelIdentity, OptionsIdentity, RunIdentity};
use crate::run::lane::Loading;
use crate::run::{Drive, Lanes, Plan, References, run_searching};
use crate::sides::engine::EngineSide;
use crate::sides::reference::ReferenceSide;
use crate::sides::{SideError, TapLevel};
use cases::{Case, Due, Fixture};
use weak::{Weak, weigh};

/// Steps of a run: the prompt and what shows a stale graph.
const STEPS: usize = 4;

/// What one fault came to.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Its id; `none` is the run that must not alarm.
    pub id: &'static str,
    /// What it is.
    pub what: &'static str,
    /// On which file.
    pub fixture: &'static str,
    /// Whether anything was seen.
    pub caught: bool,
    /// Where.
    pub place: String,
    /// Whether that is where it had to show.
    pub place_right: bool,
    /// Who was blamed.
    pub judgement: String,
    /// Why, by the label of the cause.
    pub cause: String,
    /// Whether that is the cause.
    pub cause_right: bool,
    /// From the first token to the cause.
    pub seconds: f64,
    /// What weaker checks would have passed; nothing where the engine refused to run.
    pub weak: Option<Weak>,
}

impl Trial {
    /// Whether everything was as it had to be.
    pub fn right(&self) -> bool {
        self.place_right && self.cause_right && self.caught == (self.id != "none")
    }
}

/// Why a fault could not be planted.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// The fixture has to stand in a file.
    #[error("cannot write a fixture into the folder for temporary files: {0}")]
    Fixture(#[from] io::Error),
    /// The engine's reader refuses the fixture.
    #[error("a fixture of ours is refused: {0}")]
    File(#[from] engine::gguf::Error),
    /// A side did not load.
    #[error(transparent)]
    Side(#[from] SideError),
    /// The reference refuses the fixture.
    #[error("a fixture of ours is refused: {0}")]
    Reference(#[from] reference::Error),
}

/// A fixture in a file.
pub struct Model {
    file: Arc<engine::gguf::File>,
    path: NamedTempFile,
    vocabulary: usize,
}

impl Model {
    /// Writes it.
    pub fn new(fixture: Fixture) -> Result<Self, FaultsError> {
        let mut path = NamedTempFile::with_suffix(".gguf")?;
        path.write_all(&fixture.bytes())?;
        path.flush()?;
        let file = Arc::new(engine::gguf::File::open(path.path())?);
        let table = file.tensor("token_embd.weight")?;
        let vocabulary = table.dimensions.get(1).copied().unwrap_or(1) as usize;
        Ok(Self { file, path, vocabulary })
    }
}

/// Token ids spread over the vocabulary, always the same.
fn prompt(vocabulary: usize, tokens: usize) -> Vec<u32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..tokens)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % vocabulary as u64) as u32
        })
        .collect()
}

/// Plants one fault and searches.
pub fn trial(case: &Case, model: &Model, threads: usize) -> Result<Trial, FaultsError> {
    let prompt_ids = prompt(model.vocabulary, case.prompt_tokens);
    let (engine_options, reference_options) = options(case, threads);
    let mut lanes = lanes(model, &engine_options, &reference_options)?;
    let plan = Plan {
        prompt_ids: prompt_ids.clone(),
        max_tokens: STEPS,
        drive: Drive::Reference,
        level: TapLevel::Op,
        ubatch: case.ubatch,
        end_ids: BTreeSet::new(),
        prefill_decode: false,
        past_end: true,
        text: &|_| None,
        decode: &|_| None,
    };
    let identity = identity(&lanes);
    let begin = Instant::now();
    let mut search = Search::default();
    let never = AtomicBool::new(false);
    let searching = Some(&mut search);
    let outcome = run_searching(&plan, &mut lanes, identity, &never, &mut Unseen, searching)?;
    let mut trial = Trial {
        id: case.fault.map_or("none", engine::Fault::id),
        what: case.what,
        fixture: case.fixture.name(),
        caught: false,
        place: String::new(),
        place_right: false,
        judgement: String::new(),
        cause: String::new(),
        cause_right: false,
        seconds: 0.0,
        weak: None,
    };
    match &outcome.verdict {
        Verdict::Agrees => trial.clean(case),
        Verdict::Diverges(divergence) => {
            let path = model.path.path();
            let mut operations = reference::Operations::open(path, &reference_options)?;
            let mut means = Means {
                engine: &mut lanes.engine,
                operations: &mut operations,
                file: &model.file,
                activations: reference_options.activations,
                kv: reference_options.kv,
            };
            let answer = find::explain(divergence, &search, &mut means);
            trial.found(case, &answer.finding);
        }
        Verdict::Inconclusive(Reason::SideFailed { message }) => trial.refused(case, message),
        Verdict::Inconclusive(reason) => trial.place = reason.to_string(),
    }
    trial.seconds = begin.elapsed().as_secs_f64();
    drop(lanes);
    if !failed(&outcome) {
        let mut engine = EngineSide::load(&model.file, &engine_options)?;
        let mut reference = ReferenceSide::load(model.path.path(), &reference_options)?;
        trial.weak = Some(weigh(&mut engine, &mut reference, &prompt_ids)?);
    }
    Ok(trial)
}

fn failed(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Inconclusive(Reason::SideFailed { .. }))
}

impl Trial {
    fn clean(&mut self, case: &Case) {
        self.place = "nothing differs".to_owned();
        self.place_right = case.due.is_none();
        self.cause_right = case.due.is_none();
    }

    fn found(&mut self, case: &Case, finding: &Finding) {
        let place = &finding.divergence.place;
        let key = &place.key;
        self.caught = true;
        let layer = key.layer.map_or_else(String::new, |layer| format!("layer {layer} "));
        self.place = format!("{layer}{}, step {}", key.tap, place.step);
        self.place_right = case.due.is_some_and(|due| match due {
            Due::Tap { tap, layer, step } => {
                key.tap == tap && key.layer == layer && place.step == step
            }
            Due::Refused { .. } => false,
        });
        let Some(located) = &finding.located else { return };
        self.judgement = located.judgement.word().to_owned();
        if let Some(cause) = located.diagnosis.first() {
            self.cause = cause.label.words().to_owned();
        }
        self.cause_right = case.labels.contains(&self.cause.as_str());
    }

    fn refused(&mut self, case: &Case, message: &str) {
        self.caught = true;
        // "engine: launch of KERNEL refused: ARGUMENT needs N elements, BUFFER has M".
        let words: Vec<&str> = message.split([' ', ':']).filter(|word| !word.is_empty()).collect();
        let after = |word: &str, count: usize| {
            let at = words.iter().position(|found| *found == word);
            at.and_then(|at| words.get(at + count)).copied().unwrap_or("?")
        };
        self.place = format!("{} refused ({})", after("of", 1), after("refused", 1));
        self.place_right = match case.due {
            Some(Due::Refused { kernel }) => {
                let names = |word: &str| word.starts_with(kernel);
                self.place.split(' ').any(names)
            }
            _ => false,
        };
        self.judgement = "refused".to_owned();
        let cause = report::refusal(message).and_then(|words| words.split(',').next());
        self.cause = cause.unwrap_or_default().to_owned();
        self.cause_right = case.labels.contains(&self.cause.as_str());
    }
}

fn options(case: &Case, threads: usize) -> (engine::Options, reference::Options) {
    let context_tokens = case.prompt_tokens + 32;
    let engine = engine::Options {
        device: engine::DeviceChoice::Host,
        kv: if case.half { engine::KvType::F16 } else { engine::KvType::F32 },
        context_tokens,
        ubatch: case.ubatch,
        threads,
        fault: case.fault,
        ..engine::Options::default()
    };
    let reference = reference::Options {
        kv: if case.half { reference::KvType::F16 } else { reference::KvType::F32 },
        context_tokens,
        ubatch: case.ubatch,
        threads,
        ..reference::Options::default()
    };
    (engine, reference)
}

fn lanes(
    model: &Model,
    engine: &engine::Options,
    reference: &reference::Options,
) -> Result<Lanes, SideError> {
    let (file, options) = (Arc::clone(&model.file), engine.clone());
    let engine = Loading::start(
        "engine",
        Box::new(move || Ok(Box::new(EngineSide::load(&file, &options)?))),
    );
    let (path, options) = (model.path.path().to_path_buf(), reference.clone());
    let exact = Loading::start(
        "exact",
        Box::new(move || Ok(Box::new(ReferenceSide::load(&path, &options)?))),
    );
    let engine = engine.wait()?;
    Ok(Lanes { engine, references: References::Exact(exact.wait()?) })
}

/// The runner refuses two equal sides by their identities; the rest is not looked at here.
fn identity(lanes: &Lanes) -> RunIdentity {
    RunIdentity {
        lockstep: env!("CARGO_PKG_VERSION"),
        model: ModelIdentity { name: String::new(), sha256: String::new(), bytes: 0 },
        engine: lanes.engine.identity().clone(),
        references: lanes.references().iter().map(|lane| lane.identity().clone()).collect(),
        options: OptionsIdentity {
            device: String::new(),
            reference: "exact".to_owned(),
            activations: "i24".to_owned(),
            kv: String::new(),
            drive: "reference".to_owned(),
            ubatch: 0,
            context_tokens: 0,
            tap: TapLevel::Op,
            threads: 0,
            max_tokens: STEPS,
            past_end: true,
            checking: true,
        },
    }
}

/// The table is what is shown.
struct Unseen;

impl Display for Unseen {
    fn show(&mut self, _event: Event<'_>) -> io::Result<()> {
        Ok(())
    }
}
