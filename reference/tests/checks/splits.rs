//! The hashes of a prompt and of what follows, however the prompt is split.

use std::path::Path;

use reference::{Options, Readout, Reference, Row, Silent, row_hash};

pub(crate) fn hashes(readout: &Readout) -> [u64; 2] {
    [&readout.hidden, &readout.logits].map(|row| match row {
        Row::F32(values) => row_hash(values),
        Row::F64(_) => panic!("the exact mode is in f32"),
    })
}

/// The hashes after a prompt and after every token that follows.
pub(crate) fn run(path: &Path, options: &Options, prompt: &[u32], more: &[u32]) -> Vec<[u64; 2]> {
    let mut reference = Reference::load(path, options).unwrap();
    let mut steps = vec![hashes(&reference.forward(prompt, &mut Silent).unwrap())];
    for token in more {
        steps.push(hashes(&reference.forward(&[*token], &mut Silent).unwrap()));
    }
    steps
}

/// The same with the prompt token by token.
pub(crate) fn run_tokens(path: &Path, options: &Options, prompt: &[u32]) -> [u64; 2] {
    let mut reference = Reference::load(path, options).unwrap();
    let mut last = [0; 2];
    for token in prompt {
        last = hashes(&reference.forward(&[*token], &mut Silent).unwrap());
    }
    last
}
