//! The taps: their sequence is the contract's, and watching changes nothing.

use std::collections::BTreeMap;

use reference::{
    Mode, Observer, Options, Readout, Reference, Row, Silent, Tap, TapLevel, Values, WeightType,
};

use crate::tiny::{Random, Tiny};

const IN_LAYER: [&str; 15] = [
    "attn_norm",
    "q",
    "k",
    "v",
    "q_rope",
    "k_rope",
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

type Key = (&'static str, Option<usize>);

/// Keeps everything.
struct Recorder {
    level: TapLevel,
    order: Vec<(Key, usize, usize)>,
    rows: BTreeMap<Key, BTreeMap<usize, Vec<f64>>>,
}

impl Recorder {
    const fn new(level: TapLevel) -> Self {
        Self { level, order: Vec::new(), rows: BTreeMap::new() }
    }
}

impl Observer for Recorder {
    fn level(&self) -> TapLevel {
        self.level
    }

    fn tap(&mut self, tap: Tap<'_>) {
        let key = (tap.name, tap.layer);
        self.order.push((key, tap.first_position, tap.rows));
        let values: Vec<f64> = match tap.values {
            Values::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Values::F64(values) => values.to_vec(),
        };
        assert_eq!(values.len(), tap.rows * tap.width);
        for (row, values) in values.chunks(tap.width).enumerate() {
            let rows = self.rows.entry(key).or_default();
            let before = rows.insert(tap.first_position + row, values.to_vec());
            assert_eq!(before, None, "{key:?} came twice");
        }
    }
}

fn watch(mode: Mode, ubatch: usize, level: TapLevel) -> (Recorder, Readout, Readout) {
    let file = Tiny::new(WeightType::Q4_0).write();
    let options = Options { mode, ubatch, threads: 2, ..Options::default() };
    let mut reference = Reference::load(&file.0, &options).unwrap();
    let tokens = Random(3).tokens(10);
    let silent = reference.forward(&tokens, &mut Silent).unwrap();
    reference.reset();
    let mut recorder = Recorder::new(level);
    let watched = reference.forward(&tokens, &mut recorder).unwrap();
    (recorder, silent, watched)
}

#[test]
fn the_sequence_is_the_contracts() {
    for mode in [Mode::Exact, Mode::Stock, Mode::Wide] {
        let (recorder, silent, watched) = watch(mode, 6, TapLevel::Op);
        assert_eq!(silent, watched);
        let mut expected = Vec::new();
        for (first, rows) in [(0, 6), (6, 4)] {
            expected.push((("embed", None), first, rows));
            for layer in 0..2 {
                expected.extend(IN_LAYER.map(|name| ((name, Some(layer)), first, rows)));
            }
        }
        expected.push((("final_norm", None), 9, 1));
        expected.push((("logits", None), 9, 1));
        assert_eq!(expected, recorder.order, "{mode:?}");
    }
}

#[test]
fn the_level_chooses_the_taps() {
    let (recorder, ..) = watch(Mode::Exact, 512, TapLevel::Layer);
    let names: Vec<_> = recorder.order.iter().map(|((name, _), ..)| *name).collect();
    assert_eq!(names, ["embed", "ffn_residual", "ffn_residual", "final_norm", "logits"]);
    let (recorder, ..) = watch(Mode::Exact, 512, TapLevel::Readout);
    assert_eq!(recorder.order, []);
}

#[test]
fn every_tap_is_the_same_in_every_split() {
    let (whole, _, readout) = watch(Mode::Exact, 512, TapLevel::Op);
    let (split, ..) = watch(Mode::Exact, 3, TapLevel::Op);
    assert_eq!(whole.rows, split.rows);
    let Row::F32(hidden) = readout.hidden else { panic!("the exact mode is in f32") };
    let tapped = &whole.rows[&("final_norm", None)][&9];
    assert_eq!(hidden.iter().map(|value| f64::from(*value)).collect::<Vec<_>>(), *tapped);
}

/// Panics at its third tap.
struct Fragile(usize);

impl Observer for Fragile {
    fn level(&self) -> TapLevel {
        TapLevel::Op
    }

    fn tap(&mut self, _tap: Tap<'_>) {
        self.0 += 1;
        assert!(self.0 < 3, "the observer gives up");
    }
}

#[test]
#[should_panic(expected = "the observer gives up")]
fn a_panicking_observer_does_not_hang_the_run() {
    let file = Tiny::new(WeightType::F16).write();
    let options = Options { threads: 1, ..Options::default() };
    let mut reference = Reference::load(&file.0, &options).unwrap();
    drop(reference.forward(&[1, 2, 3], &mut Fragile(0)));
}
