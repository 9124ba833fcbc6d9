//! Prints the median speed of each mode.
//!
//! `cargo run --release -p reference --example speed -- MODEL`

use std::path::PathBuf;
use std::time::Instant;

use reference::{Activations, Mode, Options, Reference, Silent};

const PROMPT_TOKENS: u32 = 128;
const DECODE_TOKENS: u32 = 64;

/// A mode, its activations, and how often each measurement is taken.
const RUNS: [(Mode, Activations, usize); 5] = [
    (Mode::Exact, Activations::I24, 5),
    (Mode::Exact, Activations::I16, 3),
    (Mode::Exact, Activations::I8, 3),
    (Mode::Stock, Activations::I24, 3),
    (Mode::Wide, Activations::I24, 1),
];

#[expect(clippy::print_stdout, reason = "an example that reports")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = PathBuf::from(arguments.first().ok_or("usage: speed MODEL [THREADS] [MODE]")?);
    let threads = arguments.get(1).map_or(Ok(2), |threads| threads.parse())?;
    let only = arguments.get(2);
    for (mode, activations, samples) in RUNS {
        if only.is_some_and(|only| only != mode.name()) {
            continue;
        }
        let options =
            Options { mode, activations, threads, context_tokens: 1024, ..Options::default() };
        let started = Instant::now();
        let mut reference = Reference::load(&path, &options)?;
        let load_seconds = started.elapsed().as_secs_f64();
        let prompt: Vec<u32> = (0..PROMPT_TOKENS).map(|index| 1000 + 7 * index).collect();
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            reference.reset();
            let started = Instant::now();
            reference.forward(&prompt, &mut Silent)?;
            prefill.push(f64::from(PROMPT_TOKENS) / started.elapsed().as_secs_f64());
            let tokens = if mode == Mode::Wide { DECODE_TOKENS / 8 } else { DECODE_TOKENS };
            let started = Instant::now();
            for token in 0..tokens {
                reference.forward(&[2000 + token], &mut Silent)?;
            }
            decode.push(f64::from(tokens) / started.elapsed().as_secs_f64());
        }
        let (prefill, decode) = (median(prefill), median(decode));
        println!(
            "{:<40} {threads} threads: load {load_seconds:.2} s, prefill {prefill:.1} tok/s, \
             decode {decode:.1} tok/s",
            reference.identity()
        );
    }
    Ok(())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
