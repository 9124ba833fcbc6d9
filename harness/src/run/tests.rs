//! The runner with sides that compute in microseconds: every way a run can end.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::lane::{Lane, Loading};
use super::*;
use crate::compare::triangle::Judge;
use crate::compare::{Difference, Divergence};
use crate::identity::{ModelIdentity, OptionsIdentity};
use crate::sides::imaginary::Imaginary;
use crate::sides::sabotaged::{Fault, Sabotage, Sabotaged};
use crate::sides::{Side, SideIdentity, TapLevel};

fn lane(name: &'static str, side: impl Side + Send + 'static) -> Lane {
    Loading::start(name, Box::new(move || Ok(Box::new(side) as Box<dyn Side>))).wait().unwrap()
}

fn identity() -> RunIdentity {
    let side = SideIdentity {
        implementation: "imaginary".to_owned(),
        device: "nowhere".to_owned(),
        build: "1".to_owned(),
    };
    let model = ModelIdentity { name: "none".to_owned(), sha256: "0".repeat(64), bytes: 0 };
    let options = OptionsIdentity {
        device: "auto".to_owned(),
        reference: "exact".to_owned(),
        activations: "i24".to_owned(),
        kv: "f32".to_owned(),
        drive: "reference".to_owned(),
        ubatch: 512,
        context_tokens: 512,
        tap: TapLevel::Readout,
        threads: 1,
        max_tokens: 4,
        past_end: false,
        checking: true,
    };
    RunIdentity { lockstep: "0", model, engine: side.clone(), references: vec![side], options }
}

/// What the displays saw.
#[derive(Default)]
struct Seen {
    steps: usize,
    chunkings: Vec<(String, &'static str)>,
    progress: Option<Progress>,
    finished: usize,
}

struct Watch(Rc<RefCell<Seen>>);

impl Display for Watch {
    fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        let mut seen = self.0.borrow_mut();
        match event {
            Event::Started(start) => assert_eq!(start.prompt_ids.len(), start.prompt_tokens.len()),
            Event::Step(_) => seen.steps += 1,
            Event::Chunking(chunking) => {
                seen.chunkings.push((chunking.words.clone(), chunking.verdict.word()));
            }
            Event::Progress(progress) => seen.progress = Some(progress),
            Event::Finished(_) => seen.finished += 1,
        }
        Ok(())
    }
}

struct Case {
    prompt: usize,
    level: TapLevel,
    drive: Drive,
    end_ids: BTreeSet<u32>,
    interrupted: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            prompt: 40,
            level: TapLevel::Op,
            drive: Drive::Reference,
            end_ids: BTreeSet::new(),
            interrupted: false,
        }
    }
}

impl Case {
    fn run(&self, mut lanes: Lanes) -> (Outcome, Seen) {
        let plan = Plan {
            prompt_ids: (0..self.prompt as u32).map(|i| i % 11).collect(),
            max_tokens: 4,
            drive: self.drive,
            level: self.level,
            ubatch: 512,
            end_ids: self.end_ids.clone(),
            prefill_decode: true,
            past_end: false,
            text: &|id| Some(format!("<{id}>")),
            decode: &|ids| Some(format!("{ids:?}")),
        };
        let seen = Rc::new(RefCell::new(Seen::default()));
        let interrupted = AtomicBool::new(self.interrupted);
        let mut watch = Watch(Rc::clone(&seen));
        let outcome = run(&plan, &mut lanes, identity(), &interrupted, &mut watch).unwrap();
        drop(watch);
        let seen = Rc::into_inner(seen).unwrap().into_inner();
        assert_eq!(seen.finished, 1);
        assert_eq!(seen.steps, outcome.steps_compared);
        (outcome, seen)
    }

    /// Engine and reference that agree, except for one planted fault in the engine.
    fn sabotage(&self, sabotage: Sabotage) -> Divergence {
        let engine = lane("engine", Sabotaged::new(Imaginary::new("engine"), sabotage));
        let reference = lane("exact", Imaginary::new("exact"));
        let (outcome, _) = self.run(Lanes { engine, references: References::Exact(reference) });
        assert_eq!(outcome.exit_code(), 1, "{sabotage:?}: {:?}", outcome.verdict);
        let Verdict::Diverges(found) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
        *found
    }
}

fn exact(engine: Imaginary) -> Lanes {
    let reference = lane("exact", Imaginary::new("exact"));
    Lanes { engine: lane("engine", engine), references: References::Exact(reference) }
}

