//! The corpora that fuzzing left: every input of them again, without a fuzzer.

mod gguf;

use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn gguf_inputs_are_refused_in_a_line_or_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hostile/corpus/gguf");
    let mut counts = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        *counts.entry(gguf::read(&bytes, true)).or_insert(0) += 1;
    }
    eprintln!("{counts:?}");
    let count = |came| counts.get(&came).copied().unwrap_or(0);
    assert!(count(gguf::Came::Refused) >= 50, "{counts:?}");
    assert!(count(gguf::Came::Read) >= 20, "{counts:?}");
    assert!(count(gguf::Came::Ran) >= 1, "{counts:?}");
}
