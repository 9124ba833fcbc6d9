//! Faults inside residuals, gates, norms, rotary embedding and attention.

use std::ops::Range;

use harness::diagnose::{Evidence, Label};
use reference::exact::{Level, ops};
use reference::{KvType, WeightType};

use crate::Planted;
use crate::plain::Keys;
use crate::world::World;

pub(crate) fn planted(world: &World) -> Vec<Planted<'_>> {
    let mut found = Vec::new();
    for pass in [0, 1, 3] {
        residual(world, pass, &mut found);
        gate(world, pass, &mut found);
        norm(world, pass, &mut found);
        rotary(world, pass, &mut found);
        attention(world, pass, &mut found);
        cache(world, pass, &mut found);
        scaled(world, pass, &mut found);
        clamped(world, pass, &mut found);
    }
    found
}

fn zip(one: &[f32], two: &[f32], function: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    one.iter().zip(two).map(|(one, two)| function(*one, *two)).collect()
}

fn residual<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    let evidence = || world.evidence("attn_residual", Some(1), pass);
    let at = evidence().pass_positions;
    let x = world.rows("ffn_residual", Some(0), at.clone());
    let o = world.rows("wo", Some(1), at.clone());
    let other = world.rows("wo", Some(0), at.clone());
    let norm = world.rows("attn_norm", Some(1), at.clone());
    let mut plant = |name: &str, label, actual| {
        found.push(Planted::new(format!("{name}, pass {pass}"), evidence(), label, actual));
    };
    plant("no residual", Label::MissingTerm, o.clone());
    plant("no branch", Label::MissingTerm, x.clone());
    plant("branch twice", Label::DoubleTerm, zip(&x, &o, |x, o| x + o + o));
    plant("stream twice", Label::DoubleTerm, zip(&x, &o, |x, o| x + o + x));
    plant("branch subtracted", Label::Scaled, zip(&x, &o, |x, o| x - o));
    plant("branch of layer 0", Label::WrongLayer, zip(&x, &other, |x, o| x + o));
    plant("normed stream", Label::WrongInput, zip(&norm, &o, |x, o| x + o));
    if at.start > 0 {
        let before = world.rows("wo", Some(1), at.start - 1..at.end - 1);
        plant("branch of a position before", Label::Stale, zip(&x, &before, |x, o| x + o));
    }
    let evidence = || world.evidence("ffn_residual", Some(1), pass);
    let down = world.rows("down", Some(1), at);
    let name = format!("stream before attention, pass {pass}");
    let actual = zip(&x, &down, |x, o| x + o);
    found.push(Planted::new(name, evidence(), Label::WrongInput, actual));
}

fn gate<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    let evidence = || world.evidence("swiglu", Some(0), pass);
    let at = evidence().pass_positions;
    let gate = world.rows("gate", Some(0), at.clone());
    let up = world.rows("up", Some(0), at);
    let silu = |g: f32| g / (1.0 + ops::exp32(Level::portable(), &[-g])[0]);
    let mut plant = |name: &str, label, actual| {
        found.push(Planted::new(format!("{name}, pass {pass}"), evidence(), label, actual));
    };
    plant("no silu", Label::Activation, zip(&gate, &up, |g, u| g * u));
    plant("relu", Label::Activation, zip(&gate, &up, |g, u| if g > 0.0 { g * u } else { 0.0 * u }));
    plant("gate and up exchanged", Label::WrongInput, zip(&gate, &up, |g, u| silu(u) * g));
    plant("no up", Label::MissingTerm, gate.iter().map(|g| silu(*g)).collect());
}

