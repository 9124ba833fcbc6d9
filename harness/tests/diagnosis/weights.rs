//! Faults in reading weights: fields, types, places, other matrices, flipped bits.

use std::borrow::Cow;

use harness::diagnose::{Evidence, Label, Library, Weight};
use reference::exact::{Level, ops};
use reference::{Activations, WeightType};

use crate::Planted;
use crate::plain::{self, greta_q4_k, linear_q6_k};
use crate::world::World;

pub(crate) fn planted(world: &World) -> Vec<Planted<'_>> {
    let mut found = Vec::new();
    for pass in [0, 3] {
        for tap in ["q", "v", "down", "wo"] {
            let operands = Operands::of(world, tap, pass);
            fields(&operands, &mut found);
            places(&operands, &mut found);
            sums(&operands, &mut found);
            others(&operands, &mut found);
        }
        matrices(world, pass, &mut found);
    }
    embedding(world, &mut found);
    found
}

/// A product's tap with its weight and its input.
struct Operands<'w> {
    world: &'w World,
    tap: &'static str,
    pass: usize,
    weight: Weight<'w>,
    x: Vec<f32>,
}

impl<'w> Operands<'w> {
    fn of(world: &'w World, tap: &'static str, pass: usize) -> Self {
        let (name, input) = match tap {
            "q" => ("attn_q", "attn_norm"),
            "v" => ("attn_v", "attn_norm"),
            "wo" => ("attn_output", "attn_out"),
            _ => ("ffn_down", "swiglu"),
        };
        let weight = world.shelf.weight(&format!("blk.1.{name}.weight")).unwrap();
        let x = world.rows(input, Some(1), world.evidence(tap, Some(1), pass).pass_positions);
        Self { world, tap, pass, weight, x }
    }

    fn evidence(&self) -> Evidence<'w> {
        self.world.evidence(self.tap, Some(1), self.pass)
    }

    fn planted(&self, name: &str, label: Label, actual: Vec<f32>) -> Planted<'w> {
        let name = format!("{name}, {} {}, pass {}", self.weight.kind.name(), self.tap, self.pass);
        Planted::new(name, self.evidence(), label, actual)
    }
}

fn product(weight: &Weight<'_>, x: &[f32]) -> Vec<f32> {
    ops::product(Level::best(true), Activations::I24, weight.matrix(), x)
}

fn with_bytes(weight: &Weight<'_>, bytes: Vec<u8>) -> Weight<'static> {
    Weight { bytes: Cow::Owned(bytes), ..*weight }
}

fn fields<'w>(operands: &Operands<'w>, found: &mut Vec<Planted<'w>>) {
    let Operands { weight, x, .. } = operands;
    let (kind, columns) = (weight.kind, weight.columns);
    let mut plant = |name: &str, label, actual| found.push(operands.planted(name, label, actual));
    let read_by = |reader: fn(&[u8]) -> plain::Taken| -> Vec<f32> {
        let rows: Vec<_> =
            (0..weight.rows).map(|row| plain::taken(kind, weight.row(row), reader)).collect();
        x.chunks(columns).flat_map(|x| rows.iter().map(move |row| plain::product(row, x))).collect()
    };
    match kind {
        WeightType::Q4K => {
            plant("GRETA's reader", Label::Dequantisation, read_by(greta_q4_k));
            plant(
                "no minima",
                Label::Dequantisation,
                read_by(|block| plain::Taken { dmin: 0.0, ..right_q4_k(block) }),
            );
            assert_eq!(
                read_by(right_q4_k),
                operands.evidence().expected,
                "plain products are the contract"
            );
        }
        WeightType::Q6K => {
            plant("linear planes", Label::Dequantisation, read_by(linear_q6_k));
        }
        _ => {}
    }
    let size = kind.block_bytes();
    if matches!(kind, WeightType::Q4_1 | WeightType::Q5_1) {
        let mut bytes = weight.bytes.to_vec();
        bytes.chunks_mut(size).for_each(|block| block[2..4].fill(0));
        plant("no minimum", Label::Dequantisation, product(&with_bytes(weight, bytes), x));
    }
}

