//! How far an explanation goes: what a hypothesis may not claim although much speaks for it.

use fixtures::values::Stream;
use harness::diagnose::{Certainty, Evidence, Label, diagnose};
use reference::Activations;
use reference::exact::{Level, ops};

use crate::world::{GROUPED, PLAIN, World};

/// Another layer that is constant would explain every constant.
#[test]
fn a_constant_tensor_of_another_layer_explains_nothing() {
    let mut world = World::new(&GROUPED, 21);
    let width = world.config.hidden;
    world.shelf.put_rows("wo", Some(0), 0, width, &vec![1.5; 40 * width]);
    let mut evidence = world.evidence("wo", Some(1), 0);
    evidence.actual.fill(1.5);
    let found = diagnose(&evidence);
    assert!(found.explanations.is_empty(), "{found}");
    // The same with two values is an answer.
    let mut rows = vec![1.5; 40 * width];
    rows[7] = 2.5;
    world.shelf.put_rows("wo", Some(0), 0, width, &rows);
    let evidence = Evidence { actual: rows, ..world.evidence("wo", Some(1), 0) };
    assert_eq!(diagnose(&evidence).first().unwrap().label, Label::WrongLayer);
}

/// All rows that differ have to be of the other layer.
#[test]
fn a_row_of_another_layer_beside_noise_explains_nothing() {
    let world = World::new(&GROUPED, 22);
    let other = world.rows("wo", Some(0), 0..40);
    let mut evidence = world.evidence("wo", Some(1), 0);
    let width = evidence.width;
    evidence.actual[..width].copy_from_slice(&other[..width]);
    assert_eq!(diagnose(&evidence).first().unwrap().label, Label::WrongLayer);
    let mut stream = Stream::new(1);
    evidence.actual[width..2 * width].fill_with(|| stream.unit());
    let found = diagnose(&evidence);
    assert!(found.explanations.is_empty(), "{found}");
}

/// The last bit of one output can be had by flipping some low bit of a weight.
#[test]
fn a_last_bit_is_no_flipped_weight() {
    let world = World::new(&PLAIN, 23);
    for column in 0..96 {
        for up in [false, true] {
            let mut evidence = world.evidence("down", Some(1), 3);
            let value = &mut evidence.actual[column];
            *value = if up { value.next_up() } else { value.next_down() };
            let found = diagnose(&evidence);
            let is_memory = |label| label == Label::MemoryCorruption;
            assert!(!found.explanations.iter().any(|one| is_memory(one.label)), "{found}");
        }
    }
}

/// A shift by most of a row leaves most open, and a quarter that fits is not enough.
#[test]
fn a_cause_that_says_little_explains_nothing() {
    let world = World::new(&GROUPED, 24);
    let mut stream = Stream::new(2);
    // Of 512 elements.
    for (step, explained) in [(509, false), (265, false), (40, true)] {
        let mut evidence = world.evidence("gate", Some(0), 3);
        let expected = evidence.expected.clone();
        for (index, value) in evidence.actual.iter_mut().enumerate() {
            *value = expected.get(index + step).copied().unwrap_or_else(|| stream.unit());
        }
        let found = diagnose(&evidence);
        assert_eq!(found.first().is_some(), explained, "{step}: {found}");
        if let Some(first) = found.first() {
            assert_eq!((first.label, first.certainty), (Label::Shifted, Certainty::ExactInside));
        }
    }
}

/// Eight bits of activations leave bounds as wide as the values: they prove nothing.
#[test]
fn a_wide_bound_explains_nothing() {
    let world = World::new(&GROUPED, 25);
    let weight = harness::diagnose::Library::weight(&world.shelf, "blk.1.attn_q.weight").unwrap();
    let x = world.rows("attn_norm", Some(1), 0..40);
    let mut stream = Stream::new(3);
    let mut certainty = Vec::new();
    for activations in [Activations::I8, Activations::I24] {
        let expected = ops::product(Level::best(true), activations, weight.matrix(), &x);
        let noise = match activations {
            Activations::I8 => 1e-4,
            _ => f32::EPSILON,
        };
        let actual = expected.iter().map(|value| value * (1.0 + noise * stream.unit())).collect();
        let clean = world.evidence("q", Some(1), 0);
        let found = diagnose(&Evidence { activations, expected, actual, ..clean });
        assert_eq!(found.inputs_fit, Some(true));
        certainty.push(found.first().map(|first| first.certainty));
    }
    assert_eq!(certainty, [None, Some(Certainty::WithinBound)]);
}

/// One value a row is no factor of the row.
#[test]
fn a_factor_needs_values_to_prove_it() {
    let world = World::new(&GROUPED, 26);
    let mut evidence = world.evidence("down", Some(1), 0);
    let width = evidence.width;
    evidence.expected.fill(0.0);
    for row in 0..40 {
        evidence.expected[row * width + row] = 1.0 + row as f32;
    }
    evidence.actual = evidence.expected.iter().map(|value| value * (value + 0.37)).collect();
    let found = diagnose(&evidence);
    assert!(found.explanations.is_empty(), "{found}");
}
