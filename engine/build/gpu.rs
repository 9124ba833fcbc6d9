//! The kernels for AMD GPUs: compiled ahead of time where a clang that can is at hand, and their
//! sources as data for the compilers of the runtimes.

use super::faults::Planted;
use super::kept::Kept;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

/// What code objects are made for; other AMD GPUs with waves of 64 lanes are served by hiprtc.
const ARCHITECTURES: [&str; 2] = ["gfx942", "gfx90a"];

/// No header, library or path of ROCm takes part; contraction off is CONTRACT.md section 1. Without
/// fma-mix-insts nothing is fused with a conversion from f16; without a compilation unit's id the
/// bytes do not depend on the folder.
pub(crate) const FLAGS: [&str; 15] = [
    "-x",
    "hip",
    "--cuda-device-only",
    "--no-gpu-bundle-output",
    "-nogpuinc",
    "-nogpulib",
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-fuse-cuid=none",
    "-Xclang",
    "-target-feature",
    "-Xclang",
    "-fma-mix-insts",
    "-Wall",
];

/// The compilers that are tried, after `LOCKSTEP_HIPCC` if that is set.
const COMPILERS: [&str; 7] = [
    "clang++-19",
    "clang++-20",
    "clang++-21",
    "clang++-22",
    "clang++-18",
    "/opt/rocm/llvm/bin/clang++",
    "clang++",
];

/// Compiles for every architecture and writes `code_objects.rs`; an architecture that has no object
/// has an empty one.
pub(crate) fn compile(out: &Path) {
    println!("cargo::rerun-if-env-changed=LOCKSTEP_HIPCC");
    println!("cargo::rerun-if-env-changed=LOCKSTEP_REQUIRE_HIP");
    let compiler = compiler(out);
    let version = compiler.as_deref().map_or_else(|| "no compiler".to_owned(), version);
    let mut faults = Vec::new();
    if compiler.is_none() {
        faults.push("no clang that compiles HIP for gfx942; see docs/hip.md".to_owned());
    }
    std::thread::scope(|scope| {
        let version = version.as_str();
        let runs = compiler.iter().flat_map(|compiler| {
            let object = move |name| object((compiler, version), name, out);
            ARCHITECTURES.map(|name| scope.spawn(move || object(name)))
        });
        for run in runs.collect::<Vec<_>>() {
            faults.extend(run.join().expect("a compilation does not panic").err());
        }
    });
    let required = std::env::var("LOCKSTEP_REQUIRE_HIP").is_ok_and(|value| value == "1");
    for line in faults.iter().flat_map(|fault| fault.lines()) {
        println!("cargo::{}={line}", if required { "error" } else { "warning" });
    }
    write_objects(out, compiler.is_some() && faults.is_empty());
    let version = version.lines().next().unwrap_or_default();
    println!("cargo::rustc-env=LOCKSTEP_GPU_COMPILER={version}");
    let command = compiler.unwrap_or_default();
    println!("cargo::rustc-env=LOCKSTEP_GPU_COMMAND={command} {}", FLAGS.join(" "));
}

fn command(compiler: &str, architecture: &str, source: &str, target: &Path) -> Option<Output> {
    let mut command = Command::new(compiler);
    command.args(FLAGS).arg(format!("--offload-arch={architecture}")).arg(source);
    command.arg("-o").arg(target).output().ok()
}

/// Before version 18 a square root of f32 is not rounded correctly.
const TRIAL: &str = "#if __clang_major__ < 18\n#error too old\n#endif\n";

/// The first compiler that makes a code object of that.
fn compiler(out: &Path) -> Option<String> {
    let source = out.join("trial.cpp");
    std::fs::write(&source, TRIAL).expect("OUT_DIR can be written");
    let source = source.to_string_lossy().into_owned();
    let chosen = std::env::var("LOCKSTEP_HIPCC").ok();
    let names = COMPILERS.map(str::to_owned).to_vec();
    let names = chosen.map_or(names, |chosen| vec![chosen]);
    names.into_iter().find(|name| {
        let trial = command(name, ARCHITECTURES[0], &source, &out.join("trial.co"));
        trial.is_some_and(|output| output.status.success())
    })
}

fn object((compiler, version): (&str, &str), architecture: &str, out: &Path) -> Result<(), String> {
    let (unit, target) = ("kernels/gpu.cpp", out.join(format!("{architecture}.co")));
    let words = format!("{compiler} {FLAGS:?} {version}");
    Kept::new(out).write((architecture, Path::new(unit), &words), &target, || {
        let output = command(compiler, architecture, unit, &target)
            .ok_or_else(|| format!("{compiler} cannot be started"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() && text.is_empty() {
            return Ok(());
        }
        Err(format!("{compiler} for {architecture}:\n{text}"))
    })
}

fn write_objects(out: &Path, complete: bool) {
    let mut text = format!("static CODE_OBJECTS: [CodeObject; {}] = [\n", ARCHITECTURES.len());
    for architecture in ARCHITECTURES {
        let file = out.join(format!("{architecture}.co"));
        if !complete {
            std::fs::write(&file, []).expect("OUT_DIR can be written");
        }
        let bytes = std::fs::read(&file).expect("the compiler wrote it");
        let hash = blake3::hash(&bytes).to_hex();
        let _ = writeln!(
            text,
            "CodeObject {{ architecture: {architecture:?}, bytes: include_bytes!({file:?}), \
             hash: {:?} }},",
            hash.as_str()
        );
    }
    text.push_str("];\n");
    std::fs::write(out.join("code_objects.rs"), text).expect("OUT_DIR can be written");
}

/// Writes `sources.rs`: the name and the text of every file that `gpu.cpp` needs, and of those that
/// have faults to be switched on.
pub(crate) fn write_sources(out: &Path, files: &[std::path::PathBuf], planted: &Planted) {
    let root = std::env::current_dir().expect("cargo sets the folder");
    let mut text = String::from("pub(super) static FILES: &[(&str, &str)] = &[\n");
    for file in files {
        let name = file.strip_prefix("kernels").expect("the folder that was listed");
        let _ = writeln!(text, "({:?}, include_str!({:?})),", name, root.join(file));
    }
    text.push_str("];\npub(super) static PLANTED: &[(&str, &str)] = &[\n");
    for (name, path) in &planted.edited {
        let _ = writeln!(text, "({name:?}, include_str!({path:?})),");
    }
    text.push_str("];\n");
    std::fs::write(out.join("sources.rs"), text).expect("OUT_DIR can be written");
}

/// What a compiler says of itself, or its name.
fn version(compiler: &str) -> String {
    let output = Command::new(compiler).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_else(|_| compiler.to_owned())
}

/// The feature `hip-link`: where ROCm's libraries are.
pub(crate) fn link() {
    if std::env::var_os("CARGO_FEATURE_HIP_LINK").is_none() {
        return;
    }
    for name in ["HIP_PATH", "ROCM_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let named = ["HIP_PATH", "ROCM_PATH"].iter().find_map(|name| std::env::var(name).ok());
    let root = named.unwrap_or_else(|| "/opt/rocm".to_owned());
    println!("cargo::rustc-link-search=native={root}/lib");
    println!("cargo::rustc-link-lib=dylib=amdhip64");
}
