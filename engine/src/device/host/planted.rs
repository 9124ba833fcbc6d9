//! Kernels that are wrong on purpose: a sanitizer ends the process, and another order of threads
//! shows a barrier that is missing. Each is played in a process of its own.

use super::{Fault, Registration, registrations};
use std::ffi::c_void;
use std::process::{Command, Output};

unsafe extern "C" {
    fn lockstep_host_planted() -> *const Registration;
    fn lockstep_host_planted_waves() -> *const Registration;
}

/// Names what a process that `play` started does: build, kernel and amount.
const SCENARIO: &str = "LOCKSTEP_PLANTED";

/// Elements of each buffer.
const COUNT: usize = 256;

/// `PlantedArguments` in engine/kernels/planted.cpp.
#[repr(C)]
struct Arguments {
    x: *const u32,
    x_count: u64,
    out: *mut u32,
    out_count: u64,
    amount: u32,
}

/// Not a test by itself: runs what the environment names and tells the results.
#[test]
fn scenario() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let words: Vec<&str> = scenario.split(' ').collect();
    let [build, name, amount] = words[..] else { panic!("{scenario}") };
    let head = if build == "waves" { lockstep_host_planted_waves } else { lockstep_host_planted };
    // SAFETY: the function takes nothing and gives the head of a list of statics.
    let first = unsafe { head() };
    // SAFETY: as above.
    let mut kernels = unsafe { registrations::from(first) };
    let kernel = kernels.find(|kernel| kernel.is(name)).expect("a kernel of planted.cpp");
    // On the heap, with a sanitizer's guard zones around both.
    let x: Vec<u32> = (1..=COUNT as u32).collect();
    let mut out = vec![0_u32; COUNT];
    let (x_count, out_count) = (COUNT as u64, COUNT as u64);
    let amount = amount.parse().unwrap();
    let arguments = Arguments { x: x.as_ptr(), x_count, out: out.as_mut_ptr(), out_count, amount };
    let mut fault = Fault::default();
    let arguments: *const c_void = (&raw const arguments).cast();
    // SAFETY: the arguments have the kernel's layout. That a kernel leaves its buffers is what is
    // shown: it is told to do so under a sanitizer only, which ends the process instead.
    unsafe { (kernel.entry)(arguments, 1, 0, 1, &raw mut fault) };
    eprintln!("told: {} {out:?}", fault.raised);
}

fn play(scenario: &str, order: &str) -> (Output, String) {
    let mut command = Command::new(std::env::current_exe().expect("this test's path"));
    command.args(["--exact", "device::host::planted::scenario", "--nocapture"]);
    command.env(SCENARIO, scenario).env("LOCKSTEP_ORDER", order);
    let output = command.output().expect("this test can be started");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

/// What a kernel without a fault tells.
fn told(scenario: &str, order: &str) -> String {
    let (output, text) = play(scenario, order);
    assert!(output.status.success(), "{scenario}:\n{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("told: "));
    line.unwrap_or_else(|| panic!("{scenario} told nothing:\n{text}")).to_owned()
}

#[test]
fn another_order_of_threads_shows_a_missing_barrier() {
    let orders = ["0", "1", "7"];
    let with = orders.map(|order| told("waves planted_barrier 1", order));
    assert!(with.iter().all(|bits| *bits == with[0]), "the order shows though a barrier stands");
    let without = orders.map(|order| told("waves planted_barrier 0", order));
    assert_ne!(without[0], with[0]);
    assert_ne!(without[1], without[0]);
    assert_ne!(without[2], without[1]);
}

#[test]
fn sanitizers_see_what_is_planted() {
    if env!("LOCKSTEP_SANITIZED") != "1" {
        // ci/sanitizers.sh builds with them; here a kernel would just read past its buffer.
        eprintln!("SKIPPED planted reads: the kernels were built without sanitizers");
        return;
    }
    for build in ["plain", "waves"] {
        for (kernel, amount, report) in [
            ("planted_read", COUNT, "AddressSanitizer: heap-buffer-overflow"),
            ("planted_write", COUNT, "AddressSanitizer: heap-buffer-overflow"),
            ("planted_shift", 32, "runtime error: shift exponent 32 is too large"),
            ("planted_load", 1, "runtime error: load of misaligned address"),
            ("planted_stack", 5, "AddressSanitizer: stack-buffer-overflow"),
            ("planted_index", 4, "runtime error: index 4 out of bounds"),
        ] {
            let (output, text) = play(&format!("{build} {kernel} {amount}"), "0");
            assert!(!output.status.success(), "{build} {kernel} went by unseen:\n{text}");
            assert!(text.contains(report), "{build} {kernel}: {report} is due:\n{text}");
            // The same kernel inside its buffers.
            assert!(told(&format!("{build} {kernel} 0"), "0").starts_with("0 "));
        }
    }
}
