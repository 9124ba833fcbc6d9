//! Faults that move right values or leave memory behind.

use harness::diagnose::{Evidence, Label, Repeats};

use crate::Planted;
use crate::world::World;

/// `actual[row][column]` from a function of the expected rows.
fn each(evidence: &Evidence<'_>, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let rows = evidence.expected.len() / evidence.width;
    (0..rows)
        .flat_map(|row| (0..evidence.width).map(move |column| (row, column)))
        .map(|(row, column)| value(row, column))
        .collect()
}

pub(crate) fn planted(world: &World) -> Vec<Planted<'_>> {
    let mut found = transposed(world);
    found.extend(moved(world));
    found.extend(readouts(world));
    found.extend(memory(world));
    found.extend(elsewhere(world));
    found
}

fn transposed(world: &World) -> Vec<Planted<'_>> {
    let mut found = Vec::new();
    let q = || world.evidence("q", Some(1), 0);
    let (rows, width) = (q().expected.len() / q().width, q().width);
    let e = q();
    let mut plant = |name: &str, actual| {
        found.push(Planted::new(name.to_owned(), q(), Label::Transposed, actual));
    };
    plant(
        "all of q transposed",
        each(&e, |r, c| e.expected[(r * width + c) % rows * width + (r * width + c) / rows]),
    );
    plant("all of q read transposed", each(&e, |r, c| e.expected[c * rows + r]));
    for side in [16_usize, 8, 32] {
        let tile = |r: usize, c: usize| {
            let (tr, tc) = (r / side * side, c / side * side);
            if tr + side <= rows && tc + side <= width {
                e.expected_row(tr + c - tc)[tc + r - tr]
            } else {
                e.expected_row(r)[c]
            }
        };
        plant(&format!("tiles of {side} of q transposed"), each(&e, tile));
    }
    let size = world.config.head_size;
    let heads = world.config.heads;
    let in_heads = |r: usize, c: usize| e.expected_row(r)[c % heads * size + c / heads];
    plant("heads of q transposed", each(&e, in_heads));
    let head_major = |r: usize, c: usize| {
        let flat = r * heads + c / size;
        e.expected_row(flat % rows)[flat / rows * size + c % size]
    };
    plant("heads before positions", each(&e, head_major));
    found
}

fn moved(world: &World) -> Vec<Planted<'_>> {
    let mut found = Vec::new();
    let wo = || world.evidence("wo", Some(0), 1);
    let e = wo();
    let (rows, width) = (e.expected.len() / e.width, e.width);
    let mut plant = |name: &str, evidence, label, actual| {
        found.push(Planted::new(name.to_owned(), evidence, label, actual));
    };
    plant("row 0 in every row", wo(), Label::WrongRow, each(&e, |_, c| e.expected_row(0)[c]));
    plant(
        "one row late",
        wo(),
        Label::WrongRow,
        each(&e, |r, c| e.expected_row((r + 1).min(rows - 1))[c]),
    );
    plant(
        "two rows exchanged",
        wo(),
        Label::WrongRow,
        each(&e, |r, c| {
            let from = match r {
                3 => 7,
                7 => 3,
                _ => r,
            };
            e.expected_row(from)[c]
        }),
    );
    plant(
        "shifted by 3",
        wo(),
        Label::Shifted,
        each(&e, |r, c| e.expected[(r * width + c).saturating_sub(3)]),
    );
    plant(
        "shifted by 5 around a row",
        wo(),
        Label::Shifted,
        each(&e, |r, c| e.expected_row(r)[(c + 5) % width]),
    );
    let decode = || world.evidence("gate", Some(0), 3);
    let d = decode();
    plant(
        "one row shifted by 8",
        decode(),
        Label::Shifted,
        each(&d, |_, c| d.expected.get(c + 8).copied().unwrap_or(0.5)),
    );
    let (size, kv_heads) = (world.config.head_size, world.config.kv_heads);
    let v = || world.evidence("v", Some(0), 0);
    let ev = v();
    plant(
        "KV heads reversed",
        v(),
        Label::HeadMapping,
        each(&ev, |r, c| ev.expected_row(r)[(kv_heads - 1 - c / size) * size + c % size]),
    );
    found
}

