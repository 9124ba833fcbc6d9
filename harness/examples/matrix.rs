//! The full matrix of engine against `exact` on a model: one line a case, the sum last.
//!
//! `cargo run --release -p harness --example matrix -- smollm2-135m-instruct`
#![expect(clippy::unwrap_used, reason = "a case that cannot run ends the matrix")]

#[path = "../tests/support/matrix.rs"]
mod matrix;

use std::io::{self, Write};
use std::process::ExitCode;

use harness::model::Model;
use matrix::{Case, PROMPTS_TOKENS, Sum, UBATCHES_TOKENS, answer};

/// Tokens decoded after each prompt.
const DECODE_TOKENS: usize = 64;

fn main() -> io::Result<ExitCode> {
    let mut output = io::stdout();
    let asked = std::env::args().nth(1);
    let model = match Model::resolve(asked.as_deref()) {
        Ok(model) => model,
        Err(error) => {
            writeln!(output, "error: {error}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let mut sum = Sum::default();
    for case in cases() {
        let line = sum.add(case, &answer(&model, case, None));
        writeln!(output, "{line}")?;
        output.flush()?;
    }
    writeln!(output, "{}: {}", model.name, sum.line())?;
    Ok(ExitCode::from(u8::from(sum.failed > 0)))
}

/// Every split with one and two threads; without vector instructions and with the chunkings of a
/// run once a prompt.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for prompt_tokens in PROMPTS_TOKENS {
        let case = Case::new(prompt_tokens, DECODE_TOKENS);
        for ubatch in UBATCHES_TOKENS {
            for threads in [1, 2] {
                cases.push(Case { ubatch, threads, ..case });
            }
        }
        cases.push(Case { prefill_decode: true, ..case });
        cases.push(Case { simd: false, ..case });
    }
    cases
}
