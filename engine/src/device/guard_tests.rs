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
        let accesses = [
            Access::read("x", self.x.all::<f32>(), 64),
            Access::read("branch", self.x.all::<f32>(), 64),
            Access::write("out", self.out.all::<f32>(), declared),
        ];
        let [x, branch, out] = [0, 1, 2].map(|index: usize| accesses[index].span());
        let arguments = Arguments { x, branch, out, count, unused: 0 };
        self.device.launch(&self.kernel, Grid { x: 1, y: 1 }, &accesses, &arguments)
    }
}

/// A device with guard zones; none where a sanitizer stands for them.
fn host() -> Option<Device> {
    let device = Device::open(DeviceChoice::Host, Some(HostBuild::Baseline), 1).unwrap();
    if !device.is_checking() {
        eprintln!("SKIPPED guard zones: the kernels were built with sanitizers");
        return None;
    }
    Some(device)
}

#[test]
fn a_write_behind_a_buffer_is_seen_and_named() {
    let Some(device) = host() else { return };
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
    let Some(device) = host() else { return };
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
    let Some(device) = host() else { return };
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
    let Some(device) = host().map(Device::unchecked) else { return };
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
    let Some(device) = host() else { return };
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
    let Some(device) = host() else { return };
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
    let Some(device) = host() else { return };
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
