//! Guard zones, poison and the launch behind them, each shown to be seen.

use super::*;
use crate::options::HostBuild;

/// Sums of `x` and `branch`, with as many elements as the arguments say and not as declared.
struct Sum<'a> {
    device: &'a Device,
    kernel: Kernel,
    x: Buffer,
    out: Buffer,
}

/// `ResidualArguments` in arguments.h.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Arguments {
    x: Span,
    branch: Span,
    out: Span,
    count: u32,
    unused: u32,
}

impl<'a> Sum<'a> {
    fn new(device: &'a Device) -> Self {
        let kernel = device.kernel::<Arguments>("residual").unwrap();
        let x = device.upload("x", &[1.5_f32; 64]).unwrap();
        Self { device, kernel, x, out: device.allocate::<f32>("out", 48).unwrap() }
    }

    /// Says that it writes `declared` elements, and writes `count`.
    fn launch(&self, declared: u64, count: u32) -> Result<(), DeviceError> {
        self.launch_blocks(declared, count, 1)
    }

    fn launch_blocks(&self, declared: u64, count: u32, blocks: u32) -> Result<(), DeviceError> {
        let accesses = [
            Access::read("x", self.x.all::<f32>(), 64),
            Access::read("branch", self.x.all::<f32>(), 64),
            Access::write("out", self.out.all::<f32>(), declared),
        ];
        let [x, branch, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { x, branch, out, count, unused: 0 };
        self.device.launch(&self.kernel, Grid { x: blocks, y: 1 }, &accesses, &arguments)
    }
}

/// The devices of this machine that have guard zones; none where a sanitizer stands for them.
fn devices() -> Vec<Device> {
    let host = Device::open(DeviceChoice::Host, Some(HostBuild::Baseline), 1).unwrap();
    if !host.is_checking() {
        eprintln!("SKIPPED guard zones: the kernels were built with sanitizers");
        return Vec::new();
    }
    let gpus = [DeviceChoice::Hip(0), DeviceChoice::Cuda(0)];
    let gpus = gpus.into_iter().filter_map(|choice| Device::open(choice, None, 1).ok());
    std::iter::once(host).chain(gpus).collect()
}

#[test]
fn a_write_behind_a_buffer_is_seen_and_named() {
    for device in devices() {
        a_write_behind_a_buffer_is_seen_and_named_on(device);
    }
}

fn a_write_behind_a_buffer_is_seen_and_named_on(device: Device) {
    let sum = Sum::new(&device);
    sum.launch(48, 48).unwrap();
    device.check_guards().unwrap();
    // The kernel writes two elements more than its launcher declared.
    sum.launch(48, 50).unwrap();
    let error = device.check_guards().unwrap_err().to_string();
    let expected = "memory outside every buffer was written: byte 0 behind the end of out";
    assert_eq!(error, expected);
    device.renew_guards().unwrap();
    device.check_guards().unwrap();
    device.set_careful(true);
    sum.launch(48, 48).unwrap();
    let error = sum.launch(48, 50).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{expected}; by the launch of residual of 1 x 1 blocks: x from x [0, 256), branch from \
             x [0, 256), out to out [0, 192)"
        )
    );
}

#[test]
fn zones_lie_between_the_parts_of_an_arena() {
    for device in devices() {
        zones_lie_between_the_parts_of_an_arena_on(device);
    }
}

fn zones_lie_between_the_parts_of_an_arena_on(device: Device) {
    let parts = vec![Part::new::<f32>("q", 5), Part::new::<u8>("k", 3), Part::new::<f32>("v", 7)];
    let (arena, buffers) = device.arena(parts).unwrap();
    let seen = |damage: u64| {
        // SAFETY: the byte is in a guard zone of the arena, which is alive.
        unsafe { device.shared.backend.fill(damage, 0, 1) }.unwrap();
        let error = device.check_guards().unwrap_err().to_string();
        arena.poison().unwrap();
        device.check_guards().unwrap();
        error.split_once(": ").unwrap().1.to_owned()
    };
    let [q, k, v] = [0, 1, 2].map(|index: usize| &buffers[index]);
    assert_eq!(seen(q.address() - 1), "byte 1 before the start of q");
    assert_eq!(seen(q.address() + 20), "byte 0 behind the end of q, 492 before k");
    assert_eq!(seen(k.address() + 3), "byte 0 behind the end of k, 509 before v");
    assert_eq!(seen(v.address() + 28 + 255), "byte 255 behind the end of v");
}

#[test]
fn what_a_launch_leaves_out_is_not_written_and_what_reads_it_is_told_apart() {
    for device in devices() {
        what_a_launch_leaves_out_is_not_written_and_what_reads_it_is_told_apart_on(device);
    }
}

