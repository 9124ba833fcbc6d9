//! What depends on how much is known: device weights, missing inputs, inputs that do not fit.

use std::borrow::Cow;

use harness::diagnose::{Evidence, Label, Library, Shelf, Weight, diagnose};
use reference::exact::{Level, ops};
use reference::{Activations, Config};

use crate::world::{GROUPED, World};

/// A weight that the device holds wrongly, and what it makes of the tap.
#[test]
fn a_weight_on_the_device_is_compared_with_the_file() {
    let mut world = World::new(&GROUPED, 5);
    let name = "blk.1.ffn_down.weight";
    let weight = world.shelf.weight(name).unwrap();
    let mut bytes = weight.bytes.to_vec();
    bytes[1000] ^= 0x10;
    bytes[1001] ^= 0x11;
    let held = Weight { bytes: Cow::Owned(bytes), ..weight };
    let x = world.rows("swiglu", Some(1), 0..40);
    let actual = ops::product(Level::best(true), Activations::I24, held.matrix(), &x);
    world.shelf.put_device_weight(name, held);
    let evidence = Evidence { actual, ..world.evidence("down", Some(1), 0) };
    let found = diagnose(&evidence);
    let first = found.first().unwrap();
    assert_eq!(first.label, Label::MemoryCorruption, "{found}");
    assert_eq!(first.parameters["byte"], "1000");
    assert_eq!(first.parameters["bits"], "3");
    // The same bytes on the device explain nothing that differs elsewhere.
    let mut other = evidence.clone();
    other.actual[3] += 1.0;
    assert!(diagnose(&other).first().is_none());
}

/// Without a tensor a hypothesis says what it lacks, and others still answer.
#[test]
fn what_is_missing_is_named() {
    let world = World::new(&GROUPED, 6);
    let empty = Shelf::default();
    let mut evidence = Evidence { library: &empty, ..world.evidence("q", Some(1), 0) };
    for (one, two) in evidence.actual.iter_mut().zip(&evidence.expected) {
        *one = 1.0 - two;
    }
    let found = diagnose(&evidence);
    assert!(found.first().is_none());
    assert_eq!(found.inputs_fit, None);
    let lacks = |name: &str| found.untested.iter().find(|untested| untested.hypothesis == name);
    assert_eq!(lacks("matrix").unwrap().lacks, "rows of `attn_norm` of layer 1");
    assert_eq!(lacks("race").unwrap().lacks, "repeats on the engine");
    assert!(lacks("transposed").is_none());
    evidence.actual = evidence.expected.iter().map(|value| value * 3.0).collect();
    assert_eq!(diagnose(&evidence).first().unwrap().label, Label::Scaled);
}

/// The inputs of another layer: whatever is recomputed from them proves nothing.
#[test]
fn inputs_that_do_not_fit_are_said() {
    let mut world = World::new(&GROUPED, 8);
    let other = world.rows("attn_norm", Some(0), 0..40);
    world.shelf.put_rows("attn_norm", Some(1), 0, world.config.hidden, &other);
    let mut evidence = world.evidence("q", Some(1), 0);
    evidence.actual.iter_mut().enumerate().for_each(|(index, value)| *value += index as f32);
    let found = diagnose(&evidence);
    assert_eq!(found.inputs_fit, Some(false));
    assert!(found.to_string().starts_with("the inputs that were given do not give"), "{found}");
}

/// Rows of two lengths are no matter of causes.
#[test]
fn rows_of_another_length_are_left_alone() {
    let world = World::new(&GROUPED, 9);
    let mut evidence = world.evidence("q", Some(1), 0);
    evidence.actual.pop();
    assert!(diagnose(&evidence).first().is_none());
}

/// Whatever the tensors' sizes are, a diagnosis says what it lacks and does not stop.
#[test]
fn tensors_of_other_sizes_are_survived() {
    let mut world = World::new(&GROUPED, 10);
    for tap in ["attn_norm", "q", "q_rope", "k_rope", "v", "wo", "gate", "swiglu"] {
        world.shelf.put_rows(tap, Some(1), 0, 6, &vec![0.5; 6 * 73]);
    }
    let config = Config { heads: 5, head_size: 7, vocabulary: 3, ..world.config.clone() };
    for (tap, layer) in crate::noise::TAPS {
        for pass in [0, 3] {
            let mut evidence =
                Evidence { config: config.clone(), ..world.evidence(tap, layer, pass) };
            let width = evidence.width;
            let change = |(index, value): (usize, &f32)| value * 0.5 + (index % width) as f32;
            evidence.actual = evidence.expected.iter().enumerate().map(change).collect();
            assert!(diagnose(&evidence).first().is_none());
        }
    }
}