fn norm<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    let evidence = || world.evidence("ffn_norm", Some(1), pass);
    let at = evidence().pass_positions;
    let x = world.rows("attn_residual", Some(1), at.clone());
    let name = "blk.1.ffn_norm.weight";
    let mut plant = |name: &str, label, actual| {
        found.push(Planted::new(format!("{name}, pass {pass}"), evidence(), label, actual));
    };
    for eps in [1e-6, 0.0, 1e-3, 1e-2] {
        let actual = world.norm(name, &x, eps);
        // Where the stream is large, an epsilon changes nothing.
        if actual.iter().zip(&evidence().expected).filter(|(one, two)| one != two).count() > 8 {
            plant(&format!("epsilon {eps}"), Label::WrongEpsilon, actual);
        }
    }
    let eps = world.config.eps;
    let ones = vec![1.0; world.config.hidden];
    plant("no weights", Label::MissingTerm, ops::rms_norm(Level::portable(), &x, &ones, eps));
    plant("the other norm", Label::WrongMatrix, world.norm("blk.1.attn_norm.weight", &x, eps));
    plant("the norm of layer 0", Label::WrongLayer, world.norm("blk.0.ffn_norm.weight", &x, eps));
    let branch = world.rows("wo", Some(1), at);
    plant("the norm of the branch", Label::WrongInput, world.norm(name, &branch, eps));
}

/// The rotation of CONTRACT.md, section 8, with the pairs and the angle of a fault.
fn rotate(
    world: &World,
    row: &[f32],
    position: f64,
    pair: impl Fn(usize) -> (usize, usize),
) -> Vec<f32> {
    let (size, dim) = (world.config.head_size, world.config.rope_dimensions);
    let mut out = row.to_vec();
    for (x, out) in row.chunks(size).zip(out.chunks_mut(size)) {
        for i in 0..dim / 2 {
            let frequency =
                libm::pow(f64::from(world.config.rope_base), -((2 * i) as f64) / dim as f64);
            let angle = position * frequency;
            let (c, s) = (libm::cos(angle) as f32, libm::sin(angle) as f32);
            let (a, b) = pair(i);
            out[a] = x[a].mul_add(c, -(x[b] * s));
            out[b] = x[a].mul_add(s, x[b] * c);
        }
    }
    out
}

fn rotary<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    let evidence = || world.evidence("q_rope", Some(1), pass);
    let at = evidence().pass_positions;
    let (start, count) = (at.start, at.len());
    let x = world.rows("q", Some(1), at);
    let width = evidence().width;
    let rows = |turn: &dyn Fn(&[f32], usize) -> Vec<f32>| -> Vec<f32> {
        x.chunks(width).enumerate().flat_map(|(row, x)| turn(x, row)).collect()
    };
    let adjacent = |i: usize| (2 * i, 2 * i + 1);
    let half = world.config.rope_dimensions / 2;
    let position = |row: usize| (start + row) as f64;
    let mut plant = |name: &str, label, actual| {
        found.push(Planted::new(format!("{name}, pass {pass}"), evidence(), label, actual));
    };
    let convention = Label::RotaryConvention;
    plant(
        "half-split",
        convention,
        rows(&|x, row| rotate(world, x, position(row), |i| (i, i + half))),
    );
    plant("backwards", convention, rows(&|x, row| rotate(world, x, -position(row), adjacent)));
    let one_late = rows(&|x, row| rotate(world, x, position(row) + 1.0, adjacent));
    plant("one position late", Label::RotaryPosition, one_late);
    if start > 0 {
        let restarted = rows(&|x, row| rotate(world, x, row as f64, adjacent));
        plant("positions from the pass", Label::RotaryPosition, restarted);
        let early = rows(&|x, row| rotate(world, x, position(row) - 1.0, adjacent));
        plant("one position early", Label::RotaryPosition, early);
    }
    if count > 1 {
        let all = rows(&|x, _| rotate(world, x, position(0) + 3.0, adjacent));
        plant("one position for all", Label::RotaryPosition, all);
    }
    let base = ops::Rope {
        head_size: world.config.head_size,
        dimensions: world.config.rope_dimensions,
        base: 500_000.0,
        factors: None,
    };
    plant("another base", convention, ops::rope(Level::portable(), base, &x, width, start));
    plant("not rotated", Label::RotaryPosition, x.clone());
}

