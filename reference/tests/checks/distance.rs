//! The distance of `exact` and of `stock` from `wide`, step by step.

use std::path::Path;

use reference::{Mode, Options, Readout, Reference, Silent};

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

pub(crate) fn check(what: &str, path: &Path, prompt: &[u32], more: &[u32]) {
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
