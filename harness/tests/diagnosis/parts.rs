//! Causes that hold in a part of a tensor: some rows, some heads; the others are right.

use harness::diagnose::{Certainty, Label, Library, diagnose};
use reference::exact::{Level, ops};

use crate::plain::Keys;
use crate::world::{GROUPED, World};

/// Rows beside each other may have a cause of their own; what is recomputed is, for them alone.
#[test]
fn a_few_rows_are_explained_alone() {
    let world = World::new(&GROUPED, 31);
    let mut evidence = world.evidence("q_rope", Some(1), 0);
    let width = evidence.width;
    let rope = ops::Rope {
        head_size: world.config.head_size,
        dimensions: world.config.rope_dimensions,
        base: world.config.rope_base,
        factors: None,
    };
    // Rows 16 to 39 are rotated as if the tile began the sequence.
    for row in 16..40 {
        let x = world.rows("q", Some(1), row..row + 1);
        let turned = ops::rope(Level::best(true), rope, &x, width, row - 16);
        evidence.actual[row * width..][..width].copy_from_slice(&turned);
    }
    let found = diagnose(&evidence);
    let first = found.first().unwrap();
    assert_eq!((first.label, first.certainty), (Label::RotaryPosition, Certainty::Exact));
    let words =
        "in rows 16 to 39 of 40, the others are equal: rotated by the angles of position -16";
    assert!(first.evidence.starts_with(words), "{found}");
    // Noise in one of them, or in a row of its own, and nothing is said.
    for row in [20, 3] {
        let mut spoiled = evidence.clone();
        spoiled.actual[row * width + 5] = 0.123;
        assert!(diagnose(&spoiled).explanations.is_empty());
    }
}

/// The last row without epsilon, and all rows with epsilon beside the root.
#[test]
fn an_epsilon_is_named_where_it_stands() {
    let world = World::new(&GROUPED, 32);
    let name = "blk.1.attn_norm.weight";
    let mut evidence = world.evidence("attn_norm", Some(1), 0);
    let width = evidence.width;
    let x = world.rows("ffn_residual", Some(0), 0..40);
    let last = world.norm(name, &x[39 * width..], 0.0);
    evidence.actual[39 * width..].copy_from_slice(&last);
    let found = diagnose(&evidence);
    let first = found.first().unwrap();
    assert_eq!((first.label, first.certainty), (Label::WrongEpsilon, Certainty::Exact));
    assert!(first.evidence.starts_with("in row 39 of 40, "), "{found}");
    let weight = ops::embed(world.shelf.weight(name).unwrap().matrix(), &[0]);
    evidence.actual = x
        .chunks_exact(width)
        .flat_map(|x| {
            let lanes =
                |lane: usize| x.iter().skip(lane).step_by(256).fold(0.0, |s, x| x.mul_add(*x, s));
            let mut sums: Vec<f32> = (0..256).map(lanes).collect();
            while sums.len() > 1 {
                let (low, high) = sums.split_at(sums.len() / 2);
                sums = low.iter().zip(high).map(|(one, two)| one + two).collect();
            }
            let scale = 1.0 / ((sums[0] / width as f32).sqrt() + world.config.eps);
            let scaled: Vec<f32> = x.iter().zip(&weight).map(|(x, w)| x * scale * w).collect();
            scaled
        })
        .collect();
    let found = diagnose(&evidence);
    assert_eq!(found.first().unwrap().label, Label::WrongEpsilon, "{found}");
    assert!(found.first().unwrap().evidence.contains("added to the root"), "{found}");
}

