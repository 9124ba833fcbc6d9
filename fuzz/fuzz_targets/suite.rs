//! Suites: the strict reader of a file of cases.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;

/// The same questions as in the test that runs the corpus.
#[path = "../../harness/tests/corpus/suite.rs"]
mod suite;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

fuzz_target!(|bytes: &[u8]| {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let _ = suite::read(bytes);
    let peak = ALLOCATED.peak_usage().saturating_sub(before);
    assert!(peak <= 64 << 20, "{peak} bytes allocated for a file of {}", bytes.len());
});
