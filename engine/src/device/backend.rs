//! The raw operations a runtime offers; the rest of the engine sees only checked ones.

use super::DeviceError;
use std::fmt::Debug;
use std::time::Duration;

/// Threads of every block; `BLOCK_THREADS` in platform.h.
pub(super) const BLOCK_THREADS: u32 = 256;

/// Words of the longest argument structure; every GPU takes 4 KiB.
pub(super) const ARGUMENT_WORDS: usize = 512;

/// A kernel found in the loaded build.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(super) name: &'static str,
    /// Function address (host) or module function handle (GPU).
    pub(super) handle: u64,
    pub(super) argument_bytes: usize,
    /// What its launches ask for beside what every kernel has.
    pub(super) pool: Option<Pool>,
}

impl Kernel {
    /// The name in engine/kernels.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The same kernel, launched with this pool in every block.
    #[must_use]
    pub fn with_pool(&self, pool: Pool) -> Self {
        Self { pool: Some(pool), ..self.clone() }
    }
}

/// Blocks in x and y; every block has 256 threads, or those of the kernel's [`Pool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x.
    pub x: u32,
    /// Blocks in y.
    pub y: u32,
}

/// Shared memory that a launch asks for (`SHARED_POOL` in platform.h), and its blocks' threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Bytes of a block.
    pub bytes: u32,
    /// Threads of a block: at most `WIDE_THREADS` in platform.h.
    pub threads: u32,
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

/// What can change while a device is used, and what a launcher plans by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Multiprocessors or compute units; threads on the host.
    pub multiprocessors: u32,
    /// The largest pool that a launch can ask for; none where no kernel has one.
    pub pool: Option<Pool>,
    /// Memory of the device, if the runtime knows.
    pub memory_total_bytes: Option<u64>,
    /// Memory that is free now.
    pub memory_free_bytes: Option<u64>,
}

/// A runtime. Every backend has one stream: launches and copies happen in the order they were asked
/// for, launches possibly later; copies to the host wait for all launches before them.
pub(super) trait Backend: Send + Sync + Debug {
    /// What this device is.
    fn describe(&self) -> Description;

    /// What a launcher plans by.
    fn attributes(&self) -> Attributes;

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

    /// Copies within the device, in the stream's order.
    ///
    /// # Safety
    /// `bytes` from `source` and from `target` lie in live allocations of this backend, and do not
    /// overlap.
    unsafe fn copy_within(&self, source: u64, target: u64, bytes: u64) -> Result<(), DeviceError>;

    /// Waits until everything asked for has happened; the first error of a launch shows here.
    fn synchronise(&self) -> Result<(), DeviceError>;

    /// How long a wait may take; then [`DeviceError::TimeLimit`].
    fn limit_waits(&self, limit: Option<Duration>);

    /// Marks this point of the stream.
    fn record(&self) -> Result<u64, DeviceError>;

    /// Seconds between two marks, after waiting for the second.
    ///
    /// # Safety
    /// Both came from `record` of this backend and were not released.
    unsafe fn seconds_between(&self, first: u64, second: u64) -> Result<f64, DeviceError>;

    /// Gives a mark back.
    ///
    /// # Safety
    /// It came from `record` of this backend and was not released before.
    unsafe fn release_mark(&self, mark: u64);

    /// From here to `end_capture`, launches are written down and do not happen.
    fn begin_capture(&self) -> Result<(), DeviceError>;

    /// The launches since `begin_capture`, as a graph.
    fn end_capture(&self) -> Result<u64, DeviceError>;

    /// Enqueues all launches of a graph.
    ///
    /// # Safety
    /// The graph is alive, and so is every buffer that its launches were captured with.
    unsafe fn replay(&self, graph: u64) -> Result<(), DeviceError>;

    /// Gives a graph back.
    ///
    /// # Safety
    /// It came from `end_capture` of this backend and was not released before.
    unsafe fn release_graph(&self, graph: u64);

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

impl LaunchFault {
    /// In words, where no launch is at hand that could name the arguments.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Outside { array, index, run, count } => {
                format!("{array:?}: element {index} + {run} of {count}")
            }
            Self::Divergence => "threads part at a barrier or a shuffle".to_owned(),
            Self::Runtime(reason) => reason.clone(),
        }
    }
}
