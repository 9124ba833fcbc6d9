//! What a GPU reports late, and what it does not report at all, against an imaginary ROCm.

use super::mock::{play, tell};
use crate::device::{Device, DeviceError};
use crate::gguf::File;
use crate::options::{DeviceChoice, Options};
use crate::taps::Silent;
use crate::{Engine, Error};
use std::path::Path;
use std::time::{Duration, Instant};

fn engine() -> Result<Engine, Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny.gguf");
    let file = File::open(&path).unwrap();
    let time_limit = Some(Duration::from_millis(300));
    let device = DeviceChoice::Hip(0);
    let options = Options {
        device,
        context_tokens: 32,
        ubatch: 8,
        threads: 1,
        time_limit,
        ..Options::default()
    };
    Engine::load(&file, &options)
}

/// A prompt and three tokens; the first error ends it.
pub(super) fn step() {
    let mut engine = engine().unwrap();
    let mut run = |tokens: &[u32]| match engine.forward(tokens, &mut Silent) {
        Ok(readout) => tell(format!("position {}", readout.position)),
        Err(Error::Device(error)) => {
            tell(format!("lost: {}", error.is_lost()));
            tell(error);
        }
        Err(error) => tell(error),
    };
    let begin = Instant::now();
    run(&[1, 5, 9, 2, 7]);
    for token in 3..6 {
        run(&[token]);
    }
    // With a device that was given up, nothing waits again.
    drop(engine);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

fn played(environment: &[(&str, &str)]) -> Option<Vec<String>> {
    Some(play("step", environment)?.lines().map(str::to_owned).collect())
}

#[test]
fn a_late_error_is_traced_to_its_launch() {
    let Some(told) = played(&[("LOCKSTEP_MOCK_FAULT", "swiglu_quantise:2")]) else { return };
    assert_eq!(told[0], "lost: false");
    // The second launch of the first pass failed; run again it is the fourth, which does not.
    let expected = "hipStreamQuery failed: hipErrorIllegalAddress (code 700); the step run again, \
                    launch by launch, shows no error: it depends on time, or on what ran before";
    assert_eq!(told[1], expected);
    // The prompt was not run; what follows begins the sequence.
    assert_eq!(told[2..], ["position 0", "position 1", "position 2"].map(str::to_owned));
}

#[test]
fn a_launch_that_fails_each_time_is_named_with_its_arguments() {
    let Some(told) = played(&[("LOCKSTEP_MOCK_FAULT", "swiglu_quantise:*")]) else { return };
    assert_eq!(told[0], "lost: false");
    let expected = "hipStreamQuery failed: hipErrorIllegalAddress (code 700) (step 0, prefill, \
                    layer 0): the first launch to fail is swiglu_quantise of ";
    assert!(told[1].starts_with(expected), "{told:#?}");
    assert!(told[1].contains("gate from gate [0, "), "{told:#?}");
    assert!(told[1].contains("out to swiglu [0, "), "{told:#?}");
}

#[test]
fn a_device_that_is_lost_says_so() {
    let sticky = [("LOCKSTEP_MOCK_FAULT", "swiglu_quantise:2"), ("LOCKSTEP_MOCK_STICKY", "1")];
    let Some(told) = played(&sticky) else { return };
    assert_eq!(told[0], "lost: true");
    let expected = "hipStreamQuery failed: hipErrorIllegalAddress (code 700); the device is lost \
                    for this process";
    assert_eq!(told[1], expected);
    assert_eq!(told[2], "lost: true", "and stays so");
}

#[test]
fn a_launch_that_never_ends_is_given_up() {
    let Some(told) = played(&[("LOCKSTEP_MOCK_HANG", "attention_split_f32")]) else {
        return;
    };
    assert_eq!(told[0], "position 4");
    assert_eq!(told[1], "lost: true");
    assert_eq!(told[2], "the device did not finish within 0.3 s");
}

/// What the runtime counted, beside what the gate counted.
pub(super) fn counts() {
    let runtime = || {
        let path = std::env::var("LOCKSTEP_LIBAMDHIP64").unwrap();
        // SAFETY: the imaginary runtime, which is loaded already.
        let library = unsafe { libloading::Library::new(path) }.unwrap();
        type Counts = unsafe extern "C" fn(*mut u64);
        let mut counts = [0_u64; 3];
        // SAFETY: the function of that name has this type.
        let function = unsafe { library.get::<Counts>("lockstep_mock_counts") }.unwrap();
        // SAFETY: it writes three numbers.
        unsafe { function(counts.as_mut_ptr()) };
        counts
    };
    let device = Device::open(DeviceChoice::Hip(0), None, 1).unwrap();
    drop(device);
    let before = runtime();
    assert_eq!(before[1], before[2], "allocations of the probe were given back");
    {
        let mut engine = engine().unwrap();
        let opened = runtime()[0];
        let loaded = engine.device().copied_bytes();
        for tokens in [&[1_u32, 5, 9][..], &[2], &[3], &[4]] {
            engine.forward(tokens, &mut Silent).unwrap();
            engine.step(tokens, crate::taps::TapLevel::Op).unwrap();
        }
        let (checked, total) = (engine.copies_checked(), engine.copies_total());
        assert_eq!(checked, total);
        let gate = engine.device().copied_bytes() - loaded;
        tell(format!("{} bytes by the runtime, {gate} by the gate", runtime()[0] - opened));
        assert_eq!(runtime()[0] - opened, gate, "bytes that the gate did not see");
    }
    let after = runtime();
    assert_eq!(after[1], after[2], "what was allocated was given back");
    tell(format!("{} allocations, as many frees", after[1] > before[1]));
}

#[test]
fn the_runtime_copies_what_the_gate_let_through_and_gets_back_what_it_gave() {
    let Some(told) = play("counts", &[]) else { return };
    assert!(told.ends_with("true allocations, as many frees"), "{told}");
}

#[test]
fn an_error_has_words_for_what_it_is() {
    let late = DeviceError::Runtime { operation: "x".to_owned(), reason: "y".to_owned() };
    assert!(late.is_late());
    assert!(!late.names_its_launch());
    assert!(DeviceError::Lost { reason: String::new() }.is_lost());
}
