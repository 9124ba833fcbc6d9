//! Devices: memory, copies and launches, every one of them bounds-checked.
//!
//! Invariant: this folder is the only place of the engine, besides the memory-mapped file, that
//! contains `unsafe`, and the only one that speaks to a runtime.
#![expect(unsafe_code, reason = "device memory and kernels are reached by address")]

mod backend;
mod buffer;
mod careful;
mod copy;
mod cuda;
mod error;
#[cfg(test)]
mod gate_tests;
mod graph;
#[cfg(test)]
mod guard_tests;
mod guards;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod hip;
mod host;
mod launch;
mod limit;
mod memory;
mod moment;
mod probe;
mod pulse;
mod shared;
mod sources;
#[cfg(test)]
mod tests;

pub use backend::{Attributes, Description, Grid, Kernel, Pool};
pub use buffer::{Arena, Buffer, View};
pub use careful::{ArgumentFacts, LaunchFacts};
pub use error::DeviceError;
pub use graph::{Graph, Mark};
pub use launch::{Access, Span};
pub use moment::{At, Moment, PassPhase};
pub use probe::Finding;
pub use pulse::{InFlight, Pulse};

use crate::options::{DeviceChoice, HostBuild};
use backend::Backend;
use buffer::{Use, Wanted};
use bytemuck::Pod;
use shared::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One opened device.
#[derive(Clone, Debug)]
pub struct Device {
    shared: Arc<Shared>,
    operations_probed: u64,
}

/// A buffer as it is asked for.
#[derive(Clone, Debug)]
pub struct Part(Wanted);

impl Part {
    /// `count` elements of `T` under a name.
    pub fn new<T: Pod>(name: impl Into<String>, count: u64) -> Self {
        let element_bytes = size_of::<T>() as u64;
        let bytes = count.saturating_mul(element_bytes);
        Self(Wanted { name: name.into(), bytes, element_bytes })
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }
}

impl Device {
    /// Opens a device and probes its arithmetic.
    ///
    /// # Errors
    /// [`DeviceError::Missing`] with the reason and the remedy, [`DeviceError::Refused`] with the
    /// first operation whose bits are not those of CONTRACT.md.
    pub fn open(
        choice: DeviceChoice,
        host_build: Option<HostBuild>,
        threads: usize,
    ) -> Result<Self, DeviceError> {
        Self::open_planted(choice, host_build, threads, None)
    }

    /// As [`Device::open`], with the fault of this number in engine/kernels/faults.toml. The device
    /// that is chosen by itself is then the host.
    pub(crate) fn open_planted(
        choice: DeviceChoice,
        host_build: Option<HostBuild>,
        threads: usize,
        fault: Option<u32>,
    ) -> Result<Self, DeviceError> {
        let host_build = fault.map(|number| HostBuild::faulty(host_build, number)).or(host_build);
        match choice {
            DeviceChoice::Auto => Self::open_first(host_build, threads),
            DeviceChoice::Host => {
                Self::probed(Arc::new(host::HostBackend::new(host_build, threads)?))
            }
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            DeviceChoice::Hip(index) => Self::probed(Arc::new(hip::HipBackend::new(index, fault)?)),
            #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
            DeviceChoice::Hip(_) => Err(DeviceError::Missing {
                device: choice.to_string(),
                reason: "HIP is served on Linux and x86-64 only".to_owned(),
                remedy: "use --device host".to_owned(),
            }),
            DeviceChoice::Cuda(index) => {
                Self::probed(Arc::new(cuda::CudaBackend::new(index, fault)?))
            }
        }
    }

    /// The first usable device of hip, cuda, host; a host build that was asked for is of the host.
    fn open_first(host_build: Option<HostBuild>, threads: usize) -> Result<Self, DeviceError> {
        let gpus = [DeviceChoice::Hip(0), DeviceChoice::Cuda(0)];
        for choice in gpus.into_iter().filter(|_| host_build.is_none()) {
            match Self::open(choice, None, threads) {
                Err(DeviceError::Missing { .. }) => {}
                // One that is there and is refused is no reason to look away.
                other => return other,
            }
        }
        Self::open(DeviceChoice::Host, host_build, threads)
    }

    /// Every backend becomes a device here, after the probe or not at all.
    fn probed(backend: Arc<dyn Backend>) -> Result<Self, DeviceError> {
        let mut device = Self { shared: Arc::new(Shared::new(backend)), operations_probed: 0 };
        device.operations_probed = probe::probe(&device)?;
        assert_eq!(device.copies_checked(), device.copies_total(), "copies of the probe");
        // The counts that a run shows are of its own copies.
        device.shared.copies.forget();
        Ok(device)
    }