fn what_a_launch_leaves_out_is_not_written_and_what_reads_it_is_told_apart_on(device: Device) {
    let sum = Sum::new(&device);
    // Whatever was there before is not taken for a result.
    sum.launch(48, 48).unwrap();
    sum.launch(48, 40).unwrap();
    let mut values = [0.0_f32; 48];
    sum.out.read(0, &mut values).unwrap();
    assert_eq!((values[39], values[40].to_bits(), values[47].to_bits()), (3.0, u32::MAX, u32::MAX));
    device.set_careful(true);
    let error = sum.launch(48, 40).unwrap_err().to_string();
    assert!(error.starts_with("out [40] was not written, 8 elements in all, by the"), "{error}");
    sum.x.view::<f32>(7, 1).unwrap().poison().unwrap();
    let error = sum.launch(48, 48).unwrap_err().to_string();
    let expected = "out [7] was computed from memory that nobody wrote, 1 elements in all, by the";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn without_checking_there_are_no_zones_and_no_poison() {
    for device in devices() {
        without_checking_there_are_no_zones_and_no_poison_on(device.unchecked());
    }
}

fn without_checking_there_are_no_zones_and_no_poison_on(device: Device) {
    let sum = Sum::new(&device);
    sum.launch(48, 48).unwrap();
    sum.launch(48, 40).unwrap();
    let mut values = [0.0_f32; 48];
    sum.out.read(0, &mut values).unwrap();
    assert_eq!(values, [3.0; 48], "what the first launch left is still there");
    device.check_guards().unwrap();
    assert!(!device.is_checking());
    // Bounds are asserted all the same.
    assert!(matches!(sum.launch(49, 48), Err(DeviceError::Extent { .. })));
    assert!(matches!(sum.out.read(1, &mut values), Err(DeviceError::CopyBounds { .. })));
}

#[test]
fn a_table_of_zones_follows_what_is_allocated_and_freed() {
    for device in devices() {
        a_table_of_zones_follows_what_is_allocated_and_freed_on(device);
    }
}

fn a_table_of_zones_follows_what_is_allocated_and_freed_on(device: Device) {
    for turn in 1..20_u64 {
        let kept = device.allocate::<u8>("kept", turn * 7).unwrap();
        let gone = device.allocate::<u8>("gone", turn).unwrap();
        device.check_guards().unwrap();
        drop(gone);
        device.check_guards().unwrap();
        // SAFETY: the byte is in the guard zone behind a live buffer.
        unsafe { device.shared.backend.fill(kept.address() + turn * 7, 1, 1) }.unwrap();
        let error = device.check_guards().unwrap_err().to_string();
        assert!(error.ends_with("byte 0 behind the end of kept"), "{error}");
    }
}

#[test]
fn a_device_is_freed_when_nobody_holds_it() {
    for device in devices() {
        a_device_is_freed_when_nobody_holds_it_on(device);
    }
}

fn a_device_is_freed_when_nobody_holds_it_on(device: Device) {
    let shared = Arc::downgrade(&device.shared);
    let buffer = device.allocate::<f32>("x", 4).unwrap();
    device.check_guards().unwrap();
    drop(device);
    assert!(shared.upgrade().is_some(), "a buffer holds its device");
    drop(buffer);
    assert!(shared.upgrade().is_none(), "the table of zones holds it no longer");
}

#[test]
fn a_capture_that_panics_leaves_the_device_usable() {
    for device in devices() {
        a_capture_that_panics_leaves_the_device_usable_on(device);
    }
}

fn a_capture_that_panics_leaves_the_device_usable_on(device: Device) {
    let sum = Sum::new(&device);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = device.capture(|| -> Result<(), DeviceError> {
            sum.launch(48, 48)?;
            panic!("planted");
        });
    }));
    assert!(panicked.is_err());
    sum.launch(48, 48).unwrap();
    let mut values = [0.0_f32; 48];
    sum.out.read(0, &mut values).unwrap();
    assert_eq!(values, [3.0; 48]);
    device.capture(|| sum.launch(48, 48)).unwrap().replay().unwrap();
}

/// Names what a process that a test started does: it loses its device.
const SCENARIO: &str = "LOCKSTEP_ILLEGAL_ACCESS";

/// Not a test by itself: writes gigabytes past a buffer of a GPU, and tells what is said.
#[test]
fn scenario() {
    let Ok(careful) = std::env::var(SCENARIO) else { return };
    let device = Device::open(DeviceChoice::Cuda(0), None, 1).unwrap();
    device.set_careful(careful == "careful");
    let sum = Sum::new(&device);
    let launched = sum.launch_blocks(48, u32::MAX, 1 << 20);
    let result = launched.and_then(|()| device.synchronise());
    eprintln!("told: {}", result.unwrap_err());
    // Nothing of the device answers, and nothing panics.
    for answer in [device.check_guards(), sum.out.read(0, &mut [0.0_f32; 4]), device.synchronise()]
    {
        eprintln!("told: {}", answer.unwrap_err());
    }
    assert_eq!(device.attributes().memory_free_bytes, None);
}

#[test]
fn an_illegal_access_on_a_gpu_is_an_error_with_its_launch() {
    if Device::open(DeviceChoice::Cuda(0), None, 1).is_err() {
        eprintln!("SKIPPED an illegal access: no NVIDIA GPU is usable");
        return;
    }
    for (careful, expected) in [
        ("careful", "): the first launch to fail is residual of 1048576 x 1 blocks: x from x [0, "),
        ("late", "waiting for the device failed: CUDA_ERROR_ILLEGAL_ADDRESS"),
    ] {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "device::guard_tests::scenario", "--nocapture"]);
        let output = command.env(SCENARIO, careful).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{careful}:\n{text}");
        let told: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("told: ")).collect();
        assert_eq!(told.len(), 4, "{text}");
        assert!(told[0].contains(expected), "{text}");
        assert!(told[0].contains("ILLEGAL_ADDRESS"), "{text}");
    }
}
