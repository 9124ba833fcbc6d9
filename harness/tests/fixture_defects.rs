//! Files that cannot be converted, and in which words each is refused.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use engine::gguf::File;
use fixtures::{GgmlDType, Mix, Recipe, Tokeniser};

/// The words with which the conversion of a file is refused.
fn refusal(bytes: &[u8], mix: Mix) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    fixtures::convert(file.path(), mix, &mut Vec::new()).unwrap_err().to_string()
}

/// The words with which the embedded model is refused when some of its bytes are others.
fn changed(from: &[u8], to: &[u8]) -> String {
    let mut bytes = fixtures::TINY.to_vec();
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    refusal(&bytes, Mix::Q4KM)
}

#[test]
fn no_file_and_no_gguf() {
    let words = "this is no GGUF file of version 2 or 3";
    assert_eq!(refusal(b"a letter to a friend, of some length", Mix::Q4KM), words);
    assert_eq!(refusal(b"", Mix::Q4KM), words);
    assert_eq!(changed(b"GGUF\x02", b"GGUF\x01"), words);
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.gguf");
    let error = fixtures::convert(&missing, Mix::Q4KM, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {}: ", missing.display())), "{error}");
}

#[test]
fn cut_off() {
    let tiny = fixtures::TINY;
    let words = "the file asks for 4096 bytes where 2233 remain";
    assert_eq!(refusal(&tiny[..3000], Mix::Q4KM), words);
    let words = "the file asks for 107520 bytes where 23968 remain";
    assert_eq!(refusal(&tiny[..1 << 20], Mix::Q4KM), words);
}

#[test]
fn damaged_headers() {
    for (from, to, words) in [
        (&b"general.name"[..], &b"general.nam\xff"[..], "a name in the header is no UTF-8"),
        (
            b"general.name\x08",
            b"general.name\x0d",
            "metadata `general.name` has a type that is not read here, number 13",
        ),
        (
            b"output_norm.weight\x01\0\0\0\0\x01\0\0\0\0\0\0\0",
            b"output_norm.weight\x01\0\0\0\0\x01\0\0\0\0\0\0\xc8",
            "tensor `output_norm.weight` has a type that is not read here, number 200",
        ),
        (
            b"output_norm.weight\x01\0\0\0\0\x01",
            b"output_norm.weight\x01\0\0\0\0\0",
            "tensor `output_norm.weight` has dimensions [0], which cannot be read here",
        ),
    ] {
        assert_eq!(changed(from, to), words);
    }
}

#[test]
fn numbers_that_no_llama_has() {
    for (from, to, words) in [
        (
            &b"\x05\0\0\0\0\0\0\0llama"[..],
            &b"\x05\0\0\0\0\0\0\0mamba"[..],
            "architecture `mamba` cannot be converted: only `llama` can",
        ),
        (
            b"head_count_kv\x04\0\0\0\x02",
            b"head_count_kv\x04\0\0\0\x03",
            "metadata `llama.attention.head_count_kv` is 3: a divisor of the heads is needed",
        ),
        (
            b"head_count\x04\0\0\0\x04",
            b"head_count\x04\0\0\0\0",
            "metadata `llama.attention.head_count` is 0: 1 to 16777215 can be converted",
        ),
        (
            b"value_length\x04\0\0\0\x40",
            b"value_length\x04\0\0\0\x20",
            "metadata `llama.attention.value_length` is 32: it must equal \
             llama.attention.key_length",
        ),
        (
            b"block_count\x04",
            b"block_counX\x04",
            "metadata `llama.block_count` is missing or is no uint32",
        ),
        (
            b"rms_epsilon\x06",
            b"rms_epsiloX\x06",
            "metadata `llama.attention.layer_norm_rms_epsilon` is missing or is no float32",
        ),
    ] {
        assert_eq!(changed(from, to), words);
    }
}

#[test]
fn tensors_that_no_llama_has() {
    for (from, to, words) in [
        (
            &b"blk.0.attn_q.weight"[..],
            &b"blk.0.attn_x.weight"[..],
            "tensor `blk.0.attn_x.weight` is not part of a llama model as it is converted here",
        ),
        (b"blk.0.attn_q.weight", b"blk.1.attn_q.weight", "tensor `blk.0.attn_q.weight` is missing"),
        (
            b"block_count\x04\0\0\0\x04\0",
            b"block_count\x04\0\0\0\x04\xff",
            "tensor `blk.39.attn_norm.weight` is missing",
        ),
        (
            b"embedding_length\x04\0\0\0\0\x01",
            b"embedding_length\x04\0\0\0\0\x02",
            "tensor `token_embd.weight` has dimensions [256, 512], the metadata asks for \
             [512, 512]",
        ),
    ] {
        assert_eq!(changed(from, to), words);
    }
}

#[test]
fn weights_that_are_not_finite_before_or_after() {
    let recipe = Recipe { mix: Mix::All(GgmlDType::Q8_0), ..Recipe::small() };
    let words = |tensor: &str, value: &[u8], mix| {
        let mut bytes = recipe.bytes().unwrap();
        let file = File::from_bytes(bytes.clone()).unwrap();
        let at = usize::try_from(file.tensor(tensor).unwrap().offset_bytes).unwrap();
        bytes[at..at + value.len()].copy_from_slice(value);
        refusal(&bytes, mix)
    };
    assert_eq!(
        words("output_norm.weight", &f32::NAN.to_le_bytes(), Mix::Q4KM),
        "tensor `output_norm.weight` has a weight that is not finite in f32"
    );
    // The largest f16 as the scale of a block: its weights are finite as f32 alone.
    let largest = [0xff, 0x7b];
    assert_eq!(
        words("blk.1.ffn_up.weight", &largest, Mix::All(GgmlDType::F16)),
        "tensor `blk.1.ffn_up.weight` has a weight that is not finite in f16"
    );
}

#[test]
fn no_damage_to_a_header_is_a_panic() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut refused = 0;
    let mut read = |bytes: &[u8]| {
        std::fs::write(file.path(), bytes).unwrap();
        refused += usize::from(Tokeniser::of_file(file.path()).is_err());
    };
    // The header of the embedded model has about 15,000 bytes.
    for at in (0..14_000).step_by(67) {
        read(&fixtures::TINY[..at]);
        for byte in [0, 9, 255] {
            let mut bytes = fixtures::TINY[..20_000].to_vec();
            bytes[at..at + 8].fill(byte);
            read(&bytes);
        }
    }
    assert!(refused > 400, "{refused}");
}
