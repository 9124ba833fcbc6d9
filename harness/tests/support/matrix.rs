//! Engine against `exact` over prompt lengths, splits, threads and instructions: no bit may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::{DeviceChoice, HostBuild};
use harness::compare::sequence::Tally;
use harness::event::{Display, Event, Outcome};
use harness::identity::{ModelIdentity, OptionsIdentity, RunIdentity};
use harness::model::Model;
use harness::number::Hash;
use harness::run::lane::Loading;
use harness::run::{Drive, Lanes, Plan, References, run};
use harness::sides::engine::EngineSide;
use harness::sides::reference::ReferenceSide;
use harness::sides::sabotaged::{Sabotage, Sabotaged};
use harness::sides::{SideIdentity, TapLevel};

/// The lengths that surround every chunk of the contract, and one that fills none.
pub(crate) const PROMPTS_TOKENS: [usize; 7] = [1, 2, 31, 32, 33, 64, 205];
/// One by one, a prime, both sides of 32, and everything at once.
pub(crate) const UBATCHES_TOKENS: [usize; 5] = [1, 7, 32, 33, 512];

/// One way to run a prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Tokens decoded after it.
    pub(crate) decode_tokens: usize,
    /// The most tokens a side runs at once.
    pub(crate) ubatch: usize,
    /// Threads of each side.
    pub(crate) threads: usize,
    /// Whether the reference uses vector instructions, and which build of the kernels runs.
    pub(crate) simd: bool,
    /// What is compared.
    pub(crate) level: TapLevel,
    /// Whether the chunkings are run in the run.
    pub(crate) prefill_decode: bool,
    /// Where the engine runs.
    pub(crate) device: DeviceChoice,
}

impl Case {
    /// As a run without options does it.
    pub(crate) fn new(prompt_tokens: usize, decode_tokens: usize) -> Self {
        Self {
            prompt_tokens,
            decode_tokens,
            ubatch: 512,
            threads: 2,
            simd: true,
            level: TapLevel::Readout,
            prefill_decode: false,
            device: DeviceChoice::Host,
        }
    }
}

/// What a case showed.
pub(crate) struct Answer {
    /// The whole outcome.
    pub(crate) outcome: Outcome,
    /// The hidden state after the prompt, on both sides.
    pub(crate) prompt_hashes: BTreeSet<String>,
    /// The hidden state after the last decode.
    pub(crate) last_hashes: BTreeSet<String>,
}

/// Token ids spread over the vocabulary, the same for every case of a model.
pub(crate) fn prompt(vocabulary: usize, tokens: usize) -> Vec<u32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..tokens)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % vocabulary as u64) as u32
        })
        .collect()
}

/// Runs a case; `sabotage` plants a fault into the engine.
pub(crate) fn answer(model: &Model, case: Case, sabotage: Option<Sabotage>) -> Answer {
    let plan = Plan {
        prompt_ids: prompt(model.vocabulary, case.prompt_tokens),
        max_tokens: case.decode_tokens + 1,
        drive: Drive::Reference,
        level: case.level,
        ubatch: case.ubatch,
        end_ids: BTreeSet::new(),
        prefill_decode: case.prefill_decode,
        past_end: true,
        text: &|_| None,
        decode: &|_| None,
    };
    let mut lanes = lanes(model, case, sabotage);
    let identity = identity(&lanes);
    let mut hashes = Hashes::default();
    let interrupted = AtomicBool::new(false);
    let outcome = run(&plan, &mut lanes, identity, &interrupted, &mut hashes).unwrap();
    Answer { outcome, prompt_hashes: hashes.prompt, last_hashes: hashes.last }
}