fn places<'w>(operands: &Operands<'w>, found: &mut Vec<Planted<'w>>) {
    let Operands { weight, x, .. } = operands;
    let (kind, columns) = (weight.kind, weight.columns);
    let mut plant = |name: &str, label, actual| found.push(operands.planted(name, label, actual));
    let size = kind.block_bytes();
    // The tensor as `[column][row]` of blocks, and a reader that takes it for that.
    let (rows, across) = (weight.rows, columns / kind.block_values());
    let places = || (0..rows).flat_map(|row| (0..across).map(move |column| (row, column)));
    let mut stored = vec![0; weight.bytes.len()];
    let mut read = Vec::new();
    for (row, column) in places() {
        let block = &weight.bytes[(row * across + column) * size..][..size];
        stored[(column * rows + row) * size..][..size].copy_from_slice(block);
        read.extend_from_slice(&weight.bytes[(column * rows + row) * size..][..size]);
    }
    if across > 1 {
        let stored = product(&with_bytes(weight, stored), x);
        plant("weights stored transposed", Label::Transposed, stored);
        let read = product(&with_bytes(weight, read), x);
        plant("weights read transposed", Label::Transposed, read);
    }
}

fn sums<'w>(operands: &Operands<'w>, found: &mut Vec<Planted<'w>>) {
    let Operands { weight, x, .. } = operands;
    let (kind, columns) = (weight.kind, weight.columns);
    let mut plant = |name: &str, label, actual| found.push(operands.planted(name, label, actual));
    let size = kind.block_bytes();
    // The last chunk of the sum is never added.
    let chunk = match kind.block_values() {
        1 => 64,
        32 => 256,
        _ => 1024,
    };
    let kept = (columns - 1) / chunk * chunk;
    if kept > 0 {
        let bytes: Vec<u8> = (0..weight.rows)
            .flat_map(|row| &weight.row(row)[..kept / kind.block_values() * size])
            .copied()
            .collect();
        let less = Weight { columns: kept, bytes: Cow::Owned(bytes), ..*weight };
        let x: Vec<f32> = x.chunks(columns).flat_map(|x| &x[..kept]).copied().collect();
        plant("no last chunk", Label::MissingTerm, product(&less, &x));
    }
    // A block of zeros adds nothing: the last but one of every row is never added.
    let across = columns / kind.block_values();
    if kind.block_values() > 1 && across > 1 {
        let mut bytes = weight.bytes.to_vec();
        for row in bytes.chunks_mut(across * size) {
            row[(across - 2) * size..][..size].fill(0);
        }
        plant("no last block but one", Label::MissingTerm, product(&with_bytes(weight, bytes), x));
    }
    let reversed: Vec<f32> = x.chunks(4).flat_map(|four| four.iter().rev()).copied().collect();
    plant("words of digits reversed", Label::ContractionIndex, product(weight, &reversed));
    let tokens = x.len() / columns;
    if kind.block_values() == 1 && tokens >= 16 {
        let tiled = |index: usize| {
            let (row, k) = (index / columns, index % columns);
            let (tile_row, tile_k) = (row / 16 * 16, k / 16 * 16);
            if tile_row + 16 > tokens || tile_k + 16 > columns {
                return x[index];
            }
            x[(tile_row + k % 16) * columns + tile_k + row % 16]
        };
        let tiled: Vec<f32> = (0..x.len()).map(tiled).collect();
        plant("operand tiles transposed", Label::ContractionIndex, product(weight, &tiled));
    }
}

fn others<'w>(operands: &Operands<'w>, found: &mut Vec<Planted<'w>>) {
    let Operands { weight, x, .. } = operands;
    let (kind, size) = (weight.kind, weight.kind.block_bytes());
    let mut plant = |name: &str, label, actual| found.push(operands.planted(name, label, actual));
    let other = match kind {
        WeightType::F16 => Some(WeightType::Bf16),
        WeightType::Bf16 => Some(WeightType::F16),
        WeightType::Q5_0 => Some(WeightType::Q4_0),
        WeightType::Q5K => Some(WeightType::Q4K),
        _ => None,
    };
    if let Some(other) = other {
        // The reader goes from row to row as the other type does, and stays inside the tensor.
        let mut wrong = Weight { kind: other, ..weight.clone() };
        let bytes = wrong.row_bytes() * wrong.rows;
        wrong.bytes = Cow::Owned(weight.bytes[..bytes].to_vec());
        let actual = product(&wrong, x);
        if actual.iter().filter(|value| value.is_finite()).count() > 2 {
            plant("as another type", Label::WeightType, actual);
        }
    }
    let exact = in_f64(weight, x);
    plant("summed in f64", Label::Rounding, exact);
    if kind.block_values() > 1 {
        let less = ops::product(Level::best(true), Activations::I8, weight.matrix(), x);
        plant("one digit", Label::Rounding, less);
    }
    // A bit of a row in the middle; a low one, so that nothing overflows.
    let at = weight.rows / 2 * weight.row_bytes() + size / 2;
    let mut bytes = weight.bytes.to_vec();
    bytes[at] ^= 4;
    let actual = product(&with_bytes(weight, bytes), x);
    if actual != operands.evidence().expected && operands.pass == 0 {
        plant("a bit of a weight", Label::MemoryCorruption, actual);
    }
}

