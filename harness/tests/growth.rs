//! A run leaves nothing behind: the embedded model again and again in one process, loaded, run on
//! both sides and dropped. `LOCKSTEP_GROWTH_RUNS=1000` is what ci/long.sh asks for.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use engine::device::Device;
use harness::model::Model;
use support::matrix::{Case, answer};

/// Runs that are not counted: pools, tables and the allocator's arenas come to their size.
const WARM_UP_RUNS: usize = 40;

/// What the resident memory may have grown by after all counted runs. Arenas come and go with the
/// threads of a run, which was seen to move it by 3.5 MB up and 6.5 MB down; over a thousand runs a
/// leak of two pages each is as much as this.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let count: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    count * 1024
}

/// Loads, runs and drops both sides; all device memory has to be given back.
fn run(model: &Model, index: usize) {
    // A prompt of one pass, then graphs or single passes, then the chunkings on both sides.
    let case = Case { prefill_decode: true, ..Case::new(18, 4) };
    let answer = answer(model, case, None);
    assert_eq!(answer.outcome.exit_code(), 0, "{:?}", answer.outcome.verdict);
    let held = Device::process_bytes_allocated();
    assert_eq!(held, 0, "after run {index} the device holds {held} bytes");
}

/// By how much resident memory grows over some runs that each leak so much.
fn growth_bytes(model: &Model, runs: usize, leak_bytes: usize) -> i64 {
    let before = resident_bytes();
    for index in 0..runs {
        run(model, index);
        // Written and looked at, so that it is resident and not optimised away.
        std::mem::forget(std::hint::black_box(vec![1_u8; leak_bytes]));
    }
    resident_bytes().cast_signed() - before.cast_signed()
}

#[test]
fn runs_leave_nothing_behind() {
    let text = std::env::var("LOCKSTEP_GROWTH_RUNS");
    let runs: usize = text.map_or(60, |text| text.parse().unwrap());
    let model = Model::resolve(None).unwrap();
    growth_bytes(&model, WARM_UP_RUNS, 0);
    let clean = growth_bytes(&model, runs, 0);
    eprintln!("{runs} runs: resident memory {clean:+} bytes");
    let most = GROWTH_BYTES_MAX.cast_signed();
    assert!(clean <= most, "{runs} runs have left {clean} bytes, {most} are the allocator's");
    // The same measure sees a leak: three times the limit over twenty runs.
    let planted = growth_bytes(&model, 20, 3 * (GROWTH_BYTES_MAX as usize) / 20);
    assert!(planted > most, "a planted leak went by unseen: {planted} bytes");
}

#[test]
fn an_engine_that_is_kept_is_seen_on_the_device() {
    // In a process of its own, so that the count is not another test's.
    if std::env::var("LOCKSTEP_GROWTH_KEEP").is_ok() {
        let model = Model::resolve(None).unwrap();
        let options =
            engine::Options { device: engine::DeviceChoice::Host, ..engine::Options::default() };
        let engine = engine::Engine::load(&model.file, &options).unwrap();
        std::mem::forget(engine);
        return run(&model, 0);
    }
    let mut kept = std::process::Command::new(std::env::current_exe().unwrap());
    kept.args(["--exact", "an_engine_that_is_kept_is_seen_on_the_device", "--nocapture"]);
    let output = kept.env("LOCKSTEP_GROWTH_KEEP", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("after run 0 the device holds "), "{text}");
}
