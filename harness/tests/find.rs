//! The search: every operation alone has the rows of its pass, and a fault is found and judged.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

#[path = "find/cache.rs"]
mod cache;
mod support;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::{DeviceChoice, HostBuild};
use harness::compare::Verdict;
use harness::diagnose::Label;
use harness::event::{Display, Event};
use harness::find::examine::Means;
use harness::find::inputs::inputs;
use harness::find::judgement::Judgement;
use harness::find::search::Search;
use harness::find::{Finding, Kind, explain};
use harness::model::Model;
use harness::run::lane::Loading;
use harness::run::{Drive, Lanes, Plan, References, run_searching};
use harness::sides::engine::EngineSide;
use harness::sides::question::{Answer, Question};
use harness::sides::reference::ReferenceSide;
use harness::sides::sabotaged::{Fault, Sabotage, Sabotaged};
use harness::sides::{Side, TapLevel};
use support::matrix::{identity, prompt};

const TAPS: [&str; 17] = [
    "attn_norm",
    "q",
    "k",
    "v",
    "q_rope",
    "k_rope",
    "keys",
    "values",
    "attn_out",
    "wo",
    "attn_residual",
    "ffn_norm",
    "gate",
    "up",
    "swiglu",
    "down",
    "ffn_residual",
];

/// One way to load and run the engine.
#[derive(Clone, Copy, Debug)]
struct Way {
    build: HostBuild,
    half: bool,
    tokens: usize,
    ubatch: usize,
    fault: Option<engine::Fault>,
}

struct Ran {
    model: Model,
    lanes: Lanes,
    search: Search,
    verdict: Verdict,
    options: reference::Options,
}

struct Unseen;

impl Display for Unseen {
    fn show(&mut self, _event: Event<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the embedded model with a search; `sabotage` plants a fault into the engine's rows.
fn search(way: Way, sabotage: Option<Sabotage>) -> Ran {
    search_as(way, move |side| match sabotage {
        Some(sabotage) => Box::new(Sabotaged::new(side, sabotage)),
        None => Box::new(side),
    })
}

/// The same with the engine in a wrapping.
fn search_as(way: Way, wrap: impl FnOnce(EngineSide) -> Box<dyn Side> + Send + 'static) -> Ran {
    let model = Model::resolve(None).unwrap();
    let context_tokens = way.tokens + 8;
    let engine_options = engine::Options {
        device: DeviceChoice::Host,
        host_build: Some(way.build),
        kv: if way.half { engine::KvType::F16 } else { engine::KvType::F32 },
        context_tokens,
        ubatch: way.ubatch,
        threads: 2,
        fault: way.fault,
        ..engine::Options::default()
    };
    let options = reference::Options {
        kv: if way.half { reference::KvType::F16 } else { reference::KvType::F32 },
        context_tokens,
        ubatch: way.ubatch,
        threads: 2,
        ..reference::Options::default()
    };
    let (file, path, theirs) = (Arc::clone(&model.file), model.path.clone(), options.clone());
    let engine = Loading::start(
        "engine",
        Box::new(move || Ok(wrap(EngineSide::load(&file, &engine_options)?))),
    );
    let exact = Loading::start(
        "exact",
        Box::new(move || Ok(Box::new(ReferenceSide::load(&path, &theirs)?))),
    );
    let (engine, exact) = (engine.wait().unwrap(), exact.wait().unwrap());
    let mut lanes = Lanes { engine, references: References::Exact(exact) };
    let plan = Plan {
        prompt_ids: prompt(model.vocabulary, way.tokens),
        max_tokens: 3,
        drive: Drive::Reference,
        level: TapLevel::Op,
        ubatch: way.ubatch,
        end_ids: BTreeSet::new(),
        prefill_decode: false,
        past_end: true,
        text: &|_| None,
        decode: &|_| None,
    };
    let mut search = Search::default();
    let identity = identity(&lanes);
    let never = AtomicBool::new(false);
    let seen = Some(&mut search);
    let outcome = run_searching(&plan, &mut lanes, identity, &never, &mut Unseen, seen).unwrap();
    Ran { model, lanes, search, verdict: outcome.verdict, options }
}

fn way(tokens: usize) -> Way {
    Way { build: HostBuild::Baseline, half: false, tokens, ubatch: 512, fault: None }
}

fn usable() -> Vec<HostBuild> {
    let wanted = [HostBuild::Baseline, HostBuild::Waves32, HostBuild::Waves64];
    let usable = engine::device::Device::usable_host_builds();
    wanted.into_iter().filter(|build| usable.contains(build)).collect()
}

#[test]
fn every_operation_alone_gives_the_rows_of_its_pass() {
    let mut compared = 0;
    for build in usable() {
        // A prompt in one pass and in passes, then passes of one row, which waves run otherwise.
        for (tokens, ubatch, half) in [(9, 512, false), (7, 3, true), (37, 32, false)] {
            let way = Way { build, half, tokens, ubatch, fault: None };
            let mut ran = search(way, None);
            assert!(matches!(ran.verdict, Verdict::Agrees), "{way:?}: {:?}", ran.verdict);
            let mut operations =
                reference::Operations::open(&ran.model.path, &ran.options).unwrap();
            let layers = operations.config().layers;
            let ids = prompt(ran.model.vocabulary, tokens);
            let last = (tokens - 1) / ubatch * ubatch..tokens;
            let places = [0, 1, layers - 1].map(Some).into_iter();
            let inside = places.flat_map(|layer| TAPS.map(|tap| (tap, layer)));
            for (tap, layer) in inside.chain([("embed", None)]) {
                let at = (last.clone(), &ids[last.clone()]);
                compared += alone_equals(&mut ran, &mut operations, (tap, layer), at, half);
            }
            // The readout of the prompt's last token.
            for tap in ["final_norm", "logits"] {
                let at = (tokens - 1..tokens, &ids[tokens - 1..]);
                compared += alone_equals(&mut ran, &mut operations, (tap, None), at, half);
            }
            // A decode: what the engine chose is of no matter for the launches.
            let at = (tokens..tokens + 1, &[5][..]);
            for (tap, layer) in TAPS.map(|tap| (tap, Some(1))) {
                compared += alone_equals(&mut ran, &mut operations, (tap, layer), at.clone(), half);
            }
        }
    }
    assert!(compared >= 3 * 71, "{compared} operations");
}

fn alone_equals(
    ran: &mut Ran,
    operations: &mut reference::Operations,
    (tap, layer): (&str, Option<usize>),
    (positions, tokens): (std::ops::Range<usize>, &[u32]),
    half: bool,
) -> usize {
    let layers = operations.config().layers;
    let kept = ran.search.kept();
    let inputs = inputs(kept, (tap, layer), layers, (positions.clone(), tokens));
    let kv = if half { reference::KvType::F16 } else { reference::KvType::F32 };
    let expected = match tap {
        "keys" => kept.rows("k_rope", layer, positions.clone()),
        "values" => kept.rows("v", layer, positions.clone()),
        _ => kept.rows(tap, layer, positions.clone()),
    };
    let mut expected = expected.unwrap();
    if matches!(tap, "keys" | "values") {
        expected = reference::operation::stored(kv, &expected);
    }
    let theirs = reference::operation::OperationInputs {
        first_position: inputs.first_position,
        tokens: &inputs.tokens,
        tensors: &inputs.tensors,
    };
    let theirs = operations.run(tap, layer, theirs).unwrap();
    let question =
        Question::Operation { tap: tap.to_owned(), layer, inputs: Arc::new(inputs.clone()) };
    let Answer::Rows(ours) = ran.lanes.engine.ask(question).unwrap() else { panic!("{tap}") };
    let bits = |rows: &[f32]| rows.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&theirs), bits(&expected), "reference {tap} {layer:?} at {positions:?}");
    assert_eq!(bits(&ours), bits(&expected), "engine {tap} {layer:?} at {positions:?}");
    1
}

