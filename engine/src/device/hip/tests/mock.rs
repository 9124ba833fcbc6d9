//! An imaginary ROCm: engine/mock, compiled with the host's build of the kernels for waves of 64.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names the scenario that a process of its own plays: a runtime is found once a process.
pub(super) const SCENARIO: &str = "LOCKSTEP_HIP_SCENARIO";

/// What every line that a scenario tells begins with.
const TOLD: &str = "told: ";

/// A line for the test that started the scenario.
pub(super) fn tell(line: impl std::fmt::Display) {
    eprintln!("{TOLD}{line}");
}

/// The folder with both libraries, made once; `None`, with the reason printed, where this machine
/// cannot.
fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        if super::objects::embedded().iter().any(|object| object.bytes.is_empty()) {
            skip("the engine was built without code objects");
            return None;
        }
        if !crate::device::host::usable(crate::options::HostBuild::Waves64) {
            skip("this CPU cannot run the host's build waves64");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let kernels = concat!(env!("OUT_DIR"), "/waves64/liblockstep_host_waves64.a");
        let whole = ["-Wl,--whole-archive", kernels, "-Wl,--no-whole-archive"];
        compile("runtime.cpp", &folder.path().join("libamdhip64.so"), &whole);
        compile("compiler.cpp", &folder.path().join("libhiprtc.so"), &[]);
        Some(folder)
    });
    folder.as_ref().map(tempfile::TempDir::path)
}

/// Says why nothing is tested; where it was asked for, that is a failure.
pub(super) fn skip(reason: &str) {
    let required = std::env::var("LOCKSTEP_REQUIRE_HIP").is_ok_and(|value| value == "1");
    assert!(!required, "LOCKSTEP_REQUIRE_HIP is set, and {reason}");
    eprintln!("SKIPPED tests of hip: {reason}");
}

fn compile(source: &str, target: &Path, more: &[&str]) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("mock").join(source);
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]);
    let output = command.arg("-o").arg(target).arg(source).args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Plays a scenario with an environment and gives the lines it told, and warnings of the engine.
/// `None` where the imaginary ROCm cannot be had.
pub(super) fn play(scenario: &str, environment: &[(&str, &str)]) -> Option<String> {
    let folder = folder()?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "device::hip::tests::scenario", "--nocapture"]);
    command.env(SCENARIO, scenario);
    command.env(super::api::LIBRARY_VARIABLE, folder.join("libamdhip64.so"));
    command.env("LOCKSTEP_LIBHIPRTC", folder.join("libhiprtc.so"));
    let compiler = env!("LOCKSTEP_GPU_COMMAND").split_whitespace().next().unwrap_or_default();
    command.env("LOCKSTEP_MOCK_COMPILER", compiler);
    command.envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{scenario} {environment:?}:\n{text}");
    let lines = text.lines().filter_map(|line| {
        line.strip_prefix(TOLD).or_else(|| line.starts_with("warning: ").then_some(line))
    });
    let told: Vec<&str> = lines.collect();
    assert!(!told.is_empty(), "{scenario} told nothing:\n{text}");
    Some(told.join("\n"))
}
