//! Loading on an imaginary GPU: refused before it begins, named where an allocation fails, and
//! nothing left behind.

use super::mock::{play, tell};
use super::tiny;
use crate::device::Device;
use crate::options::{DeviceChoice, Options};
use crate::taps::Silent;
use crate::{Engine, Estimate, Mebibytes};

/// How often a model is loaded, run and dropped; counts are exact, so that a few are enough.
const LOADS: usize = 5;

fn options() -> Options {
    let device = DeviceChoice::Hip(0);
    Options { device, context_tokens: 32, ubatch: 3, threads: 1, ..Options::default() }
}

/// Loads a model, and tells why not.
pub(super) fn load() {
    match Engine::load(&tiny(), &options()) {
        Ok(engine) => tell(format!("{} loaded", engine.identity().device)),
        Err(error) => tell(error),
    }
}

/// Loads, runs and drops a model again and again.
pub(super) fn loads() {
    let file = tiny();
    for _ in 0..LOADS {
        let mut engine = Engine::load(&file, &options()).unwrap();
        for tokens in [&[1_u32, 5, 9, 2, 7][..], &[3], &[11], &[4]] {
            engine.forward(tokens, &mut Silent).unwrap();
        }
        engine.verify_weights(&file).unwrap();
        drop(engine);
        assert_eq!(Device::process_bytes_allocated(), 0, "an engine that is gone holds memory");
    }
}

/// The counts that the runtime told at its end: calls of hipMalloc, and what was left.
fn ledger(told: &str) -> (usize, String) {
    let line = told.lines().last().unwrap();
    let (mallocs, rest) = line.split_once(" hipMalloc, ").unwrap();
    let (frees, rest) = rest.split_once(" hipFree, ").unwrap();
    let mallocs: usize = mallocs.parse().unwrap();
    // An allocation that failed has nothing to free.
    let failed = told.lines().filter(|line| line.starts_with("allocation of ")).count();
    assert_eq!(frees.parse::<usize>().unwrap(), mallocs - failed, "{told}");
    (mallocs, rest.to_owned())
}

const LEDGER: (&str, &str) = ("LOCKSTEP_MOCK_LEDGER", "1");
const NOTHING_LEFT: &str = "1 hipHostMalloc, 1 hipHostFree, 0 bytes and 0 handles left";

#[test]
fn what_does_not_fit_is_refused_before_anything_is_allocated() {
    let Some(opened) = play("open", &[LEDGER]) else { return };
    let (probe, rest) = ledger(&opened);
    assert_eq!(rest, NOTHING_LEFT);
    let estimate = Estimate::new(&tiny(), &options(), true).unwrap();
    let needed = estimate.total_bytes();
    let with = |bytes: u64| play("load", &[LEDGER, ("LOCKSTEP_MOCK_MEMORY", &bytes.to_string())]);
    let Some(told) = with(needed - 1) else { return };
    let words = Mebibytes(needed);
    let line = format!("the model needs {words} on hip:0, {words} are free: {estimate}; ");
    assert!(told.starts_with(&line), "{told}");
    assert!(told.lines().next().unwrap().ends_with("; --context-tokens 30 would fit"), "{told}");
    assert_eq!(ledger(&told), (probe, NOTHING_LEFT.to_owned()), "more than the probe's: {told}");
    // To the byte.
    let Some(told) = with(needed) else { return };
    assert!(told.starts_with("hip:0 Imaginary Instinct gfx942 loaded"), "{told}");
    assert!(ledger(&told).0 > probe + 20);
}

#[test]
fn an_allocation_that_fails_is_named_with_what_is_free() {
    let Some(opened) = play("open", &[LEDGER]) else { return };
    let Some(loaded) = play("load", &[LEDGER]) else { return };
    let (probe, all) = (ledger(&opened).0, ledger(&loaded).0);
    let weights = tiny().tensors().len();
    let fewer = "take a model of fewer bits, or a device with more memory";
    for (count, name, remedy) in [
        (probe + 1, "token_embd.weight", fewer),
        (probe + 2, "blk.0.attn_q.weight", fewer),
        (probe + weights, "output", fewer),
        (probe + weights + 1, "embed and 116 more", "lower --ubatch"),
        (all - 2, "cache.", "lower --context-tokens"),
        (all, "rope.sine", "lower --context-tokens"),
    ] {
        let plan = format!("hipMalloc:{count}:2");
        let Some(told) = play("load", &[LEDGER, ("LOCKSTEP_MOCK_FAIL", &plan)]) else { return };
        let line = told.lines().next().unwrap();
        assert!(line.starts_with("allocation of "), "{count}: {told}");
        assert!(line.contains(&format!(" bytes for {name}")), "{count} {name}: {told}");
        let end = format!(" bytes are free; {remedy}");
        assert!(line.contains(" failed: ") && line.ends_with(&end), "{count} {name}: {told}");
        assert_eq!(ledger(&told).1, NOTHING_LEFT, "{told}");
    }
}

#[test]
fn every_allocation_has_its_free() {
    let Some(told) = play("loads", &[LEDGER]) else { return };
    let (mallocs, rest) = ledger(&told);
    assert!(mallocs > LOADS * 20, "{told}");
    let expected = format!("{LOADS} hipHostMalloc, {LOADS} hipHostFree, 0 bytes and 0 handles");
    assert_eq!(rest, format!("{expected} left"));
}
