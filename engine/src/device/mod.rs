//! Devices: memory, copies and launches, every one of them bounds-checked.
//!
//! Invariant: this folder is the only place of the engine, besides the memory-mapped file, that
//! contains `unsafe`, and the only one that speaks to a runtime.
#![expect(unsafe_code, reason = "device memory and kernels are reached by address")]

mod backend;
mod buffer;
mod cuda;
mod error;
mod graph;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod hip;
mod host;
mod launch;
mod memory;
mod probe;
mod sources;
#[cfg(test)]
mod tests;

pub use backend::{Attributes, Description, Grid, Kernel};
pub use buffer::{Buffer, View};
pub use error::DeviceError;
pub use graph::{Graph, Mark};
pub use launch::{Access, Span};
pub use probe::Finding;

use crate::options::{DeviceChoice, HostBuild};
use backend::Backend;
use buffer::CopyCounts;
use bytemuck::Pod;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One opened device.
#[derive(Clone, Debug)]
pub struct Device {
    backend: Arc<dyn Backend>,
    counts: Arc<CopyCounts>,
    capture: Arc<graph::Capture>,
    operations_probed: u64,
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
        match choice {
            DeviceChoice::Auto => Self::open_first(host_build, threads),
            DeviceChoice::Host => {
                Self::probed(Arc::new(host::HostBackend::new(host_build, threads)?))
            }
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            DeviceChoice::Hip(index) => Self::probed(Arc::new(hip::HipBackend::new(index)?)),
            #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
            DeviceChoice::Hip(_) => Err(DeviceError::Missing {
                device: choice.to_string(),
                reason: "HIP is served on Linux and x86-64 only".to_owned(),
                remedy: "use --device host".to_owned(),
            }),
            DeviceChoice::Cuda(index) => Self::probed(Arc::new(cuda::CudaBackend::new(index)?)),
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
        let mut device =
            Self { backend, counts: Arc::default(), capture: Arc::default(), operations_probed: 0 };
        device.operations_probed = probe::probe(&device)?;
        assert_eq!(device.copies_checked(), device.copies_total(), "copies of the probe");
        // The counts that a run shows are of its own copies.
        device.counts = Arc::default();
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
        self.backend.describe()
    }

    /// What a launcher plans by, and how much memory is free.
    pub fn attributes(&self) -> Attributes {
        self.backend.attributes()
    }

    /// Poisoned memory for `count` elements: what nobody writes reads as NaN.
    pub fn allocate<T: Pod>(&self, name: &str, count: u64) -> Result<Buffer, DeviceError> {
        let bytes = count
            .checked_mul(size_of::<T>() as u64)
            .ok_or_else(|| memory::failed(self.backend.as_ref(), name, u64::MAX))?;
        let buffer = Buffer::allocate(&self.backend, &self.counts, name, bytes)?;
        buffer.poison()?;
        Ok(buffer)
    }

    /// Memory that holds a copy of `source`.
    pub fn upload<T: Pod>(&self, name: &str, source: &[T]) -> Result<Buffer, DeviceError> {
        let bytes = size_of_val(source) as u64;
        let buffer = Buffer::allocate(&self.backend, &self.counts, name, bytes)?;
        buffer.all::<T>().write(source)?;
        Ok(buffer)
    }

    /// Finds a kernel by its name in engine/kernels; `A` is its argument structure.
    pub fn kernel<A: Pod>(&self, name: &'static str) -> Result<Kernel, DeviceError> {
        self.backend.kernel(name, size_of::<A>())
    }

    /// Asserts the extents of `accesses`, which stand in the order of the spans in `arguments`,
    /// and enqueues the launch.
    pub fn launch<A: Pod>(
        &self,
        kernel: &Kernel,
        grid: Grid,
        accesses: &[Access],
        arguments: &A,
    ) -> Result<(), DeviceError> {
        if let Some(captured) = self.captured().as_mut() {
            captured.extend(accesses.iter().map(|access| Arc::clone(access.allocation())));
        }
        launch::launch(self.backend.as_ref(), kernel, grid, accesses, arguments)
    }

    /// Copies whose bounds were asserted.
    pub fn copies_checked(&self) -> u64 {
        self.counts.checked.load(Ordering::Relaxed)
    }

    /// Copies asked for.
    pub fn copies_total(&self) -> u64 {
        self.counts.total.load(Ordering::Relaxed)
    }
}
