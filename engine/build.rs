//! Compiles the kernels: for the host once for each instruction set, checked, and as a GPU runs
//! them; for AMD GPUs ahead of time.

#[path = "build/faults.rs"]
mod faults;
#[path = "build/gpu.rs"]
mod gpu;
#[path = "build/kept.rs"]
mod kept;
#[path = "build/sanitizers.rs"]
mod sanitizers;

use kept::Kept;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// Contraction must be off (CONTRACT.md section 1); errno and traps only block vectorisation.
const FLAGS: [&str; 5] =
    ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"];

/// Name of the build, flags of an x86-64 compiler.
const X86_BUILDS: [(&str, &[&str]); 6] = [
    ("baseline", &[]),
    ("avx2", &["-march=x86-64-v3"]),
    ("avx512", &["-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=256"]),
    ("checked", &["-march=x86-64-v3", "-DLOCKSTEP_CHECKED", "-fno-strict-aliasing"]),
    // The code of a GPU, thread by thread, with waves of 32 and of 64 lanes.
    (
        "waves32",
        &["-march=x86-64-v3", "-DLOCKSTEP_CHECKED", "-fno-strict-aliasing", "-DLOCKSTEP_WAVES=32"],
    ),
    (
        "waves64",
        &["-march=x86-64-v3", "-DLOCKSTEP_CHECKED", "-fno-strict-aliasing", "-DLOCKSTEP_WAVES=64"],
    ),
];

/// Elsewhere the compiler's own baseline has fma and vectors.
const OTHER_BUILDS: [(&str, &[&str]); 2] =
    [("baseline", &[]), ("checked", &["-DLOCKSTEP_CHECKED", "-fno-strict-aliasing"])];

/// Builds of the probe alone that must be refused; flags that come later win.
const X86_UNFIT_BUILDS: [(&str, &[&str]); 3] = [
    ("fast_math", &["-march=x86-64-v3", "-ffast-math", "-ffp-contract=fast"]),
    ("contracted", &["-march=x86-64-v3", "-ffp-contract=fast"]),
    ("misset", &["-march=x86-64-v3", "-DLOCKSTEP_MISSET"]),
];

const OTHER_UNFIT_BUILDS: [(&str, &[&str]); 2] = [
    ("fast_math", &["-ffast-math", "-ffp-contract=fast"]),
    ("contracted", &["-ffp-contract=fast"]),
];

/// The build of the faults that a GPU can have: small files are run on it, so that its compiler may
/// be quick.
const FAULTY_WAVES: [&str; 5] = [
    "-march=x86-64-v3",
    "-DLOCKSTEP_CHECKED",
    "-fno-strict-aliasing",
    "-DLOCKSTEP_WAVES=32",
    "-O1",
];

/// Kernels that are wrong on purpose, for the tests of the sanitizers and of the order of threads.
const PLANTED_BUILDS: [(&str, &[&str]); 2] =
    [("planted", &[]), ("planted_waves", &["-DLOCKSTEP_CHECKED", "-DLOCKSTEP_WAVES=32"])];

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let builds: &[(&str, &[&str])] =
        if architecture == "x86_64" { &X86_BUILDS } else { &OTHER_BUILDS };
    let unfit_builds: &[(&str, &[&str])] =
        if architecture == "x86_64" { &X86_UNFIT_BUILDS } else { &OTHER_UNFIT_BUILDS };
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    let files = kernel_files();
    let planted = faults::plant(out, &files);
    let faulty = planted.unit.to_str().expect("OUT_DIR is UTF-8");
    let faulty_flags: &[&str] = if architecture == "x86_64" { &["-march=x86-64-v3"] } else { &[] };
    let version = compiler_version();
    let compile = |file: &str, name: &str, flags: &[&str]| {
        archive(Path::new(file), name, flags, (&version, out));
    };
    // The compiler's time is most of a build's: all at once.
    std::thread::scope(|scope| {
        scope.spawn(|| gpu::compile(out));
        scope.spawn(|| compile(faulty, "faulty", faulty_flags));
        if architecture == "x86_64" {
            scope.spawn(|| compile(faulty, "faulty_waves", &FAULTY_WAVES));
        }
        for (name, flags) in builds {
            scope.spawn(|| compile("kernels/host.cpp", name, flags));
        }
        for (name, flags) in unfit_builds {
            scope.spawn(|| compile("kernels/unfit.cpp", name, flags));
        }
        for (name, flags) in PLANTED_BUILDS.iter().filter(|_| architecture == "x86_64") {
            scope.spawn(|| compile("kernels/planted.cpp", name, flags));
        }
    });
    gpu::link();
    sanitizers::link();
    gpu::write_sources(out, &files, &planted);
    println!("cargo::rustc-env=LOCKSTEP_KERNELS_HASH={}", kernels_hash(&files));
    let version = version.lines().next().unwrap_or("unknown compiler");
    println!("cargo::rustc-env=LOCKSTEP_HOST_COMPILER={version}");
}

/// Compiles one build into an archive that exports `lockstep_host_NAME`.
fn archive(file: &Path, name: &str, flags: &[&str], (version, out): (&str, &Path)) {
    let mut build = cc::Build::new();
    build.cpp(true).file(file).warnings(true).extra_warnings(true);
    // The debug profile's own optimisation flags would come last and win.
    build.opt_level(3).debug(false).force_frame_pointer(false);
    for flag in FLAGS.iter().chain(flags) {
        build.flag(flag);
    }
    if sanitizers::asked_for() {
        build.flags(sanitizers::FLAGS);
    }
    build.define("LOCKSTEP_BUILD", format!("lockstep_host_{name}").as_str());
    // A folder each: objects have their source's name.
    let folder = out.join(name);
    std::fs::create_dir_all(&folder).expect("OUT_DIR can be written");
    build.out_dir(&folder);
    let object = folder.join("kernels.o");
    let compiler = build.get_compiler();
    let command = format!("{:?} {:?} {version}", compiler.path(), compiler.args());
    let Ok(()) = Kept::new(out).write((name, file, &command), &object, || {
        let objects = build.compile_intermediates();
        std::fs::rename(&objects[0], &object).expect("OUT_DIR can be written");
        Ok::<(), Infallible>(())
    });
    let library = build.create_archive(&format!("lockstep_host_{name}"), [&object]);
    cc::emit_link_directives(&build, library);
}

/// Everything in engine/kernels, in the order of its names.
fn kernel_files() -> Vec<PathBuf> {
    let list = |folder: &str| -> Vec<PathBuf> {
        std::fs::read_dir(Path::new(folder))
            .expect("the folder engine/kernels is part of the package")
            .map(|entry| entry.expect("engine/kernels can be listed").path())
            .filter(|path| path.extension().is_some_and(|ending| ending != "toml"))
            .collect()
    };
    let mut files = [list("kernels"), list("kernels/tuned")].concat();
    files.sort();
    files
}

/// BLAKE3 over the names and contents of the kernel sources and over the flags.
fn kernels_hash(files: &[PathBuf]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file.to_string_lossy().as_bytes());
        hasher.update(&std::fs::read(file).expect("kernel sources can be read"));
    }
    let gpu = gpu::FLAGS;
    hasher.update(format!("{FLAGS:?} {X86_BUILDS:?} {OTHER_BUILDS:?} {gpu:?}").as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// What the C++ compiler says of itself.
fn compiler_version() -> String {
    let compiler = cc::Build::new().cpp(true).get_compiler();
    let output = compiler.to_command().arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
