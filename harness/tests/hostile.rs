//! Files with one defect each: refused by exactly their variant, in a second, in 64 MiB; and
//! whatever the strict reader accepts is refused or run by the other side.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use engine::gguf::File;
use engine::{Config, DeviceChoice, Engine, HostBuild};
use fixtures::GgmlDType;
use fixtures::hostile::{Defect, Model, defects};
use harness::sides::reference::ReferenceSide;
use harness::sides::{Side, SideError, Unwatched};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use reference::Mode;
use support::settings;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const BYTES_MAX: usize = 64 << 20;
const SECONDS_MAX: f64 = 1.0;

/// What is allocated is counted for the whole process: one measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What `work` gives, and the most that it had allocated at a time.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let result = work();
    (result, ALLOCATED.peak_usage().saturating_sub(before))
}

/// As a run does it: the header, then the model, then its weights.
fn load(file: Result<File, engine::gguf::Error>) -> Result<Engine, engine::Error> {
    let file = file?;
    Config::from_gguf(&file)?;
    let options = engine::Options {
        device: DeviceChoice::Host,
        host_build: Some(HostBuild::Baseline),
        context_tokens: 4,
        ubatch: 4,
        threads: 1,
        ..engine::Options::default()
    };
    Engine::load(&file, &options)
}

/// `File::Magic` of `File(Magic { .. })`.
fn variant(error: &engine::Error) -> String {
    let debug = format!("{error:?}").replace('(', "::");
    debug.chars().take_while(|c| c.is_alphanumeric() || *c == ':').collect()
}

/// What is shown is one line, short, and steers no terminal.
fn is_one_line(message: &str) {
    assert!(!message.is_empty());
    assert!(message.len() <= 400, "{} bytes: {message}", message.len());
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[test]
fn each_defect_is_refused_by_its_variant() {
    let _alone = alone();
    let (mut text, mut bytes_most, mut seconds_most) = (String::new(), 0, 0.0_f64);
    let mut wrong = Vec::new();
    let defects = defects();
    for Defect { variant: expected, name, bytes } in &defects {
        let owned = bytes.clone();
        let began = Instant::now();
        let (result, bytes) = measured(|| load(File::from_bytes(owned)).map(drop));
        let seconds = began.elapsed().as_secs_f64();
        let Err(error) = result else { panic!("{name}: not refused") };
        let message = error.to_string();
        if variant(&error) != *expected {
            wrong.push(format!("{name}: {expected} is due: {message}"));
        }
        is_one_line(&message);
        assert!(bytes <= BYTES_MAX, "{name}: {bytes} bytes");
        assert!(seconds <= SECONDS_MAX, "{name}: {seconds} s");
        (bytes_most, seconds_most) = (bytes_most.max(bytes), seconds_most.max(seconds));
        writeln!(text, "{expected}: {}\n    {message}", engine::gguf::Shown(name)).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let count = defects.len();
    eprintln!("{count} defects refused: at most {bytes_most} bytes, at most {seconds_most:.3} s");
    settings().bind(|| insta::assert_snapshot!("hostile_messages", text));
}

/// The variants of an enum of errors, from its source.
fn variants(path: &str, prefix: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let source = std::fs::read_to_string(path).unwrap();
    let body = source.split("Error {\n").nth(1).unwrap().split("\n}").next().unwrap();
    let variants = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.strip_suffix(" {")?;
        name.chars().all(char::is_alphanumeric).then(|| format!("{prefix}::{name}"))
    });
    variants.collect()
}

#[test]
fn each_variant_has_a_defect() {
    let mut needed = variants("engine/src/gguf/error.rs", "File");
    needed.append(&mut variants("engine/src/llama/config.rs", "Config"));
    assert!(needed.len() >= 30, "{needed:?}");
    // A file that is not there, and one larger than a table can be: both below.
    assert!(needed.remove("File::Open") && needed.remove("Config::Vocabulary"));
    let found: BTreeSet<String> = defects().iter().map(|one| one.variant.to_owned()).collect();
    assert_eq!(found, needed);
}

