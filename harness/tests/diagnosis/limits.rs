//! How far an explanation goes: what a hypothesis may not claim although much speaks for it.

use fixtures::values::Stream;
use harness::diagnose::{Certainty, Evidence, Label, diagnose};
use reference::Activations;
use reference::exact::{Level, ops};

use crate::world::{FLOATS, GROUPED, PLAIN, World};

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
    for (spec, tap) in [(PLAIN, "down"), (FLOATS, "q")] {
        let world = World::new(&spec, 23);
        for (column, up) in (0..world.config.hidden).flat_map(|c| [(c, false), (c, true)]) {
            let mut evidence = world.evidence(tap, Some(1), 3);
            let value = &mut evidence.actual[column];
            *value = if up { value.next_up() } else { value.next_down() };
            let found = diagnose(&evidence);
            let is_memory = |label| label == Label::MemoryCorruption;
            assert!(!found.explanations.iter().any(|one| is_memory(one.label)), "{found}");
        }
    }
}

/// Of two rows a tile of sixteen says one element in eight: too little, whatever it is.
#[test]
fn two_rows_are_no_tile_of_sixteen() {
    let world = World::new(&GROUPED, 27);
    let mut evidence = world.evidence("q", Some(1), 1);
    let width = evidence.width;
    evidence.pass_positions.end = evidence.first_position + 2;
    evidence.expected.truncate(2 * width);
    evidence.actual.truncate(2 * width);
    let mut stream = Stream::new(5);
    for (row, column) in (0..width).flat_map(|column| [(0, column), (1, column)]) {
        let (start, from) = (column / 16 * 16, column % 16);
        let value =
            if from < 2 { evidence.expected[from * width + start + row] } else { stream.unit() };
        evidence.actual[row * width + column] = value;
    }
    let found = diagnose(&evidence);
    assert!(found.explanations.is_empty(), "{found}");
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

/// What another rounding gives is no flipped bit, although it is one bit.
#[test]
fn a_last_bit_is_a_rounding_first() {
    let world = World::new(&GROUPED, 28);
    for (tap, bit) in [("swiglu", 0), ("attn_residual", 0), ("down", 0), ("down", 1)] {
        let mut evidence = world.evidence(tap, Some(1), 3);
        let value = &mut evidence.actual[5];
        *value = f32::from_bits(value.to_bits() ^ 1 << bit);
        let found = diagnose(&evidence);
        let first = found.first().unwrap();
        let wanted = (Label::Rounding, Certainty::WithinBound);
        assert_eq!((first.label, first.certainty), wanted, "{tap}, {bit}: {found}");
        assert!(
            first.evidence.ends_with(&format!(
                "if bit {bit} was flipped instead, nothing tells it from that"
            ))
        );
        assert!(!found.explanations.iter().any(|one| one.label == Label::BitFlip), "{found}");
    }
}

/// Zeros where denormals should be were written: the denormals are lost.
#[test]
fn zeros_for_denormals_were_written() {
    let world = World::new(&GROUPED, 29);
    let mut evidence = world.evidence("swiglu", Some(1), 0);
    for (index, value) in [(3, 1e-40), (70, -3e-41), (900, 1e-39), (901, f32::MIN_POSITIVE)] {
        (evidence.expected[index], evidence.actual[index]) = (value, 0.0);
    }
    // A normal number that became zero has another cause.
    assert_ne!(diagnose(&evidence).first().map(|first| first.label), Some(Label::Rounding));
    evidence.actual[901] = f32::MIN_POSITIVE;
    let found = diagnose(&evidence);
    assert_eq!(found.first().unwrap().label, Label::Rounding, "{found}");
    assert!(!found.explanations.iter().any(|one| one.label == Label::NotWritten), "{found}");
    // So has one denormal of several.
    evidence.actual[900] = 1e-39;
    let found = diagnose(&evidence);
    assert!(!found.explanations.iter().any(|one| one.label == Label::Rounding), "{found}");
    // A cache in f16 has denormals of its own.
    let keys = world.evidence("k_rope", Some(1), 0);
    let mut cache = Evidence { tap: "keys".into(), ..keys };
    for (index, value) in [(5, 3e-5), (8, -1e-6)] {
        (cache.expected[index], cache.actual[index]) = (value, 0.0);
    }
    let found = diagnose(&cache);
    assert_eq!(found.first().unwrap().label, Label::Rounding, "{found}");
}

/// What an operation leaves out in some elements is no neighbour that wrote over them.
#[test]
fn a_part_that_was_passed_on_is_no_overlap() {
    let world = World::new(&FLOATS, 30);
    let part = 200..232;
    for (tap, input, label) in [
        ("attn_residual", "wo", Label::MissingTerm),
        ("q_rope", "q", Label::RotaryConvention),
        ("swiglu", "up", Label::MissingTerm),
    ] {
        let mut evidence = world.evidence(tap, Some(1), 0);
        let rows = world.rows(input, Some(1), 0..40);
        evidence.actual[part.clone()].copy_from_slice(&rows[part.clone()]);
        let found = diagnose(&evidence);
        let first = found.first().unwrap();
        assert_eq!((first.label, first.certainty), (label, Certainty::Exact), "{found}");
        assert!(first.evidence.ends_with(" elements that differ"), "{found}");
        assert!(!found.explanations.iter().any(|one| one.label == Label::Overlap), "{found}");
        // Three elements may be a coincidence.
        evidence.actual = evidence.expected.clone();
        evidence.actual[200..203].copy_from_slice(&rows[200..203]);
        assert!(diagnose(&evidence).explanations.is_empty());
    }
    let mut evidence = world.evidence("down", Some(1), 0);
    for value in &mut evidence.actual[100..164] {
        *value = half::f16::from_f32(*value).to_f32();
    }
    let found = diagnose(&evidence);
    assert_eq!(found.first().unwrap().label, Label::Rounding, "{found}");
    // One value that is nothing of the kind refutes it.
    evidence.actual[300] += 1.0;
    assert!(diagnose(&evidence).explanations.is_empty());
}