/// The rows of attention with another choice of keys: positions and KV head of a query head.
fn attended(
    world: &World,
    evidence: &Evidence<'_>,
    [keys, values]: [&[f32]; 2],
    kv: KvType,
    choose: &dyn Fn(usize, usize) -> (usize, Range<usize>),
) -> Vec<f32> {
    let (heads, size) = (world.config.heads, world.config.head_size);
    let plain = Keys { kv, kv_heads: world.config.kv_heads, keys, values };
    let q = world.rows("q_rope", evidence.layer, evidence.pass_positions.clone());
    let head = |(index, query): (usize, &[f32])| {
        let position = evidence.first_position + index / heads;
        let (kv_head, positions) = choose(position, index % heads);
        plain.attend(query, kv_head, &positions.collect::<Vec<_>>())
    };
    q.chunks(size).enumerate().flat_map(head).collect()
}

fn attention<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    let evidence = || world.evidence("attn_out", Some(1), pass);
    let at = evidence().pass_positions;
    let rows = |tap, layer| world.rows(tap, Some(layer), 0..at.end);
    let (keys, values) = (rows("k_rope", 1), rows("v", 1));
    let own: [&[f32]; 2] = [&keys, &values];
    let kv = world.spec.kv;
    let group = world.config.heads / world.config.kv_heads;
    let right = |position: usize, head: usize| (head / group, 0..position + 1);
    let e = evidence();
    assert_eq!(attended(world, &e, own, kv, &right), e.expected, "plain attention is the contract");
    let mut plant = |name: &str, label, actual: Vec<f32>| {
        found.push(Planted::new(format!("{name}, pass {pass}"), evidence(), label, actual));
    };
    let keys_of = |range: &dyn Fn(usize) -> Range<usize>| {
        attended(world, &e, own, kv, &|position, head| (head / group, range(position)))
    };
    // A query at position 0 has no key before its own.
    plant("a key less", Label::OffByOneLength, keys_of(&|p| 0..p.max(1)));
    if at.len() > 1 {
        plant("no mask", Label::WrongMask, keys_of(&|_| 0..at.end));
    }
    if at.start > 0 {
        plant("this pass only", Label::MissingContext, keys_of(&|p| at.start..p + 1));
    }
    if at.start > 0 && at.len() > 1 {
        plant("not this pass", Label::MissingContext, keys_of(&|_| 0..at.start));
    }
    if at.start > 0 && at.len() == 1 {
        // Without its own key: the same as no key of the pass, and a key less.
        plant("not its own", Label::OffByOneLength, keys_of(&|_| 0..at.start));
    }
    if at.end > 65 && at.len() == 1 {
        plant("the last chunk only", Label::MissingContext, keys_of(&|p| p / 64 * 64..p + 1));
    }
    if group > 1 && world.config.kv_heads > 1 {
        let kv_heads = world.config.kv_heads;
        let wrong = attended(world, &e, own, kv, &|p, head| (head % kv_heads, 0..p + 1));
        plant("h % kv_heads", Label::HeadMapping, wrong);
    }
    let first = attended(world, &e, own, kv, &|p, _| (0, 0..p + 1));
    plant("KV head 0 for all", Label::HeadMapping, first);
}

