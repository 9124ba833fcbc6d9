//! A model whose every value spells its address, through the whole forward pass, in every type.
//!
//! Each token has a code of 32 ones in 64 places and, beside it, the code of an earlier token, its
//! target. Matrices only pick channels: queries the target's code, keys and values a token's own,
//! so that attention copies exactly one position. What every tap holds then follows from addresses
//! alone, without a product or a softmax, and a row that is wrong names the row it equals.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::fs::File;

use candle_core::Device;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use fixtures::Mix;
use fixtures::integers::zeros_and_ones;
use fixtures::values::Stream;
use harness::model::Model;
use harness::sides::engine::EngineSide;
use harness::sides::reference::ReferenceSide;
use harness::sides::{Side, Tap, TapLevel, Values, Watcher};

const HIDDEN: usize = 256;
const HEAD: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const FEED_FORWARD: usize = 512;
const VOCABULARY: usize = 300;
const LAYERS: usize = 2;
const POSITIONS: usize = 72;

/// Norm weights of the channels of own code, target's code, and the rest: the first two make the
/// right score stand so far above the others that their weights vanish.
const ATTN_NORM: [[f32; 3]; LAYERS] = [[8.0, 4.0, 0.0], [64.0, 64.0, 0.0]];
const FFN_NORM: [f32; 3] = [16.0, 16.0, 1.0];

/// The token at a position; each stands once.
fn token(position: usize) -> usize {
    1 + position * 131 % (VOCABULARY - 1)
}

/// The position that a position's query looks for.
fn target(position: usize) -> usize {
    (position * 5 + 3) % (position + 1)
}

/// 32 ones in 64 places.
fn code(token: usize) -> [u8; HEAD] {
    let mut places: Vec<usize> = (0..HEAD).collect();
    let mut stream = Stream::new(token as u64);
    for last in (1..HEAD).rev() {
        places.swap(last, stream.below(last + 1));
    }
    let mut code = [0; HEAD];
    places[..HEAD / 2].iter().for_each(|place| code[*place] = 1);
    code
}

/// Which channel of a code a key-value head has at a place, for keys (0) or values (1).
fn picked(layer: usize, kv_head: usize, what: usize, place: usize) -> usize {
    // Odd steps reach every place of 64.
    (place * (2 * (4 * layer + 2 * kv_head + what) + 3) + layer) % HEAD
}

/// Which channels gate and up read.
fn gate_channel(layer: usize, place: usize) -> usize {
    (place * 3 + layer) % HIDDEN
}

fn up_channel(layer: usize, place: usize) -> usize {
    (place * 7 + 5 * layer + 1) % HIDDEN
}

/// Which head the third and the fourth quarter of the stream take from attention.
const ANSWERS: [usize; 2] = [0, 3];

/// A matrix of zeros and ones by the column that each row picks.
fn matrix(rows: usize, width: usize, pick: impl Fn(usize) -> Option<usize>) -> (usize, Vec<u8>) {
    let mut values = vec![0; rows * width];
    for (row, values) in values.chunks_mut(width).enumerate() {
        if let Some(column) = pick(row) {
            values[column] = 1;
        }
    }
    (width, values)
}

fn matrices() -> Vec<(String, (usize, Vec<u8>))> {
    let mut table = vec![0; VOCABULARY * HIDDEN];
    for position in 0..POSITIONS {
        let row = &mut table[token(position) * HIDDEN..][..HIDDEN];
        row[..HEAD].copy_from_slice(&code(token(position)));
        row[HEAD..2 * HEAD].copy_from_slice(&code(token(target(position))));
    }
    let mut all = vec![
        ("token_embd".to_owned(), (HIDDEN, table)),
        ("output".to_owned(), matrix(VOCABULARY, HIDDEN, |row| Some(row % HIDDEN))),
    ];
    for layer in 0..LAYERS {
        let own = |what| move |row: usize| Some(picked(layer, row / HEAD, what, row % HEAD));
        let group = HEADS / KV_HEADS;
        let query = |row: usize| Some(HEAD + picked(layer, row / HEAD / group, 0, row % HEAD));
        let answer = |row: usize| {
            let quarter = (row / HEAD).checked_sub(2)?;
            Some(ANSWERS[quarter] * HEAD + row % HEAD)
        };
        let down = |row: usize| (layer + 1 == LAYERS).then_some(row * 2);
        let inside = [
            ("attn_q", matrix(HEADS * HEAD, HIDDEN, query)),
            ("attn_k", matrix(KV_HEADS * HEAD, HIDDEN, own(0))),
            ("attn_v", matrix(KV_HEADS * HEAD, HIDDEN, own(1))),
            ("attn_output", matrix(HIDDEN, HEADS * HEAD, answer)),
            ("ffn_gate", matrix(FEED_FORWARD, HIDDEN, |row| Some(gate_channel(layer, row)))),
            ("ffn_up", matrix(FEED_FORWARD, HIDDEN, |row| Some(up_channel(layer, row)))),
            ("ffn_down", matrix(HIDDEN, FEED_FORWARD, down)),
        ];
        all.extend(inside.map(|(stem, matrix)| (format!("blk.{layer}.{stem}"), matrix)));
    }
    all
}