#[test]
fn equal_sides_agree_and_everything_is_counted() {
    let (outcome, seen) = Case::default().run(exact(Imaginary::new("engine")));
    assert_eq!(outcome.exit_code(), 0, "{:?}", outcome.verdict);
    assert_eq!((outcome.steps_compared, outcome.steps_agreeing), (4, 4));
    assert_eq!(outcome.stopped, Stopped::MaxTokens);
    assert_eq!(outcome.chosen_ids.len(), 4);
    assert!(outcome.canary.unwrap().seen);
    // 43 positions in two layers, four readouts of two rows, ten chunkings of two rows.
    let chunkings = seen.chunkings.len() as u64;
    assert_eq!(chunkings, 10, "{:?}", seen.chunkings);
    assert_eq!(outcome.tally.rows_compared, 43 * 2 + 4 * 2 + chunkings * 2);
    assert_eq!(outcome.tally.elements_differing, 0);
    let summary = outcome.prefill_decode.unwrap();
    assert_eq!((summary.chunkings_count, summary.diverging_count), (10, 0));
    assert!(summary.decode_checked);
    assert_eq!(summary.not_checked, None);
    let progress = seen.progress.unwrap();
    assert!(progress.done_tokens >= progress.total_tokens);
}

#[test]
fn every_planted_fault_is_found_and_placed() {
    let case = Case::default();
    let cases = [
        ("ffn_residual", Some(1), 0, Fault::FlipBit { index: 5, bit: 0 }, Some(5)),
        ("ffn_residual", Some(0), 2, Fault::WriteNan { index: 7 }, Some(7)),
        ("ffn_residual", Some(1), 0, Fault::SwapRows { one: 3, two: 4 }, Some(0)),
        ("ffn_residual", Some(1), 0, Fault::DropTap, None),
        ("ffn_residual", Some(1), 1, Fault::ShiftPosition, None),
        ("ffn_residual", Some(1), 1, Fault::Shorten, None),
        ("final_norm", None, 3, Fault::FlipBit { index: 0, bit: 31 }, Some(0)),
        ("final_norm", None, 0, Fault::WriteInfinity { index: 2 }, Some(2)),
        ("logits", None, 1, Fault::FlipBit { index: 15, bit: 0 }, Some(15)),
        ("logits", None, 1, Fault::WriteNan { index: 3 }, Some(3)),
        ("logits", None, 1, Fault::Shorten, None),
        ("logits", None, 1, Fault::ShiftPosition, None),
    ];
    for (tap, layer, call, fault, index) in cases {
        let found = case.sabotage(Sabotage { tap, layer, call, fault });
        // A dropped tap shows as the next one in its place, as seen from the reference.
        let expected_tap =
            if fault == Fault::ShiftPosition && tap == "logits" { "final_norm" } else { tap };
        assert_eq!(found.place.key.tap, expected_tap, "{fault:?}: {found}");
        assert_eq!(found.place.key.layer, layer, "{fault:?}: {found}");
        assert_eq!(found.place.step, call, "{fault:?}: {found}");
        assert_eq!(found.element.as_ref().map(|e| e.index), index, "{fault:?}: {found}");
        if let Fault::SwapRows { one, .. } = fault {
            assert_eq!(found.place.key.position, one, "{found}");
        }
    }
}

#[test]
fn a_prefill_that_forgets_its_first_chunk_is_found_by_the_chunkings() {
    let engine = Imaginary { forgets_chunks: true, ..Imaginary::new("engine") };
    let case = Case { level: TapLevel::Readout, ..Case::default() };
    // The first step is one chunk and agrees; the decode steps do not.
    let (outcome, seen) = case.run(exact(engine));
    assert_eq!(outcome.exit_code(), 1);
    assert!(
        seen.chunkings
            .iter()
            .any(|(words, verdict)| { words == "token by token" && *verdict == "diverges" })
    );
    assert!(outcome.prefill_decode.unwrap().diverging_count >= 4);
}

#[test]
fn one_prefill_of_many_chunks_is_told_from_the_decode() {
    let engine = Imaginary { forgets_chunks: true, ubatch: 32, ..Imaginary::new("engine") };
    let reference = Imaginary { forgets_chunks: true, ubatch: 32, ..Imaginary::new("exact") };
    let references = References::Exact(lane("exact", reference));
    let lanes = Lanes { engine: lane("engine", engine), references };
    // Both sides have the same fault, so every step agrees; only the chunkings can tell.
    let case = Case { prompt: 20, ..Case::default() };
    let (outcome, _) = case.run(lanes);
    assert_eq!(outcome.steps_agreeing, 4);
    let Verdict::Diverges(found) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
    assert!(matches!(found.difference, Difference::Chunking { .. }), "{found}");
    assert_eq!(found.element.unwrap().index, 1);
}