#[test]
fn files_that_are_not_there_or_have_too_many_rows() {
    let _alone = alone();
    let error = load(File::open(Path::new("no/such/file.gguf"))).unwrap_err();
    assert_eq!(variant(&error), "File::Open");
    let folder = tempfile::tempdir().unwrap();
    let error = load(File::open(folder.path())).unwrap_err();
    assert_eq!(variant(&error), "File::Open");
    // 2^24 rows of two values: on the disk a file of holes.
    let mut raw = Model { hidden: 2, heads: 1, kv_heads: 1, ..Model::default() }.raw();
    let last = raw.tensors.len() - 1;
    let table = raw.tensors.iter().position(|tensor| tensor.name == b"token_embd.weight");
    raw.tensors.swap(table.unwrap(), last);
    let table = raw.tensors.last_mut().unwrap();
    table.dimensions[1] = 1 << 24;
    table.data.clear();
    let path = folder.path().join("rows.gguf");
    std::fs::write(&path, raw.bytes()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(raw.bytes().len() as u64 + (1 << 27)).unwrap();
    let (result, bytes) = measured(|| load(File::open(&path)).map(drop));
    let error = result.unwrap_err();
    assert_eq!(variant(&error), "Config::Vocabulary", "{error}");
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}

/// The models that defects are put into, of every type.
fn models() -> impl Iterator<Item = (String, Vec<u8>)> {
    use GgmlDType::*;
    let kinds = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K];
    let of_kind = |kind| (format!("{kind:?}"), Model::of_kind(kind).raw().bytes());
    std::iter::once(("default".to_owned(), Model::default().raw().bytes()))
        .chain(kinds.into_iter().map(of_kind))
}

fn reference(path: &Path, mode: Mode) -> Result<ReferenceSide, SideError> {
    let options =
        reference::Options { mode, context_tokens: 4, threads: 1, ..reference::Options::default() };
    ReferenceSide::load(path, &options)
}

#[test]
fn the_models_run_on_both_sides() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in models() {
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, &bytes).unwrap();
        let mut engine = load(File::open(&path)).unwrap();
        let logits = engine.forward(&[0, 1], &mut engine::Silent).unwrap().logits;
        assert!(logits.iter().all(|logit| logit.is_finite()), "{name}: {logits:?}");
        let mut exact = reference(&path, Mode::Exact).unwrap();
        let readout = exact.forward(&[0, 1], &mut Unwatched).unwrap();
        let harness::sides::Row::F32(expected) = readout.logits else { panic!("f32 is due") };
        assert_eq!(logits, expected, "{name}");
    }
}

/// Each defect through the other side: refused, or run to a readout. No panic.
#[test]
fn the_other_side_refuses_or_runs_each_defect() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (mut refused, mut ran) = (0, BTreeSet::new());
    for Defect { variant, name, bytes } in defects() {
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, &bytes).unwrap();
        for mode in [Mode::Exact, Mode::Stock, Mode::Wide] {
            let began = Instant::now();
            let (result, bytes) = measured(|| reference(&path, mode));
            match result {
                Err(error) => {
                    refused += 1;
                    is_one_line(&error.to_string());
                    assert!(matches!(error, SideError::Input { .. }), "{name}: {error}");
                }
                Ok(mut side) => {
                    side.forward(&[0, 1], &mut Unwatched).unwrap();
                    ran.insert(variant);
                }
            }
            let seconds = began.elapsed().as_secs_f64();
            assert!(bytes <= BYTES_MAX, "{name}: {bytes} bytes");
            assert!(seconds <= SECONDS_MAX, "{name}: {seconds} s");
        }
    }
    // Weights are looked at where they are loaded: the engine refuses these before any step.
    let expected = ["Config::NotFinite", "Config::RopeFactor"];
    assert_eq!(ran, BTreeSet::from(expected));
    assert!(refused > 900, "{refused} refused");
}