fn norm_weight(weights: [f32; 3], channel: usize) -> f32 {
    weights[(channel / HEAD).min(2)]
}

fn write(kind: GgmlDType, path: &std::path::Path) {
    let tensor = |kind, bytes: &[u8], dims| qtensor_from_ggml(kind, bytes, dims, &Device::Cpu);
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    for (name, (width, values)) in matrices() {
        let dims = vec![values.len() / width, width];
        let bytes = zeros_and_ones(kind, &values);
        tensors.push((format!("{name}.weight"), tensor(kind, &bytes, dims).unwrap()));
    }
    let mut vector = |name: String, values: Vec<f32>| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = tensor(GgmlDType::F32, &bytes, vec![values.len()]).unwrap();
        tensors.push((name, tensor));
    };
    let norm = |weights: [f32; 3]| (0..HIDDEN).map(|i| norm_weight(weights, i)).collect();
    for (layer, weights) in ATTN_NORM.into_iter().enumerate() {
        vector(format!("blk.{layer}.attn_norm.weight"), norm(weights));
        vector(format!("blk.{layer}.ffn_norm.weight"), norm(FFN_NORM));
    }
    vector("output_norm.weight".to_owned(), norm([1.0; 3]));
    // Frequencies so low that no position is rotated by as much as a bit.
    vector("rope_freqs.weight".to_owned(), vec![1e30; HEAD / 2]);
    let size = |value: usize| Value::U32(value as u32);
    let metadata = [
        ("general.architecture", Value::String("llama".to_owned())),
        ("general.alignment", Value::U32(32)),
        ("llama.block_count", size(LAYERS)),
        ("llama.context_length", size(POSITIONS)),
        ("llama.embedding_length", size(HIDDEN)),
        ("llama.feed_forward_length", size(FEED_FORWARD)),
        ("llama.attention.head_count", size(HEADS)),
        ("llama.attention.head_count_kv", size(KV_HEADS)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-30)),
        ("llama.rope.dimension_count", size(HEAD)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.vocab_size", size(VOCABULARY)),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

/// A row of a tap.
type Rows = Vec<(String, Option<usize>, Vec<f64>)>;

/// What every tap of a position holds, from addresses.
fn spelled(position: usize) -> Rows {
    let mut rows: Rows = Vec::new();
    let (own, other) = (code(token(position)), code(token(target(position))));
    let mut stream = vec![0.0; HIDDEN];
    for place in 0..HEAD {
        stream[place] = f64::from(own[place]);
        stream[HEAD + place] = f64::from(other[place]);
    }
    rows.push(("embed".to_owned(), None, stream.clone()));
    for layer in 0..LAYERS {
        let mut add = |tap: &str, row: Vec<f64>| rows.push((tap.to_owned(), Some(layer), row));
        let group = HEADS / KV_HEADS;
        let norm = normed(&stream, ATTN_NORM[layer]);
        // What a one of the first and of the second quarter is after the norm, at any position.
        let [own_one, other_one] =
            [0, HEAD].map(|from| norm[from..][..HEAD].iter().copied().fold(0.0, f64::max));
        let bit = |bit: u8, one: f64| f64::from(bit) * one;
        let key = |kv_head, place| picked(layer, kv_head, 0, place);
        let q: Vec<f64> = (0..HEADS * HEAD)
            .map(|row| bit(other[key(row / HEAD / group, row % HEAD)], other_one))
            .collect();
        let of_kv = |what| -> Vec<f64> {
            let at = |row| own[picked(layer, row / HEAD, what, row % HEAD)];
            (0..KV_HEADS * HEAD).map(|row| bit(at(row), own_one)).collect()
        };
        // Every stream has the same norm, so a one is the same number at the target's position.
        let out: Vec<f64> = (0..HEADS * HEAD)
            .map(|row| bit(other[picked(layer, row / HEAD / group, 1, row % HEAD)], own_one))
            .collect();
        let mut wo = vec![0.0; HIDDEN];
        for (quarter, head) in ANSWERS.into_iter().enumerate() {
            wo[(2 + quarter) * HEAD..][..HEAD].copy_from_slice(&out[head * HEAD..][..HEAD]);
        }
        stream.iter_mut().zip(&wo).for_each(|(stream, wo)| *stream += wo);
        add("attn_norm", norm);
        for (tap, row) in [("q", q.clone()), ("k", of_kv(0)), ("v", of_kv(1))] {
            add(tap, row);
        }
        for (tap, row) in [("q_rope", q), ("k_rope", of_kv(0)), ("attn_out", out), ("wo", wo)] {
            add(tap, row);
        }
        add("attn_residual", stream.clone());
        let norm = normed(&stream, FFN_NORM);
        let read = |channel: fn(usize, usize) -> usize| -> Vec<f64> {
            (0..FEED_FORWARD).map(|row| norm[channel(layer, row)]).collect()
        };
        let (gate, up) = (read(gate_channel), read(up_channel));
        let gated: Vec<f64> =
            gate.iter().zip(&up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
        let down: Vec<f64> =
            (0..HIDDEN).map(|row| if layer + 1 == LAYERS { gated[row * 2] } else { 0.0 }).collect();
        stream.iter_mut().zip(&down).for_each(|(stream, down)| *stream += down);
        for (tap, row) in
            [("ffn_norm", norm), ("gate", gate), ("up", up), ("swiglu", gated), ("down", down)]
        {
            add(tap, row);
        }
        add("ffn_residual", stream.clone());
    }
    let norm = normed(&stream, [1.0; 3]);
    let logits = (0..VOCABULARY).map(|row| norm[row % HIDDEN]).collect();
    rows.push(("final_norm".to_owned(), None, norm));
    rows.push(("logits".to_owned(), None, logits));
    rows
}

fn normed(stream: &[f64], weights: [f32; 3]) -> Vec<f64> {
    let mean = stream.iter().map(|value| value * value).sum::<f64>() / HIDDEN as f64;
    let weight = |channel| f64::from(norm_weight(weights, channel));
    stream.iter().enumerate().map(|(i, value)| value / mean.sqrt() * weight(i)).collect()
}

/// Collects the rows of every tap, position by position.
#[derive(Default)]
struct Collector(Vec<(String, Option<usize>, usize, Vec<f64>)>);

impl Watcher for Collector {
    fn level(&self) -> TapLevel {
        TapLevel::Op
    }

    fn tap(&mut self, tap: Tap<'_>) {
        let Values::F32(values) = tap.values else { panic!("both sides are in f32") };
        for (row, values) in values.chunks(tap.width).enumerate() {
            let values = values.iter().map(|value| f64::from(*value)).collect();
            self.0.push((tap.name.to_owned(), tap.layer, tap.first_position + row, values));
        }
    }
}

/// What a value is nearest to among everything that the tap can hold.
fn nearest(levels: &[f64], value: f64) -> usize {
    let distance = |level: &f64| (level - value).abs();
    let closest = levels.iter().enumerate().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    closest.unwrap().0
}

fn levels(rows: &[Vec<f64>]) -> Vec<f64> {
    let mut levels: Vec<f64> = rows.concat();
    levels.sort_by(f64::total_cmp);
    // Two roundings of one number are one level.
    levels.dedup_by(|a, b| (*a as f32).to_bits() >> 8 == (*b as f32).to_bits() >> 8);
    levels
}

fn check(name: &str, collected: &Collector) -> usize {
    let expected: Vec<Rows> = (0..POSITIONS).map(spelled).collect();
    let mut rows_count = 0;
    for (tap, layer, position, row) in &collected.0 {
        let of = |rows: &Rows| {
            let found = rows.iter().find(|(name, of_layer, _)| name == tap && of_layer == layer);
            found.unwrap_or_else(|| panic!("{name}: tap {tap} of {layer:?} is unknown")).2.clone()
        };
        let all: Vec<Vec<f64>> = expected.iter().map(of).collect();
        let levels = levels(&all);
        let word = |row: &[f64]| row.iter().map(|v| nearest(&levels, *v)).collect::<Vec<_>>();
        let (actual, due) = (word(row), word(&all[*position]));
        rows_count += 1;
        if actual == due {
            continue;
        }
        let column = (0..due.len()).find(|column| actual[*column] != due[*column]).unwrap();
        let source = all.iter().position(|row| word(row) == actual);
        panic!(
            "{name}: tap {tap} layer {layer:?} position {position}: column {column} has {}, {} is \
             due; the row is that of {}",
            row[column],
            all[*position][column],
            source.map_or_else(|| "no position".to_owned(), |p| format!("position {p}"))
        );
    }
    rows_count
}

/// Runs the prompt in pieces of 20, then the last ten tokens one by one.
fn collect(side: &mut dyn Side) -> Collector {
    let mut collector = Collector::default();
    let ids: Vec<u32> = (0..POSITIONS).map(|position| token(position) as u32).collect();
    let (prompt, decode) = ids.split_at(POSITIONS - 10);
    for ids in [prompt].into_iter().chain(decode.chunks(1)) {
        side.forward(ids, &mut collector).unwrap();
    }
    collector
}

fn sides(kind: GgmlDType) -> [Box<dyn Side>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spelling.gguf");
    write(kind, &path);
    let model = Model::resolve(path.to_str()).unwrap();
    let (context_tokens, ubatch, threads) = (POSITIONS, 20, 2);
    let options = engine::Options { context_tokens, ubatch, threads, ..Default::default() };
    let engine = EngineSide::load(&model.file, &options).unwrap();
    let options = reference::Options { context_tokens, ubatch, threads, ..Default::default() };
    [Box::new(engine), Box::new(ReferenceSide::load(&path, &options).unwrap())]
}

#[test]
fn every_tap_of_every_type_spells_its_address() {
    for mix in Mix::EVERY {
        let Mix::All(kind) = mix else { continue };
        for mut side in sides(kind) {
            let name = format!("{} {kind:?}", side.identity().implementation);
            let rows_count = check(&name, &collect(&mut *side));
            // Fifteen taps a layer and the embedding at every position; the readout once a call.
            assert_eq!(rows_count, POSITIONS * (LAYERS * 15 + 1) + 2 * 11, "{name}");
        }
    }
}

#[test]
fn codes_are_apart_and_targets_vary() {
    let codes: Vec<_> = (0..POSITIONS).map(|position| code(token(position))).collect();
    for (one, a) in codes.iter().enumerate() {
        for b in &codes[..one] {
            let shared = a.iter().zip(b).filter(|(a, b)| **a == 1 && **b == 1).count();
            // 24 points of score below the right one in the second layer: e^-24 of its weight.
            assert!(shared <= HEAD / 2 - 4, "{shared}");
        }
    }
    let targets: std::collections::BTreeSet<usize> = (0..POSITIONS).map(target).collect();
    assert!(targets.len() > POSITIONS / 3, "{targets:?}");
}

#[test]
#[should_panic(expected = "tap v layer Some(1) position 9: column")]
fn a_row_from_another_position_is_named() {
    let [mut engine, _] = sides(GgmlDType::Q4K);
    let mut collected = collect(&mut *engine);
    let rows = &mut collected.0;
    let find = |rows: &Vec<(String, Option<usize>, usize, Vec<f64>)>, position| {
        let of = |row: &(String, Option<usize>, usize, Vec<f64>)| {
            row.0 == "v" && row.1 == Some(1) && row.2 == position
        };
        rows.iter().position(of).unwrap()
    };
    let (from, to) = (find(rows, 4), find(rows, 9));
    rows[to].3 = rows[from].3.clone();
    check("planted", &collected);
}