/// What the device holds says how it came there, where it has an order.
#[test]
fn a_weight_on_the_device_says_how_it_is_other() {
    let name = "blk.1.ffn_down.weight";
    let diagnosis_of = |change: &dyn Fn(&Weight<'_>) -> Vec<u8>| {
        let mut world = World::new(&GROUPED, 11);
        let weight = world.shelf.weight(name).unwrap();
        let held = Weight { bytes: Cow::Owned(change(&weight)), ..weight };
        let x = world.rows("swiglu", Some(1), 0..40);
        let actual = ops::product(Level::best(true), Activations::I24, held.matrix(), &x);
        world.shelf.put_device_weight(name, held);
        let found = diagnose(&Evidence { actual, ..world.evidence("down", Some(1), 0) });
        let first = found.first().unwrap().clone();
        let is_loader = first.look_at.contains(&"engine/src/llama/weights.rs");
        assert_eq!(is_loader, first.label != Label::MemoryCorruption, "{first}");
        (first.label, first.evidence)
    };
    let (label, text) = diagnosis_of(&|weight| {
        let mut bytes = weight.bytes.to_vec();
        bytes[5000..].fill(0xff);
        bytes
    });
    assert_eq!(label, Label::NotWritten, "{text}");
    assert!(text.contains(": they were never uploaded"), "{text}");
    let early = |weight: &Weight<'_>| [&[7; 32], &weight.bytes[..weight.bytes.len() - 32]].concat();
    let (label, text) = diagnosis_of(&early);
    assert_eq!(label, Label::Shifted, "{text}");
    assert!(text.contains("the file was read 32 bytes too early"), "{text}");
    let (label, text) = diagnosis_of(&|weight| [&weight.bytes[64..], &[7; 64]].concat());
    assert_eq!(label, Label::Shifted, "{text}");
    assert!(text.contains("the file was read 64 bytes too late"), "{text}");
    let (label, text) = diagnosis_of(&|weight| {
        let rows = (0..weight.rows).map(|row| row / 32 * 32 + row % 2 * 16 + row % 32 / 2);
        rows.flat_map(|row| weight.row(row).to_vec()).collect()
    });
    assert_eq!(label, Label::WrongRow, "{text}");
    assert!(text.contains("row 1 is row 16, row 2 is row 1"), "{text}");
    let (label, text) = diagnosis_of(&|weight| {
        let mut bytes = weight.bytes.to_vec();
        bytes.iter_mut().skip(100).step_by(1009).for_each(|byte| *byte ^= 0x40);
        bytes
    });
    assert_eq!(label, Label::MemoryCorruption, "{text}");
}

/// A device that holds the file's bytes has no flipped bit in them, whatever would explain a row.
#[test]
fn a_weight_that_is_the_files_has_no_flipped_bit() {
    let mut world = World::new(&GROUPED, 12);
    let name = "blk.1.attn_q.weight";
    let weight = world.shelf.weight(name).unwrap();
    let whole = Weight { bytes: Cow::Owned(weight.bytes.to_vec()), ..weight };
    let mut bytes = weight.bytes.to_vec();
    bytes[7 * weight.row_bytes() + 40] ^= 0x04;
    let flipped = Weight { bytes: Cow::Owned(bytes), ..weight };
    let x = world.rows("attn_norm", Some(1), 0..40);
    let actual = ops::product(Level::best(true), Activations::I24, flipped.matrix(), &x);
    let unasked = diagnose(&Evidence { actual: actual.clone(), ..world.evidence("q", Some(1), 0) });
    assert_eq!(unasked.first().unwrap().label, Label::MemoryCorruption, "{unasked}");
    world.shelf.put_device_weight(name, whole);
    let asked = diagnose(&Evidence { actual, ..world.evidence("q", Some(1), 0) });
    assert!(asked.first().is_none(), "{asked}");
}
