//! The strict GGUF reader, the configuration, and a load where both accept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;

/// The same questions as in the test that runs the corpus.
#[path = "../../engine/tests/corpus/gguf.rs"]
mod gguf;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// One model in so many is loaded and run.
const RUN_EVERY: u32 = 256;

fuzz_target!(|bytes: &[u8]| {
    // By the bytes themselves, so that an input does the same again.
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31) ^ u32::from(*byte));
    let run = (sum ^ (sum >> 16)).is_multiple_of(RUN_EVERY);
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let _ = gguf::read(bytes, run);
    let peak = ALLOCATED.peak_usage().saturating_sub(before);
    assert!(peak <= 64 << 20, "{peak} bytes allocated for a file of {}", bytes.len());
});