#[test]
fn questions_leave_the_sequence_as_it_is() {
    for build in usable() {
        let model = Model::resolve(None).unwrap();
        let options = engine::Options {
            device: DeviceChoice::Host,
            host_build: Some(build),
            context_tokens: 32,
            threads: 1,
            ..engine::Options::default()
        };
        let mut plain = EngineSide::load(&model.file, &options).unwrap();
        let mut asked = EngineSide::load(&model.file, &options).unwrap();
        let ran = search(Way { build, ..way(5) }, None);
        let ids = prompt(model.vocabulary, 5);
        let mut quiet = harness::sides::Unwatched;
        plain.forward(&ids, &mut quiet).unwrap();
        asked.forward(&ids, &mut quiet).unwrap();
        for token in [7, 80, 80, 4] {
            for tap in ["attn_out", "q", "keys", "logits"] {
                let layer = (tap != "logits").then_some(1);
                let at = if tap == "logits" { 4..5 } else { 0..5 };
                let inputs = inputs(ran.search.kept(), (tap, layer), 4, (at.clone(), &ids[at]));
                let inputs = Arc::new(inputs);
                let question = Question::Operation { tap: tap.to_owned(), layer, inputs };
                asked.answer(&question).unwrap();
            }
            let one = plain.forward(&[token], &mut quiet).unwrap();
            let two = asked.forward(&[token], &mut quiet).unwrap();
            assert_eq!(one.logits.to_f64(), two.logits.to_f64(), "{build:?}");
        }
    }
}

/// Searches with a fault in the rows, and explains what was found.
fn find(sabotage: Sabotage) -> Finding {
    explained(search(way(6), Some(sabotage)))
}