fn cache<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    let evidence = || world.evidence("attn_out", Some(1), pass);
    let at = evidence().pass_positions;
    let rows = |tap, layer| world.rows(tap, Some(layer), 0..at.end);
    let (keys, values) = (rows("k_rope", 1), rows("v", 1));
    let kv = world.spec.kv;
    let group = world.config.heads / world.config.kv_heads;
    let right = |position: usize, head: usize| (head / group, 0..position + 1);
    let e = evidence();
    let mut plant = |name: &str, label, actual: Vec<f32>| {
        found.push(Planted::new(format!("{name}, pass {pass}"), evidence(), label, actual));
    };
    let (other_keys, other_values) = (rows("k_rope", 0), rows("v", 0));
    let other = attended(world, &e, [&other_keys, &other_values], kv, &right);
    plant("cache of layer 0", Label::WrongLayer, other);
    let only_values = attended(world, &e, [&keys, &other_values], kv, &right);
    plant("values of layer 0", Label::WrongLayer, only_values);
    plant(
        "keys and values exchanged",
        Label::WrongInput,
        attended(world, &e, [&values, &keys], kv, &right),
    );
    let unwritten = |rows: &[f32]| -> Vec<f32> {
        let mut rows = rows.to_vec();
        rows[at.start * keys.len() / at.end..].fill(0.0);
        rows
    };
    let zeros = attended(world, &e, [&unwritten(&keys), &unwritten(&values)], kv, &right);
    if at.start > 0 {
        plant("cache not written", Label::NotWritten, zeros);
    }
    let mut longer = [keys.clone(), values.clone()];
    longer.iter_mut().for_each(|rows| rows.resize(rows.len() + keys.len() / at.end, 0.0));
    let more =
        attended(world, &e, [&longer[0], &longer[1]], kv, &|p, head| (head / group, 0..p + 2));
    plant("a key more", Label::OffByOneLength, more);
    let raw = rows("k", 1);
    plant("keys not rotated", Label::WrongInput, attended(world, &e, [&raw, &values], kv, &right));
    let cut = |rows: &[f32]| -> Vec<f32> { rows.iter().map(|value| truncated(*value)).collect() };
    let narrow = attended(world, &e, [&cut(&keys), &cut(&values)], KvType::F32, &right);
    plant("f16 by truncation", Label::Rounding, narrow);
}

/// The f16 whose magnitude is not larger.
fn truncated(value: f32) -> f32 {
    let mut near = half::f16::from_f32(value);
    while near.to_f32().abs() > value.abs() {
        near = half::f16::from_bits(near.to_bits() - 1);
    }
    near.to_f32()
}

fn clamped<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    for (tap, layer) in [("swiglu", Some(0)), ("down", Some(1)), ("logits", None)] {
        let evidence = || world.evidence(tap, layer, pass);
        let expected = evidence().expected;
        let mut sorted = expected.clone();
        sorted.sort_by(f32::total_cmp);
        // Ten values are beyond each limit.
        let (low, high) = (sorted[10], sorted[sorted.len() - 11]);
        let mut plant = |name: &str, limit: &dyn Fn(f32) -> f32| {
            let actual = expected.iter().map(|value| limit(*value)).collect();
            let name = format!("{tap} {name}, pass {pass}");
            found.push(Planted::new(name, evidence(), Label::Clamped, actual));
        };
        plant("limited on both sides", &|value| value.clamp(low, high));
        plant("limited from above", &|value| value.min(high));
        plant("without what is negative", &|value| value.max(0.0));
    }
}

fn scaled<'w>(world: &'w World, pass: usize, found: &mut Vec<Planted<'w>>) {
    for tap in ["q", "k", "attn_out", "down"] {
        let evidence = || world.evidence(tap, Some(1), pass);
        let e = evidence();
        for factor in [2.0_f32, 0.176_776_7, -1.0, 1.1, 3.0] {
            let actual = e.expected.iter().map(|value| value * factor).collect();
            let name = format!("{tap} times {factor}, pass {pass}");
            found.push(Planted::new(name, evidence(), Label::Scaled, actual));
        }
        if tap != "down" {
            let size = world.config.head_size;
            let factor = |index: usize| 1.0 + (index % e.width / size) as f32 / 7.0;
            let scale = |(index, value): (usize, &f32)| value * factor(index);
            let actual = e.expected.iter().enumerate().map(scale).collect();
            let name = format!("{tap} scaled by heads, pass {pass}");
            found.push(Planted::new(name, evidence(), Label::Scaled, actual));
        }
        let narrow = |value: &f32| half::bf16::from_f32(*value).to_f32();
        let actual = e.expected.iter().map(narrow).collect();
        found.push(Planted::new(
            format!("{tap} in bf16, pass {pass}"),
            evidence(),
            Label::Rounding,
            actual,
        ));
    }
    assert!(WeightType::ALL.len() == 13, "a new type wants new faults");
}