/// Both sides of a case.
pub(crate) fn lanes(model: &Model, case: Case, sabotage: Option<Sabotage>) -> Lanes {
    let context_tokens = case.prompt_tokens + case.decode_tokens + 1;
    let engine_options = engine::Options {
        device: case.device,
        context_tokens,
        ubatch: case.ubatch,
        threads: case.threads,
        host_build: (!case.simd && case.device == DeviceChoice::Host)
            .then_some(HostBuild::Baseline),
        ..engine::Options::default()
    };
    let reference_options = reference::Options {
        context_tokens,
        ubatch: case.ubatch,
        threads: case.threads,
        simd: case.simd,
        ..reference::Options::default()
    };
    let (file, path) = (Arc::clone(&model.file), model.path.clone());
    let engine = Loading::start(
        "engine",
        Box::new(move || {
            let side = EngineSide::load(&file, &engine_options)?;
            Ok(match sabotage {
                Some(sabotage) => Box::new(Sabotaged::new(side, sabotage)),
                None => Box::new(side),
            })
        }),
    );
    let exact = Loading::start(
        "exact",
        Box::new(move || Ok(Box::new(ReferenceSide::load(&path, &reference_options)?))),
    );
    let engine = engine.wait().unwrap();
    Lanes { engine, references: References::Exact(exact.wait().unwrap()) }
}

pub(crate) fn identity(lanes: &Lanes) -> RunIdentity {
    let model = ModelIdentity { name: String::new(), sha256: "0".repeat(64), bytes: 0 };
    let side = |side: &SideIdentity| side.clone();
    let options = OptionsIdentity {
        device: "host".to_owned(),
        reference: "exact".to_owned(),
        activations: "i24".to_owned(),
        kv: "f32".to_owned(),
        drive: "reference".to_owned(),
        ubatch: 0,
        context_tokens: 0,
        tap: TapLevel::Readout,
        threads: 0,
        max_tokens: 0,
        past_end: true,
        checking: true,
    };
    RunIdentity {
        lockstep: "test",
        model,
        engine: side(lanes.engine.identity()),
        references: lanes.references().iter().map(|lane| side(lane.identity())).collect(),
        options,
    }
}

#[derive(Default)]
struct Hashes {
    prompt: BTreeSet<String>,
    last: BTreeSet<String>,
}

impl Display for Hashes {
    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        let hashes = |side: Option<Hash>| side.map_or_else(String::new, |hash| hash.to_string());
        match event {
            Event::Step(step) => {
                self.last = step.sides.iter().map(|side| hashes(side.hidden.hash)).collect();
                if step.step == 0 {
                    self.prompt = self.last.clone();
                }
            }
            Event::Chunking(chunking) if chunking.step == 0 => {
                self.prompt.insert(hashes(chunking.hidden.hash));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Sums cases up, and holds them to one hash a prompt.
#[derive(Default)]
pub(crate) struct Sum {
    /// Everything that was compared.
    pub(crate) tally: Tally,
    /// How many cases.
    pub(crate) cases: usize,
    /// How many did not agree.
    pub(crate) failed: usize,
    prompts: BTreeMap<usize, BTreeSet<String>>,
    lasts: BTreeMap<(usize, usize), BTreeSet<String>>,
}

impl Sum {
    /// Adds a case and says in one line what it showed.
    pub(crate) fn add(&mut self, case: Case, answer: &Answer) -> String {
        let last = self.lasts.entry((case.prompt_tokens, case.decode_tokens)).or_default();
        last.extend(answer.last_hashes.iter().cloned());
        let lasts = last.len();
        let prompt = self.prompts.entry(case.prompt_tokens).or_default();
        prompt.extend(answer.prompt_hashes.iter().cloned());
        let good = answer.outcome.exit_code() == 0 && prompt.len() == 1 && lasts == 1;
        self.cases += 1;
        self.failed += usize::from(!good);
        let tally = answer.outcome.tally;
        self.tally.add(tally);
        format!(
            "{}  prompt {:>3}  decode {}  ubatch {:>3}  threads {}  simd {:<5}  {} rows, \
             {} elements, {} differing, {} and {} hashes{}",
            if good { "  AGREES" } else { "DIVERGES" },
            case.prompt_tokens,
            case.decode_tokens,
            case.ubatch,
            case.threads,
            case.simd,
            tally.rows_compared,
            tally.elements_compared,
            tally.elements_differing,
            prompt.len(),
            lasts,
            if good { String::new() } else { format!(": {:?}", answer.outcome.verdict) },
        )
    }

    /// The last line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} cases, {} failed: {} rows and {} elements compared, {} differing",
            self.cases,
            self.failed,
            self.tally.rows_compared,
            self.tally.elements_compared,
            self.tally.elements_differing
        )
    }
}