fn explained(mut ran: Ran) -> Finding {
    let Verdict::Diverges(divergence) = &ran.verdict else { panic!("{:?}", ran.verdict) };
    let mut operations = reference::Operations::open(&ran.model.path, &ran.options).unwrap();
    let mut means = Means {
        engine: &mut ran.lanes.engine,
        operations: &mut operations,
        file: &ran.model.file,
        activations: ran.options.activations,
        kv: ran.options.kv,
    };
    explain(divergence, &ran.search, &mut means).finding
}

#[test]
fn a_bit_in_any_row_is_found_and_its_operation_is_innocent() {
    for (tap, layer, call) in
        [("embed", None, 0), ("q", Some(1), 0), ("down", Some(3), 1), ("logits", None, 2)]
    {
        let fault = Fault::FlipBit { index: 17, bit: 3 };
        let finding = find(Sabotage { tap, layer, call, fault });
        let place = &finding.divergence.place;
        assert_eq!((finding.kind, &*place.key.tap, place.key.layer), (Kind::Tap, tap, layer));
        assert_eq!((place.step, finding.divergence.differing_count), (call, 1));
        let located = finding.located.unwrap();
        assert_eq!((located.row, located.column), (0, 17));
        assert_eq!(located.head, (tap == "q").then_some(0));
        assert_eq!(located.judgement, Judgement::InputGuilty { runs: 5 }, "{tap}");
    }
}

#[test]
fn rows_that_change_places_are_seen_over_all_positions() {
    let fault = Fault::SwapRows { one: 2, two: 4 };
    let finding = find(Sabotage { tap: "attn_out", layer: Some(0), call: 0, fault });
    let located = finding.located.unwrap();
    assert_eq!(located.row, 2);
    assert_eq!(located.pattern.rows.to_string(), "2 of 6 between 2 and 4");
}

#[test]
fn a_fault_in_the_launches_of_waves_is_judged_there() {
    for build in usable() {
        let plant = |fault| {
            let finding = explained(search(Way { build, fault: Some(fault), ..way(4) }, None));
            let (place, located) = (finding.divergence.place, finding.located.unwrap());
            let cause = located.diagnosis.first().unwrap().label;
            (place.key.tap.to_string(), place.key.layer, place.step, located.judgement, cause)
        };
        let (tap, layer, step, judgement, cause) = plant(engine::Fault::CacheOfLayerZero);
        assert_eq!((&*tap, layer, step), ("attn_out", Some(1), 1), "{build:?}");
        assert_eq!(judgement, Judgement::OperationGuilty { reproduces: true, runs: 5 });
        assert_eq!(cause, Label::WrongLayer);
        let (tap, layer, step, judgement, cause) = plant(engine::Fault::WeightBit);
        assert_eq!((&*tap, layer, step), ("up", Some(3), 0), "{build:?}");
        assert!(matches!(judgement, Judgement::Weights(_)), "{judgement:?}");
        assert_eq!(cause, Label::MemoryCorruption);
    }
}

#[test]
fn a_readout_that_differs_alone_is_said_to() {
    let fault = Fault::FlipReadout { index: 9, bit: 4 };
    let finding = find(Sabotage { tap: "logits", layer: None, call: 1, fault });
    assert_eq!(finding.kind, Kind::Readout);
    assert_eq!(finding.divergence.element.unwrap().index, 9);
    assert!(finding.located.is_none());
}

#[test]
fn answers_that_change_are_not_deterministic() {
    let fault = Fault::FlipBit { index: 3, bit: 0 };
    let sabotage = Sabotage { tap: "q_rope", layer: Some(2), call: 0, fault };
    // Every second answer has another bit.
    let mut asked = 0;
    let finding = cache::changed(sabotage, move |_, answer| {
        asked += 1;
        if let (Answer::Rows(rows), 0) = (answer, asked % 2) {
            rows[3] = f32::from_bits(rows[3].to_bits() ^ 1);
        }
    });
    let located = finding.located.unwrap();
    let expected = Judgement::NotDeterministic { runs: 5, answers: 2, elements_differing: 1 };
    assert_eq!(located.judgement, expected);
    assert_eq!(located.diagnosis.first().unwrap().label, Label::Race);
}

#[test]
fn a_missing_tap_is_no_operation() {
    let fault = Fault::DropTap;
    let finding = find(Sabotage { tap: "gate", layer: Some(0), call: 0, fault });
    assert_eq!(finding.kind, Kind::Sequence);
    assert!(finding.located.is_none());
}

/// No operation of a clean run is outside of its bound: a bound that cries wolf names nothing.
#[test]
fn every_operation_of_a_clean_run_is_inside_its_bound() {
    let ran = search(way(12), None);
    let mut operations = reference::Operations::open(&ran.model.path, &ran.options).unwrap();
    let judged = harness::find::distance::judge(&ran.search, &mut operations);
    assert_eq!(judged.first, None);
    // Fifteen operations in each of four layers, the embedding and the readout.
    assert_eq!(judged.operations_judged, 63);
}