/// The product summed in f64 and rounded once: right, in another rounding.
fn in_f64(weight: &Weight<'_>, x: &[f32]) -> Vec<f32> {
    let all: Vec<u32> = (0..weight.rows as u32).collect();
    let values = ops::embed(weight.matrix(), &all);
    let dot = |w: &[f32], x: &[f32]| -> f64 {
        w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
    };
    let rows = || values.chunks(weight.columns);
    x.chunks(weight.columns).flat_map(|x| rows().map(move |w| dot(w, x) as f32)).collect()
}

/// Q4_K as ggml means it, read here by six bits after the format's own description.
fn right_q4_k(block: &[u8]) -> plain::Taken {
    let packed = &block[4..16];
    let pair = |group: usize| -> (i32, i32) {
        if group < 4 {
            (i32::from(packed[group] & 63), i32::from(packed[group + 4] & 63))
        } else {
            let low = packed[group + 4];
            (
                i32::from(low & 15 | packed[group - 4] >> 6 << 4),
                i32::from(low >> 4 | packed[group] >> 6 << 4),
            )
        }
    };
    let value = |i: usize| block[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    plain::Taken {
        d: plain::half(block, 0),
        dmin: plain::half(block, 2),
        q: (0..256).map(|i| i32::from(value(i))).collect(),
        scales: (0..8).map(|group| pair(group).0).collect(),
        mins: (0..8).map(|group| pair(group).1).collect(),
    }
}

fn matrices<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    let mut plant = |tap, name: &str, label, matrix: &str, input: &str| {
        let evidence = world.evidence(tap, Some(1), pass);
        let x = world.rows(input, Some(1), evidence.pass_positions.clone());
        let actual = world.product(&format!("blk.{matrix}.weight"), &x);
        found.push(Planted::new(format!("{name}, pass {pass}"), evidence, label, actual));
    };
    plant("up", "gate for up", Label::WrongMatrix, "1.ffn_gate", "ffn_norm");
    plant("k", "v for k", Label::WrongMatrix, "1.attn_v", "attn_norm");
    plant("gate", "gate of layer 0", Label::WrongLayer, "0.ffn_gate", "ffn_norm");
    plant("wo", "q for the output", Label::WrongMatrix, "1.attn_q", "attn_out");
    plant("q", "the branch for the norm", Label::WrongInput, "1.attn_q", "wo");
}

fn embedding<'w>(world: &'w World, found: &mut Vec<Planted<'w>>) {
    let evidence = || world.evidence("embed", None, 1);
    let table = world.shelf.weight("token_embd.weight").unwrap();
    let tokens = &world.tokens[40..70];
    let all: Vec<u32> = (0..table.rows as u32).collect();
    let values = ops::embed(table.matrix(), &all);
    let (rows, columns) = (table.rows, table.columns);
    let mut plant = |name: &str, label, actual| {
        found.push(Planted::new(name.to_owned(), evidence(), label, actual));
    };
    let read = |index: &dyn Fn(usize, usize) -> usize| -> Vec<f32> {
        let places = tokens.iter().flat_map(|token| (0..columns).map(move |d| (*token, d)));
        places.map(|(token, d)| values[index(token as usize, d)]).collect()
    };
    plant("[dim][vocab]", Label::Transposed, read(&|token, d| d * rows + token));
    plant("the next token", Label::WrongRow, read(&|token, d| (token + 1) % rows * columns + d));
    plant("token 0", Label::WrongRow, read(&|_, d| d));
    // Values of two bytes each, with rows as far apart as the file has them.
    let as_half = |token: &u32| -> Option<Vec<f32>> {
        let start = *token as usize * table.row_bytes();
        let bytes = table.bytes.get(start..start + 2 * columns)?;
        Some(bytes.chunks(2).map(|pair| plain::half(pair, 0)).collect())
    };
    if table.kind != WeightType::F16 {
        let nothing = || vec![1.0; columns];
        let actual = tokens.iter().flat_map(|token| as_half(token).unwrap_or_else(nothing));
        plant("blocks as f16", Label::WeightType, actual.collect());
    }
    let own = tokens[3] as usize;
    let mut bytes = table.bytes.to_vec();
    bytes[own * table.row_bytes() + 1] ^= 1;
    let actual = ops::embed(with_bytes(&table, bytes).matrix(), tokens);
    // A bit of a float is the same bit of what is read from it.
    if table.kind.block_values() > 1 && actual != evidence().expected {
        plant("a bit of the embedding", Label::MemoryCorruption, actual);
    }
}