fn readouts(world: &World) -> Vec<Planted<'_>> {
    let mut found = Vec::new();
    let mut plant = |name: &str, evidence, label, actual| {
        found.push(Planted::new(name.to_owned(), evidence, label, actual));
    };
    for pass in [0, 1, 3] {
        let norm = || world.evidence("final_norm", None, pass);
        if norm().pass_positions.len() < 2 {
            continue;
        }
        let start = norm().pass_positions.start;
        for row in [0, norm().pass_positions.len() - 2] {
            let last = Some(world.config.layers - 1);
            let at = start + row;
            let stream = world.rows("ffn_residual", last, at..at + 1);
            let hidden = world.norm("output_norm.weight", &stream, world.config.eps);
            let output = if world.config.tied { "token_embd.weight" } else { "output.weight" };
            let logits = world.product(output, &hidden);
            plant(&format!("readout of row {row}"), norm(), Label::WrongRow, hidden);
            let evidence = world.evidence("logits", None, pass);
            plant(&format!("logits of row {row}"), evidence, Label::WrongRow, logits);
        }
    }
    found
}

fn memory(world: &World) -> Vec<Planted<'_>> {
    let mut found = Vec::new();
    for (tap, layer, pass) in [
        ("down", Some(1), 0),
        ("q_rope", Some(0), 2),
        ("attn_out", Some(1), 4),
        ("logits", None, 1),
    ] {
        let evidence = || world.evidence(tap, layer, pass);
        let mut plant = |name: &str, label, change: &dyn Fn(&mut Vec<f32>)| {
            let mut actual = evidence().expected.clone();
            change(&mut actual);
            found.push(Planted::new(format!("{name} in {tap}"), evidence(), label, actual));
        };
        let poison = f32::from_bits(u32::MAX);
        plant("nothing written", Label::NotWritten, &|rows| rows.fill(poison));
        plant("half written", Label::NotWritten, &|rows| {
            let half = rows.len() / 2;
            rows[half..].fill(poison);
        });
        plant("zeros", Label::NotWritten, &|rows| rows.fill(0.0));
        plant("one NaN", Label::NonFinite, &|rows| rows[7] = f32::NAN);
        plant("all NaN", Label::NonFinite, &|rows| rows.fill(f32::NAN));
        plant("one infinity", Label::NonFinite, &|rows| rows[9] = f32::NEG_INFINITY);
        for bit in [20, 22, 23, 29, 31] {
            plant("a bit flipped", Label::BitFlip, &|rows| {
                rows[11] = f32::from_bits(rows[11].to_bits() ^ 1 << bit);
            });
        }
        let mut uninitialised = evidence();
        uninitialised.alone_reproduces = Some(false);
        let actual = vec![poison; uninitialised.expected.len()];
        found.push(Planted::new("poison read".into(), uninitialised, Label::Uninitialised, actual));
        let mut canonical = evidence();
        canonical.alone_reproduces = Some(false);
        let mut actual = canonical.expected.clone();
        actual[3..9].fill(f32::NAN);
        found.push(Planted::new("NaN read".into(), canonical, Label::Uninitialised, actual));
        let mut race = evidence();
        race.repeats = Some(Repeats { runs: 8, answers: 3, elements_differing: 17 });
        let mut actual = race.expected.clone();
        actual[1] += 1.0;
        found.push(Planted::new("a race".into(), race, Label::Race, actual));
    }
    found
}

fn elsewhere(world: &World) -> Vec<Planted<'_>> {
    let mut found = Vec::new();
    for (tap, pass) in [("q", 0), ("up", 2), ("ffn_residual", 1), ("k_rope", 3)] {
        let evidence = || world.evidence(tap, Some(1), pass);
        let positions = evidence().first_position..evidence().pass_positions.end;
        let actual = world.rows(tap, Some(0), positions.clone());
        let name = format!("{tap} of layer 0");
        found.push(Planted::new(name, evidence(), Label::WrongLayer, actual));
        if positions.start > 0 {
            let count = positions.len();
            let actual = world.rows(tap, Some(1), positions.start - count..positions.start);
            let name = format!("{tap} of the pass before");
            found.push(Planted::new(name, evidence(), Label::Stale, actual));
        }
    }
    let logits = world.evidence("logits", None, 4);
    let actual = world.rows("logits", None, 70..71);
    found.push(Planted::new("logits of the first step".into(), logits, Label::Stale, actual));
    let down = world.evidence("down", Some(0), 1);
    let mut actual = down.expected.clone();
    let up = world.rows("up", Some(0), 40..70);
    actual[100..164].copy_from_slice(&up[17..81]);
    found.push(Planted::new("up over down".into(), down, Label::Overlap, actual));
    let keys = world.evidence("v", Some(1), 0);
    let mut actual = keys.expected.clone();
    let spilled = world.rows("v", Some(0), 0..40);
    let end = spilled.len();
    actual[..32].copy_from_slice(&spilled[end - 32..]);
    found.push(Planted::new("v spilled over".into(), keys, Label::Overlap, actual));
    found
}
