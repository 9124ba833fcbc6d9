//! `LOCKSTEP_SANITIZE=1`: the kernels for the host with clang's sanitizers, and the runtime that
//! rustc brings. ci/sanitizers.sh builds this way.
//!
//! Rust's own code is as ever: its memory comes from `malloc` and has guard zones, and its copies
//! are calls of `memcpy`, which the runtime checks.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The first report ends the process. Flags that come later win: with full optimisation the
/// compiler takes far longer. Stacks of fibers are no place for what outlives a function.
pub(crate) const FLAGS: [&str; 6] = [
    "-O1",
    "-gline-tables-only",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fsanitize-address-use-after-return=never",
    "-fno-sanitize-recover=all",
];

/// Whether they are asked for.
pub(crate) fn asked_for() -> bool {
    std::env::var("LOCKSTEP_SANITIZE").is_ok_and(|value| value == "1")
}

/// Tells the tests, and links the runtime into every program that has the engine.
pub(crate) fn link() {
    println!("cargo::rerun-if-env-changed=LOCKSTEP_SANITIZE");
    println!("cargo::rustc-env=LOCKSTEP_SANITIZED={}", u8::from(asked_for()));
    if !asked_for() {
        return;
    }
    let folder = libraries();
    let runtime = runtime(&folder).unwrap_or_else(|| {
        panic!("{} has no runtime of the sanitizers for this target", folder.display())
    });
    println!("cargo::rustc-link-search=native={}", folder.display());
    println!("cargo::rustc-link-lib=static:-bundle,+whole-archive={runtime}");
}

/// Where rustc keeps the libraries of this target.
fn libraries() -> PathBuf {
    let setting = |name: &str| std::env::var(name).expect("cargo sets RUSTC and TARGET");
    let output = Command::new(setting("RUSTC")).args(["--print", "sysroot"]).output();
    let root = output.expect("rustc can be started").stdout;
    let root = String::from_utf8(root).expect("a path in UTF-8");
    Path::new(root.trim()).join("lib/rustlib").join(setting("TARGET")).join("lib")
}

/// The library's name for the linker: `librustc-stable_rt.asan.a`, which has that of undefined
/// behaviour too.
fn runtime(folder: &Path) -> Option<String> {
    let names = std::fs::read_dir(folder).ok()?;
    names.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let name = name.strip_prefix("lib")?.strip_suffix(".a")?;
        name.ends_with("_rt.asan").then(|| name.to_owned())
    })
}
