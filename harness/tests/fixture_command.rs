//! What `lockstep fixture` writes and says, and what it leaves behind when it refuses.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::path::Path;

use support::{lockstep, settings, transcript};

/// Runs `lockstep fixture`, and compares what it says with the snapshot of this name.
fn says(name: &str, folder: &Path, arguments: &[&str]) {
    let output = lockstep(&[&["fixture"], arguments].concat());
    let words = transcript(&output).replace(folder.to_str().unwrap(), "[folder]");
    settings().bind(|| insta::assert_snapshot!(name, words));
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_line_says_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let (made, padded) = (folder.path().join("made.gguf"), folder.path().join("padded.gguf"));
    let (made, padded) = (made.to_str().unwrap(), padded.to_str().unwrap());
    says("fixture_tiny", folder.path(), &["tiny", "--out", made]);
    assert_eq!(std::fs::read(made).unwrap(), fixtures::TINY);
    #[rustfmt::skip]
    let every = [
        "mqa", "--seed", "7", "--layers", "1", "--hidden", "192", "--heads", "3", "--kv-heads", "3",
        "--head-size", "64", "--feed-forward", "320", "--vocabulary", "300", "--context-length",
        "99", "--mix", "Q5_0", "--type", "ffn_down=f16", "--tied", "--rope-base", "5000",
        "--epsilon", "1e-3", "--out", made,
    ];
    says("fixture_options", folder.path(), &every);
    says("fixture_from", folder.path(), &["--from", made, "--mix", "q3_k_m", "--out", padded]);
    let output = lockstep(&["run", "--model", padded, "--max-tokens", "2", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let output = lockstep(&["inspect", padded, "--tensors"]);
    let words = transcript(&output);
    settings().bind(|| insta::assert_snapshot!("inspect_fixture", words));
}

#[cfg(unix)]
#[test]
fn others_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (plain, made) = (folder.path().join("plain"), folder.path().join("made.gguf"));
    std::fs::write(&plain, "as any program writes it").unwrap();
    lockstep(&["fixture", "tiny", "--out", made.to_str().unwrap()]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&made), mode(&plain));
}

#[test]
fn bad_input_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let out = out.to_str().unwrap();
    for (name, arguments) in [
        ("preset", &["huge"][..]),
        ("mix", &["--mix", "q4_k_xl"]),
        ("type", &["--type", "attn_v=q9"]),
        ("type_form", &["--type", "attn_v"]),
        ("matrix", &["--type", "attn_x=q8_0"]),
        ("width", &["--hidden", "320"]),
        ("width_32", &["--mix", "q4_0", "--feed-forward", "500"]),
        ("kv_heads", &["--kv-heads", "3"]),
        ("head_size", &["--head-size", "33"]),
        ("vocabulary", &["--vocabulary", "256"]),
        ("zero", &["--layers", "0"]),
        ("rope_factors", &["--rope-factors", "1,2"]),
        ("epsilon", &["--epsilon", "nan"]),
        ("from", &["--from", "no-such-model.gguf"]),
        ("from_and_seed", &["--from", "tiny", "--seed", "2"]),
        ("from_and_preset", &["mqa", "--from", "tiny"]),
        ("tokeniser", &["--tokeniser", "no-such-model.gguf"]),
        ("tokeniser_and_size", &["--tokeniser", "tiny", "--vocabulary", "300"]),
    ] {
        let arguments = [arguments, &["--out", out]].concat();
        says(&format!("error_fixture_{name}"), folder.path(), &arguments);
        assert!(names(folder.path()).is_empty(), "{name}: {:?}", names(folder.path()));
    }
    says("error_fixture_out", folder.path(), &["tiny"]);
}

#[test]
fn a_file_that_cannot_be_written_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("out.gguf");
    says("error_fixture_folder", folder.path(), &["tiny", "--out", missing.to_str().unwrap()]);
    let path = folder.path().to_str().unwrap();
    says("error_fixture_is_a_folder", folder.path(), &["tiny", "--out", path]);
    let out = folder.path().join("kept.gguf");
    std::fs::write(&out, "kept").unwrap();
    let out = out.to_str().unwrap();
    says("error_fixture_no_gguf", folder.path(), &["--from", out, "--out", out]);
    says("error_fixture_no_tokeniser", folder.path(), &["--tokeniser", out, "--out", out]);
    assert_eq!(std::fs::read_to_string(out).unwrap(), "kept");
    assert_eq!(names(folder.path()), ["kept.gguf"]);
}

#[test]
fn files_without_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    let (path, out) = (source.to_str().unwrap(), folder.path().join("out.gguf"));
    let out = out.to_str().unwrap();
    for (option, name, from, to) in [
        ("--tokeniser", "no_tokens", "tokenizer.ggml.tokens", "tokenizer.ggml.tokenX"),
        ("--from", "tensor", "blk.3.ffn_up.weight", "blk.3.ffn_pu.weight"),
    ] {
        let mut bytes = fixtures::TINY.to_vec();
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&source, bytes).unwrap();
        says(&format!("error_fixture_{name}"), folder.path(), &[option, path, "--out", out]);
        assert_eq!(names(folder.path()), ["source.gguf"], "{name}");
    }
}
