//! The search: every operation alone has the rows of its pass, and a fault is found, judged, kept
//! as a witness and replayed.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine::{DeviceChoice, HostBuild};
use harness::compare::Verdict;
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
use serde_json::Value;
use support::matrix::{Case, identity, prompt};
use support::{lockstep, transcript};

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
    let model = Model::resolve(None).unwrap();
    let context_tokens = way.tokens + 8;
    let engine_options = engine::Options {
        device: DeviceChoice::Host,
        host_build: Some(way.build),
        kv: if way.half { engine::KvType::F16 } else { engine::KvType::F32 },
        context_tokens,
        ubatch: way.ubatch,
        threads: 2,
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
    Way { build: HostBuild::Avx2, half: false, tokens, ubatch: 512 }
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
        for (tokens, ubatch, half) in [(9, 512, false), (7, 3, true), (70, 64, false)] {
            let way = Way { build, half, tokens, ubatch };
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
    let mut ran = search(way(6), Some(sabotage));
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
fn a_missing_tap_is_no_operation() {
    let fault = Fault::DropTap;
    let finding = find(Sabotage { tap: "gate", layer: Some(0), call: 0, fault });
    assert_eq!(finding.kind, Kind::Sequence);
    assert!(finding.located.is_none());
}

/// Runs `find` with a planted fault into a folder.
fn plant(folder: &Path, fault: &str, more: &[&str]) -> String {
    let out = folder.to_str().unwrap();
    let find = ["find", "--plant", fault, "--max-tokens", "4", "--threads", "1", "--out", out];
    let output = lockstep(&[&find[..], &["--device", "host"], more].concat());
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn replay(path: &Path, more: &[&str]) -> (i32, Value) {
    let replay = ["replay", path.to_str().unwrap(), "--format", "json", "--threads", "1"];
    let output = lockstep(&[&replay[..], more].concat());
    let code = output.status.code().unwrap();
    (code, serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

#[test]
fn a_witness_is_still_there_and_gone_when_the_fault_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness.json");
    for (fault, tap, more) in [
        ("F08", "attn_out", &[][..]),
        ("F26", "attn_norm", &["--format", "json"]),
        ("F27", "keys", &["--kv", "f16"]),
        ("F39", "up", &["--activations", "i8"]),
    ] {
        let said = plant(folder.path(), fault, more);
        assert!(said.contains("witness"), "{said}");
        let (code, line) = replay(&path, &[]);
        assert_eq!((code, &line["verdict"]), (1, &"still_there".into()), "{fault} {line}");
        // Another layer's cache is empty when the operation runs alone on a fresh engine.
        assert_eq!(line["same_rows"], fault != "F08", "{line}");
        // The same witness for an engine without the fault.
        let mut witness: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(witness["place"]["tap"], tap);
        witness["options"]["plant"] = Value::Null;
        std::fs::write(&path, witness.to_string()).unwrap();
        let (code, line) = replay(&path, &[]);
        assert_eq!((code, &line["verdict"]), (0, &"gone".into()), "{fault} {line}");
        assert!(
            line["notes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|note| { note.as_str().unwrap().contains("another") })
        );
    }
}

#[test]
fn what_a_replay_cannot_tell_it_does_not_tell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness.json");
    // Alone, the readout is right: only the run shows the wrong row.
    plant(folder.path(), "F34", &[]);
    let (code, line) = replay(&path, &[]);
    assert_eq!((code, &line["verdict"]), (4, &"untold".into()), "{line}");
    // Another model runs, and decides nothing.
    plant(folder.path(), "F10", &[]);
    let other = folder.path().join("other.gguf");
    let recipe = fixtures::Recipe { seed: 2, ..fixtures::Recipe::tiny() };
    recipe.write(&mut std::fs::File::create(&other).unwrap()).unwrap();
    let (code, line) = replay(&path, &["--model", other.to_str().unwrap()]);
    assert_eq!((code, &line["verdict"]), (4, &"untold".into()), "{line}");
    assert!(line["message"].as_str().unwrap().contains("model"), "{line}");
}

#[test]
fn a_damaged_witness_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("witness.json");
    plant(folder.path(), "F10", &["--tokens", "1,2,3,4,5,6,7,8,9,10,11,12"]);
    let whole = std::fs::read_to_string(&path).unwrap();
    let beside = folder.path().join("witness.bin");
    let mut bytes = std::fs::read(&beside).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&beside, &bytes).unwrap();
    let refused = |words: &str| {
        let output = lockstep(&["replay", path.to_str().unwrap()]);
        let said = transcript(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(said.contains("hint:"), "{said}");
    };
    refused("is not the one that the witness was written with");
    bytes[100] ^= 1;
    std::fs::write(&beside, &bytes).unwrap();
    for (from, to, words) in [
        ("\"format\": 1", "\"format\": 2", "has format 2"),
        ("\"device\": \"host\"", "\"device\": \"abacus\"", "device `abacus`"),
        ("\"hex\": \"", "\"hex\": \"g0", "has not the"),
        ("\"width\": 256", "\"width\": 257", "has not the"),
        ("\"width\": 256", "\"odd\": 1, \"width\": 256", "is no witness"),
        ("{", "", "is no witness"),
    ] {
        assert!(whole.contains(from), "{from}");
        std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        refused(words);
    }
    std::fs::remove_file(&path).unwrap();
    refused("cannot read the witness");
}
