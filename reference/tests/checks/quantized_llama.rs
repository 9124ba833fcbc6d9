//! The stock mode against candle-transformers' `quantized_llama`, logit by logit.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use reference::{Mode, Options, Reference, Row, Silent};

/// candle reads it when a quantised product is built.
const DEQUANTISE: &str = "CANDLE_DEQUANTIZE_ALL";

/// Runs the named test of this binary again with the variable set, where it is not yet.
///
/// Setting it in this process would be a race with the threads of the other tests.
pub(crate) fn in_child(test: &str, body: impl FnOnce()) {
    if std::env::var_os(DEQUANTISE).is_some() {
        return body();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads", "1"])
        .env(DEQUANTISE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{text}\n{}", String::from_utf8_lossy(&child.stderr));
    assert!(text.contains("1 passed"), "the child ran another test:\n{text}");
}

/// Compares the logits after a prompt, after more tokens at once, and after every further token.
pub(crate) fn check(path: &Path, prompt: &[u32], decode: &[u32]) {
    let mut file = File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut theirs = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let options = Options { mode: Mode::Stock, threads: 2, ..Options::default() };
    let mut ours = Reference::load(path, &options).unwrap();
    let (first, second) = prompt.split_at(prompt.len() / 2);
    for tokens in [first, second].into_iter().chain(decode.chunks(1)) {
        let position = ours.position();
        let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected = theirs.forward(&input, position).unwrap();
        let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
        let Row::F32(actual) = ours.forward(tokens, &mut Silent).unwrap().logits else {
            panic!("the stock mode is in f32");
        };
        assert_eq!(expected.len(), actual.len());
        for (index, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
            let bits = (expected.to_bits(), actual.to_bits());
            assert_eq!(bits.0, bits.1, "position {position} logit {index}: {expected} {actual}");
        }
    }
}