/// One head of one row that reads a key too few.
#[test]
fn a_head_that_reads_too_little_is_named() {
    let world = World::new(&GROUPED, 33);
    let mut evidence = world.evidence("attn_out", Some(1), 0);
    let (size, width) = (world.config.head_size, evidence.width);
    let part = 39 * width + 3 * size..39 * width + 4 * size;
    let rows = |tap| world.rows(tap, Some(1), 0..40);
    let (queries, keys, values) = (rows("q_rope"), rows("k_rope"), rows("v"));
    let cache =
        Keys { kv: world.spec.kv, kv_heads: world.config.kv_heads, keys: &keys, values: &values };
    let own = 3 / (world.config.heads / world.config.kv_heads);
    let short = cache.attend(&queries[part.clone()], own, &(0..39).collect::<Vec<_>>());
    evidence.actual[part.clone()].copy_from_slice(&short);
    let found = diagnose(&evidence);
    assert_eq!(found.first().unwrap().label, Label::OffByOneLength, "{found}");
    assert!(found.first().unwrap().evidence.ends_with("in 1 heads of rows, all that differ"));
    evidence.actual[part.start] += 1.0;
    assert!(diagnose(&evidence).explanations.is_empty());
}

/// Columns of another row of the same tensor are no neighbour in memory.
#[test]
fn a_part_of_a_row_may_be_another_rows() {
    let world = World::new(&GROUPED, 34);
    let mut evidence = world.evidence("q", Some(1), 0);
    let width = evidence.width;
    evidence.actual.copy_within(38 * width + 96..39 * width, 39 * width + 96);
    let found = diagnose(&evidence);
    let first = found.first().unwrap();
    assert_eq!((first.label, &*first.parameters["is_row"]), (Label::WrongRow, "38"), "{found}");
    assert!(!found.explanations.iter().any(|one| one.label == Label::Overlap), "{found}");
}

/// A row of the same pass is not what an earlier pass left.
#[test]
fn an_input_of_the_same_pass_is_not_stale() {
    let world = World::new(&GROUPED, 35);
    let rows = |tap, layer| world.rows(tap, Some(layer), 40..70);
    let (x, o) = (rows("ffn_residual", 0), rows("wo", 1));
    let width = world.config.hidden;
    for (row, from, label) in [(29, 4, Label::WrongRow), (29, 28, Label::WrongRow)] {
        let mut evidence = world.evidence("attn_residual", Some(1), 1);
        for column in 0..width {
            evidence.actual[row * width + column] =
                x[row * width + column] + o[from * width + column];
        }
        let found = diagnose(&evidence);
        assert_eq!(found.first().unwrap().label, label, "{found}");
    }
    let before = world.rows("wo", Some(1), 30..31);
    let mut evidence = world.evidence("attn_residual", Some(1), 1);
    for column in 0..width {
        evidence.actual[29 * width + column] = x[29 * width + column] + before[column];
    }
    let found = diagnose(&evidence);
    assert_eq!(found.first().unwrap().label, Label::Stale, "{found}");
}

/// A limit needs values on both of its sides, and all of those that are beyond.
#[test]
fn a_few_equal_values_are_no_limit() {
    let world = World::new(&GROUPED, 36);
    let evidence = world.evidence("down", Some(1), 3);
    let mut sorted = evidence.expected.clone();
    sorted.sort_by(f32::total_cmp);
    for (beyond, left_out) in [(7, false), (30, true)] {
        let limit = sorted[sorted.len() - 1 - beyond];
        let mut evidence = evidence.clone();
        let largest = sorted[sorted.len() - 1];
        evidence.actual.iter_mut().for_each(|value| {
            let is_kept = left_out && *value == largest;
            *value = if is_kept { *value } else { value.min(limit) };
        });
        let found = diagnose(&evidence);
        assert!(found.explanations.is_empty(), "{beyond}: {found}");
    }
}

/// Zeros for everything are no limits on both sides, however many the right answer has itself.
#[test]
fn zeros_for_all_values_are_no_limit() {
    let world = World::new(&GROUPED, 37);
    let mut evidence = world.evidence("down", Some(1), 3);
    evidence.expected[..8].fill(0.0);
    evidence.actual.fill(0.0);
    let found = diagnose(&evidence);
    let labels: Vec<Label> = found.explanations.iter().map(|one| one.label).collect();
    assert!(!labels.contains(&Label::Clamped), "{found}");
    assert_eq!(labels.first(), Some(&Label::NotWritten), "{found}");
}