#[test]
fn long_prompts_are_checked_in_part_and_it_is_said() {
    let case = Case { prompt: 300, ..Case::default() };
    let (outcome, seen) = case.run(exact(Imaginary::new("engine")));
    assert_eq!(outcome.exit_code(), 0, "{:?}", outcome.verdict);
    let summary = outcome.prefill_decode.unwrap();
    assert_eq!((summary.prompt_tokens_checked, summary.prompt_tokens), (256, 300));
    assert!(!summary.decode_checked);
    let words = summary.not_checked.unwrap();
    assert!(words.contains("first 256 of 300"), "{words}");
    assert!(words.contains("303 tokens of prompt and answer"), "{words}");
    assert!(seen.chunkings[0].0.contains("one prefill of the first 256"));
    // Without a baseline the second side is compared with the first, which has nobody before it.
    let baselines = seen.chunkings.iter().filter(|(words, _)| words.starts_with("one prefill"));
    assert_eq!((baselines.count(), seen.chunkings.len()), (1, 9));
    assert_eq!(summary.chunkings_count, 9);
}

#[test]
fn a_panic_in_a_side_ends_the_run_without_a_verdict() {
    let engine = Imaginary { panic_at: Some(41), ..Imaginary::new("engine") };
    let (outcome, _) = Case::default().run(exact(engine));
    assert_eq!(outcome.exit_code(), 4);
    assert_eq!(outcome.steps_agreeing, 2);
    let Verdict::Inconclusive(Reason::SideFailed { message }) = outcome.verdict else {
        panic!("{:?}", outcome.verdict)
    };
    assert!(message.contains("planted at position 41"), "{message}");
}

#[test]
fn a_side_is_never_compared_with_itself() {
    let (outcome, _) = Case::default().run(exact(Imaginary::new("exact")));
    assert_eq!(outcome.exit_code(), 4);
    assert!(matches!(outcome.verdict, Verdict::Inconclusive(Reason::SameIdentity { .. })));
    assert_eq!(outcome.tally.rows_compared, 0);
}

#[test]
fn an_interrupted_run_has_compared_nothing_or_less_than_asked() {
    let case = Case { interrupted: true, ..Case::default() };
    let (outcome, _) = case.run(exact(Imaginary::new("engine")));
    assert_eq!(outcome.exit_code(), 4);
    assert_eq!(outcome.stopped, Stopped::Interrupted);
}

#[test]
fn the_text_ends_where_the_model_ends_it() {
    let (whole, _) = Case::default().run(exact(Imaginary::new("engine")));
    let end_ids = BTreeSet::from([whole.chosen_ids[1]]);
    let case = Case { end_ids, ..Case::default() };
    let (outcome, _) = case.run(exact(Imaginary::new("engine")));
    assert_eq!(outcome.stopped, Stopped::EndOfText);
    assert!(outcome.steps_compared <= 2);
}

#[test]
fn logits_that_are_not_numbers_choose_no_token() {
    let fault = Fault::WriteNan { index: 3 };
    let sabotage = Sabotage { tap: "logits", layer: None, call: 1, fault };
    let engine = lane("engine", Sabotaged::new(Imaginary::new("engine"), sabotage));
    let references = References::Exact(lane("exact", Imaginary::new("exact")));
    let case = Case { drive: Drive::Engine, ..Case::default() };
    let (outcome, _) = case.run(Lanes { engine, references });
    assert_eq!(outcome.stopped, Stopped::NoChoice);
    assert_eq!(outcome.exit_code(), 1);
}

/// Three voices: the engine and stock are off from wide by these amounts.
fn triangle(judge: Judge, engine: f64, stock: f64) -> Outcome {
    let side =
        |name, offset| lane(name, Imaginary { wide_offset: Some(offset), ..Imaginary::new(name) });
    let references =
        References::Triangle { stock: side("stock", stock), wide: side("wide", 0.0), judge };
    let case = Case { level: TapLevel::Readout, ..Case::default() };
    case.run(Lanes { engine: side("engine", engine), references }).0
}

#[test]
fn three_voices_agree_within_the_rule_and_part_outside() {
    // In f64 rows there is no bit to flip for the canary of bits.
    for (judge, within, outside) in
        [(Judge::Wide, 2.9e-7, 3.1e-7), (Judge::Stock, -2.9e-7, -3.1e-7)]
    {
        let outcome = triangle(judge, outside, 1e-7);
        let Verdict::Diverges(found) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
        assert!(matches!(found.difference, Difference::Distance { .. }), "{found}");
        let outcome = triangle(judge, within, 1e-7);
        assert!(!matches!(outcome.verdict, Verdict::Diverges(_)), "{:?}", outcome.verdict);
        assert_eq!(outcome.steps_agreeing, 4);
    }
}