/// The converter and the tokeniser read files too, each after the strict reader.
#[test]
fn whoever_else_reads_refuses_or_copes() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let tokens = |file: &File| harness::tokens::Tokens::from_gguf(file).err();
    for Defect { name, bytes, .. } in defects() {
        let Ok(file) = File::from_bytes(bytes.clone()) else { continue };
        if let Some(error) = tokens(&file) {
            is_one_line(&error.to_string());
        }
        std::fs::write(&path, &bytes).unwrap();
        let began = Instant::now();
        let mut out = Vec::new();
        let (_, bytes) =
            measured(|| fixtures::convert(&path, fixtures::Mix::Q4KM, &mut out).is_ok());
        assert!(bytes <= BYTES_MAX, "{name}: {bytes} bytes");
        assert!(began.elapsed().as_secs_f64() <= SECONDS_MAX, "{name}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let _alone = alone();
    let whole = Model::default().raw().bytes();
    let last_bytes = whole.len() - 32 + 4;
    for end in 0..last_bytes {
        let error = load(File::from_bytes(whole[..end].to_vec())).map(drop);
        let error = error.err().unwrap_or_else(|| panic!("cut at {end}: accepted"));
        is_one_line(&error.to_string());
    }
    // What follows the last value is padding, which a file may lack.
    assert!(load(File::from_bytes(whole[..last_bytes].to_vec())).is_ok());
    let tiny = fixtures::TINY;
    let file = File::from_bytes(tiny.to_vec()).unwrap();
    let header_end = file.tensors()[0].offset_bytes as usize;
    let ends = file.tensors().iter().flat_map(|tensor| {
        let end = (tensor.offset_bytes + tensor.size_bytes) as usize;
        [tensor.offset_bytes as usize, end - 1]
    });
    for end in (0..header_end).chain(ends) {
        assert!(File::from_bytes(tiny[..end].to_vec()).is_err(), "the embedded model at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Bytes changed, inserted and taken out anywhere: refused in a line or run, within the limits.
    #[test]
    fn edited_models_are_refused_or_run(
        model in 0..14_usize,
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..4_u8, any::<[u8; 8]>()), 1..6),
    ) {
        let _alone = alone();
        let (_, mut bytes) = models().nth(model).unwrap();
        for (index, what, new) in edits {
            let at = index.index(bytes.len());
            match what {
                0 => bytes[at] = new[0],
                1 => bytes.insert(at, new[0]),
                2 => drop(bytes.remove(at)),
                _ => bytes[at..].iter_mut().zip(new).for_each(|(byte, new)| *byte = new),
            }
        }
        let (result, allocated) = measured(|| {
            let mut engine = load(File::from_bytes(bytes))?;
            engine.forward(&[0], &mut engine::Silent).map(drop)
        });
        if let Err(error) = result {
            is_one_line(&error.to_string());
        }
        prop_assert!(allocated <= BYTES_MAX, "{} bytes", allocated);
    }
}

/// Lines of a foreign engine as long as an answer can be, which a parser that keeps what it does
/// not know would hold many times over.
#[cfg(unix)]
#[test]
fn a_line_of_an_engine_takes_its_own_length_and_little_more() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = harness::model::Model::resolve(None).unwrap();
    let config = Config::from_gguf(&model.file).unwrap();
    let identity = harness::identity::ModelIdentity::of_file(String::new(), &model.path).unwrap();
    let hello = format!(
        "{{\"answer\":\"hello\",\"protocol\":1,\"implementation\":\"a\",\"device\":\"b\",\
         \"build\":\"c\",\"model_sha256\":\"{}\",\"vocabulary\":{}}}\n",
        identity.sha256, model.vocabulary
    );
    std::fs::write(folder.path().join("hello"), hello).unwrap();
    let options = harness::sides::foreign::Options {
        command: format!(
            "sh -c 'cd {}; read -r one; cat hello; read -r two; cat line; read -r three'",
            folder.path().display()
        ),
        time_limit: std::time::Duration::from_secs(100),
        ubatch: 4096,
        context_tokens: 4096,
        activations: "i24".to_owned(),
        kv: "f32".to_owned(),
        threads: 1,
    };
    let numbers = "0,".repeat(2 << 20);
    let fields = "\"a\":0,".repeat(700_000);
    for (name, line) in [
        ("a list", format!("{{\"answer\":\"tap\",\"values\":[{numbers}0]}}\n")),
        ("a list first", format!("{{\"values\":[{numbers}0],\"answer\":\"tap\"}}\n")),
        ("fields", format!("{{{fields}\"answer\":\"tap\"}}\n")),
    ] {
        std::fs::write(folder.path().join("line"), &line).unwrap();
        let mut side =
            harness::sides::foreign::ForeignSide::load(&model.path, &config, &options).unwrap();
        let (answer, bytes) = measured(|| side.forward(&[1], &mut Unwatched));
        let words = answer.map(|_| ()).unwrap_err().to_string();
        assert!(words.contains("is no answer"), "{name}: {words}");
        assert!(bytes < 5 * line.len(), "{name}: {bytes} bytes for a line of {}", line.len());
    }
}
