//! How far `exact` and `stock` are from `wide`: three times at most.

use std::path::Path;

use reference::{Mode, Options, Readout, Reference, Silent, WeightType};

use crate::real_model;
use crate::tiny::{Random, Tiny};

/// The rule between a candidate, a baseline and f64.
const FACTOR: f64 = 3.0;

/// |a - b| / |b| in the Euclidean norm.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (difference / square(&mut b.iter().copied())).sqrt()
}

fn steps(path: &Path, mode: Mode, prompt: &[u32], more: &[u32]) -> Vec<Readout> {
    let options = Options { mode, threads: 2, context_tokens: 128, ..Options::default() };
    let mut reference = Reference::load(path, &options).unwrap();
    let calls = [prompt].into_iter().chain(more.chunks(1));
    calls.map(|tokens| reference.forward(tokens, &mut Silent).unwrap()).collect()
}

fn check(what: &str, path: &Path, prompt: &[u32], more: &[u32]) {
    let [exact, stock, wide] =
        [Mode::Exact, Mode::Stock, Mode::Wide].map(|mode| steps(path, mode, prompt, more));
    for ((exact, stock), wide) in exact.iter().zip(&stock).zip(&wide) {
        let position = wide.position;
        let rows = |readout: &Readout| [readout.hidden.to_f64(), readout.logits.to_f64()];
        let (exact, stock, wide) = (rows(exact), rows(stock), rows(wide));
        for (index, row) in ["hidden", "logits"].into_iter().enumerate() {
            let ours = distance(&exact[index], &wide[index]);
            let theirs = distance(&stock[index], &wide[index]);
            let largest = exact[index].iter().zip(&wide[index]).map(|(a, b)| (a - b).abs());
            let largest = largest.fold(0.0, f64::max);
            eprintln!(
                "{what} position {position} {row}: exact {ours:.2e}, stock {theirs:.2e}, \
                 largest difference of exact {largest:.2e}"
            );
            assert!(ours <= FACTOR * theirs, "{what} position {position} {row}: {ours} {theirs}");
            assert!(ours > 0.0, "exact and wide are not one computation");
        }
    }
}

#[test]
fn tiny_models_are_as_near_as_candle() {
    for kind in WeightType::ALL {
        let file = Tiny::new(kind).write();
        let mut random = Random(13);
        check(kind.name(), &file.0, &random.tokens(32), &random.tokens(4));
    }
}

#[test]
fn smollm2_is_as_near_as_candle() {
    let Some(path) = real_model::path("distance::smollm2_is_as_near_as_candle") else {
        return;
    };
    let tokens = real_model::tokens(40);
    check("smollm2", &path, &tokens[..32], &tokens[32..]);
}
