//! The raw operations a runtime offers; the rest of the engine sees only checked ones.

use super::DeviceError;
use std::fmt::Debug;

/// A kernel found in the loaded build.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(super) name: &'static str,
    /// Function address (host) or module function handle (GPU).
    pub(super) handle: u64,
    pub(super) argument_bytes: usize,
}

impl Kernel {
    /// The name in engine/kernels.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Blocks in x and y; every block has 256 threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x.
    pub x: u32,
    /// Blocks in y.
    pub y: u32,
}

/// What `lockstep devices` and identities say of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The word for `--device`.
    pub device: String,
    /// The product's name, or the CPU's instruction set.
    pub name: String,
    /// Driver or compiler, and the kernels' hash.
    pub build: String,
    /// Lanes that execute together; 1 on the host.
    pub wave_lanes: u32,
}

/// A runtime. Launches may be asynchronous; copies to the host wait for all launches before them.
pub(super) trait Backend: Send + Sync + Debug {
    /// What this device is.
    fn describe(&self) -> Description;

    /// Uninitialised memory of at least `bytes`, aligned to 256; `None` when there is not enough.
    fn allocate(&self, bytes: u64) -> Option<u64>;

    /// Gives memory back.
    ///
    /// # Safety
    /// `address` came from `allocate(bytes)` of this backend and was not freed before.
    unsafe fn free(&self, address: u64, bytes: u64);

    /// Fills device memory with one byte.
    ///
    /// # Safety
    /// `bytes` from `address` lie in one live allocation of this backend.
    unsafe fn fill(&self, address: u64, byte: u8, bytes: u64) -> Result<(), DeviceError>;

    /// Copies from the host.
    ///
    /// # Safety
    /// `source.len()` bytes from `target` lie in one live allocation of this backend.
    unsafe fn copy_in(&self, target: u64, source: &[u8]) -> Result<(), DeviceError>;

    /// Copies to the host after everything launched before has finished.
    ///
    /// # Safety
    /// `target.len()` bytes from `source` lie in one live allocation of this backend.
    unsafe fn copy_out(&self, source: u64, target: &mut [u8]) -> Result<(), DeviceError>;

    /// Finds a kernel by name.
    fn kernel(&self, name: &'static str, argument_bytes: usize) -> Result<Kernel, DeviceError>;

    /// Enqueues one launch. `parallel` is false for work too small to spread over threads.
    ///
    /// # Safety
    /// `kernel` came from this backend, `arguments` has its layout, and every span in it lies in
    /// a live allocation of this backend that holds what the kernel reads and writes for `grid`.
    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: Grid,
        arguments: &[u8],
        parallel: bool,
    ) -> Result<(), LaunchFault>;
}

/// What a backend can say of a failed launch; the launcher adds the kernel's and arguments' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LaunchFault {
    /// An access outside its array.
    Outside { array: FaultArray, index: u64, run: u64, count: u64 },
    /// A barrier or a shuffle that not every thread reached.
    Divergence,
    /// The runtime's own words.
    Runtime(String),
}

/// Which array a bad access named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FaultArray {
    ArgumentAt(u64),
    Shared(String),
}