    /// Operations whose bits were compared when the device was opened.
    pub fn operations_probed(&self) -> u64 {
        self.operations_probed
    }

    /// The host builds that this CPU can run.
    pub fn usable_host_builds() -> Vec<HostBuild> {
        HostBuild::ALL.into_iter().filter(|build| host::usable(*build)).collect()
    }

    /// What this device is.
    pub fn describe(&self) -> Description {
        self.shared.backend.describe()
    }

    /// What a launcher plans by, and how much memory is free.
    pub fn attributes(&self) -> Attributes {
        self.shared.backend.attributes()
    }

    /// Leaves guard zones and poison away from here on: for measurements of speed. Bounds of copies
    /// and launches are asserted all the same.
    #[must_use]
    pub fn unchecked(self) -> Self {
        self.shared.checking.store(false, Ordering::Relaxed);
        self
    }

    /// Whether there are guard zones and poison.
    pub fn is_checking(&self) -> bool {
        self.shared.checks()
    }

    /// How long a wait may take before it is an error; without a limit it may take for ever. The
    /// device `host` computes inside a launch and has no waits.
    pub fn limit_waits(&self, limit: Option<Duration>) {
        self.shared.backend.limit_waits(limit);
    }

    /// What is in flight, for another thread.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.shared.pulse)
    }

    /// Says where the run is; refusals repeat it.
    pub fn set_moment(&self, moment: Option<Moment>) {
        self.shared.pulse.set_moment(moment);
    }

    /// Poisoned memory for `count` elements: what nobody writes reads as NaN.
    ///
    /// # Errors
    /// [`DeviceError::Allocation`].
    pub fn allocate<T: Pod>(&self, name: &str, count: u64) -> Result<Buffer, DeviceError> {
        self.allocate_part(Part::new::<T>(name, count))
    }

    /// As [`Device::allocate`].
    ///
    /// # Errors
    /// [`DeviceError::Allocation`].
    pub fn allocate_part(&self, Part(wanted): Part) -> Result<Buffer, DeviceError> {
        let (_, mut buffers) = buffer::allocate(&self.shared, &[wanted], Use::Plain)?;
        Ok(buffers.pop().expect("one buffer was wanted"))
    }

    /// Memory that holds a copy of `source`.
    ///
    /// # Errors
    /// [`DeviceError::Allocation`], or the runtime's.
    pub fn upload<T: Pod>(&self, name: &str, source: &[T]) -> Result<Buffer, DeviceError> {
        let buffer = self.allocate::<T>(name, source.len() as u64)?;
        buffer.write(0, source)?;
        Ok(buffer)
    }

    /// Several buffers in one piece of memory, which are poisoned together.
    ///
    /// # Errors
    /// [`DeviceError::Allocation`].
    pub fn arena(&self, parts: Vec<Part>) -> Result<(Arena, Vec<Buffer>), DeviceError> {
        let wanted: Vec<Wanted> = parts.into_iter().map(|Part(wanted)| wanted).collect();
        let (memory, buffers) = buffer::allocate(&self.shared, &wanted, Use::Arena)?;
        Ok((Arena::new(memory), buffers))
    }

    /// Finds a kernel by its name in engine/kernels; `A` is its argument structure.
    pub fn kernel<A: Pod>(&self, name: &'static str) -> Result<Kernel, DeviceError> {
        self.shared.backend.kernel(name, size_of::<A>())
    }

    /// Asserts the extents of `accesses`, which stand in the order of the spans in `arguments`,
    /// and enqueues the launch.
    ///
    /// # Errors
    /// [`DeviceError::Extent`] and its neighbours before anything runs, then the runtime's.
    pub fn launch<A: Pod>(
        &self,
        kernel: &Kernel,
        grid: Grid,
        accesses: &[Access],
        arguments: &A,
    ) -> Result<(), DeviceError> {
        let arguments = bytemuck::bytes_of(arguments);
        if let Some(captured) = self.shared.captured().as_mut() {
            captured.extend(accesses.iter().map(|access| Arc::clone(&access.allocation)));
        } else if self.is_careful() {
            return self.launch_carefully(kernel, grid, accesses, arguments);
        }
        launch::launch(&self.shared, kernel, grid, accesses, arguments)
    }

    /// Copies whose bounds were asserted.
    pub fn copies_checked(&self) -> u64 {
        self.shared.copies.checked.load(Ordering::Relaxed)
    }

    /// Copies asked for.
    pub fn copies_total(&self) -> u64 {
        self.shared.copies.total.load(Ordering::Relaxed)
    }

    /// Bytes of the copies that were let through.
    pub fn copied_bytes(&self) -> u64 {
        self.shared.copies.bytes.load(Ordering::Relaxed)
    }
}
