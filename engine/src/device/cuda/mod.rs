//! NVIDIA GPUs through the driver's API, loaded at run time; kernels compiled by NVRTC.
//!
//! One card cannot vouch for itself: the same hash on two makers' cards is the strongest evidence
//! there is, and this is the second maker.

mod compile;
mod launch;
mod modules;
#[cfg(test)]
mod tests;

use super::backend::{Attributes, Backend, Description, Grid, Kernel, LaunchFault, Pool};
use super::error::DeviceError;
use super::limit::Limit;
use cudarc::driver::{result, sys};
use modules::Modules;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Memory of the host that the device reads and writes directly: the way of every copy to the host.
const STAGING_BYTES: usize = 4 << 20;

/// The most blocks of a grid's second dimension.
const GRID_Y_LARGEST: u32 = 65_535;

/// The oldest driver whose functions are all used; it says the size of a kernel's arguments.
const DRIVER_OLDEST: i32 = 12_040;

/// The device `cuda:N`.
#[derive(Debug)]
pub(super) struct CudaBackend {
    index: usize,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    name: String,
    driver: i32,
    multiprocessors: u32,
    modules: Modules,
    staging: Mutex<Staging>,
    limit: Limit,
}

#[derive(Debug)]
struct Staging(*mut c_void);

// SAFETY: handles of the driver's API and a pointer to pinned memory are valid on every thread; the
// driver locks what it shares, and `staging` is behind a mutex.
unsafe impl Send for CudaBackend {}
// SAFETY: as above.
unsafe impl Sync for CudaBackend {}

fn missing(index: usize, reason: String, remedy: &str) -> DeviceError {
    DeviceError::Missing { device: format!("cuda:{index}"), reason, remedy: remedy.to_owned() }
}

fn failed(operation: &str, error: result::DriverError) -> DeviceError {
    DeviceError::Runtime { operation: operation.to_owned(), reason: words(error) }
}

fn words(error: result::DriverError) -> String {
    let name = error
        .error_name()
        .map_or_else(|_| format!("{:?}", error.0), |name| name.to_string_lossy().into_owned());
    match error.error_string() {
        Ok(text) => format!("{name} ({})", text.to_string_lossy()),
        Err(_) => name,
    }
}

impl CudaBackend {
    /// Opens GPU number `index`; a fault is the number of one that its kernels have.
    pub(super) fn new(index: usize, fault: Option<u32>) -> Result<Self, DeviceError> {
        // SAFETY: it only tries to open libraries by their names.
        if !unsafe { sys::is_culib_present() } {
            let reason = "libcuda.so is not on this machine".to_owned();
            return Err(missing(index, reason, "install NVIDIA's driver, or use --device host"));
        }
        if !compile::present() {
            let reason = "libnvrtc.so, which compiles the kernels, was not found".to_owned();
            let remedy = "install the CUDA toolkit's NVRTC and put its folder into LD_LIBRARY_PATH";
            return Err(missing(index, reason, remedy));
        }
        let refused = |error| missing(index, words(error), "use --device host");
        let mut driver = 0;
        // SAFETY: the pointer is of a local.
        unsafe { sys::cuDriverGetVersion(&raw mut driver) }.result().map_err(refused)?;
        if driver < DRIVER_OLDEST {
            let version = format!("{}.{}", driver / 1000, driver % 1000 / 10);
            let reason = format!("the driver serves CUDA {version}, and 12.4 is needed");
            return Err(missing(index, reason, "install a newer driver, or use --device host"));
        }
        result::init().map_err(refused)?;
        let count = result::device::get_count().map_err(refused)?;
        if index >= usize::try_from(count).unwrap_or(0) {
            let reason = format!("there are {count} NVIDIA GPUs");
            return Err(missing(index, reason, "give a smaller number, or use --device host"));
        }
        let ordinal = i32::try_from(index).expect("it is below a count in i32");
        let device = result::device::get(ordinal).map_err(refused)?;
        Self::on(index, device, driver, fault).map_err(refused)
    }

    fn on(
        index: usize,
        device: sys::CUdevice,
        driver: i32,
        fault: Option<u32>,
    ) -> Result<Self, result::DriverError> {
        use sys::CUdevice_attribute_enum as Attribute;
        // SAFETY: the device came from the driver.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let pool = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        // SAFETY: the device came from the driver.
        let context = unsafe { result::primary_ctx::retain(device) }?;
        // SAFETY: the context was retained above.
        unsafe { result::ctx::set_current(context) }?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        // SAFETY: a context is current; no flag asks for more than pinned memory.
        let staging = unsafe { result::malloc_host(STAGING_BYTES, 0) }?;
        Ok(Self {
            index,
            device,
            context,
            stream,
            name: format!("{}, sm_{major}{minor}", result::device::get_name(device)?),
            driver,
            multiprocessors: u32::try_from(multiprocessors).unwrap_or(1),
            modules: Modules::new((major, minor), fault, u32::try_from(pool).unwrap_or(0)),
            staging: Mutex::new(Staging(staging)),
            limit: Limit::default(),
        })
    }

    /// Makes the context current on this thread; without it no call means anything.
    fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: the context is retained as long as this value lives.
        let entered = unsafe { result::ctx::set_current(self.context) };
        entered.map_err(|error| failed("entering the device's context", error))
    }

    fn wait(&self) -> Result<(), DeviceError> {
        match self.limit.get() {
            Some(limit) => limit.wait(|| {
                // SAFETY: the stream is this value's own.
                let finished = unsafe { sys::cuStreamQuery(self.stream) };
                match finished {
                    sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
                    code => code
                        .result()
                        .map(|()| true)
                        .map_err(|error| failed("waiting for the device", error)),
                }
            }),
            None => {
                // SAFETY: the stream is this value's own.
                let waited = unsafe { result::stream::synchronize(self.stream) };
                waited.map_err(|error| failed("waiting for the device", error))
            }
        }
    }
}

impl Drop for CudaBackend {
    fn drop(&mut self) {
        if self.limit.has_passed() || self.enter().is_err() {
            // The context is lost, and everything that it had with it.
            return;
        }
        self.modules.unload();
        let staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner).0;
        // SAFETY: it came from `malloc_host`, and nothing uses it any more.
        let _ = unsafe { result::free_host(staging) };
        // SAFETY: the stream is this value's own, and it ends here.
        let _ = unsafe { result::stream::destroy(self.stream) };
        // SAFETY: it was retained once, in `on`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Backend for CudaBackend {
    fn describe(&self) -> Description {
        let fault = self.modules.fault;
        let planted = fault.map_or_else(String::new, |number| format!(", fault {number}"));
        Description {
            device: format!("cuda:{}", self.index),
            name: self.name.clone(),
            build: format!(
                "kernels {}, {}{planted}, driver {}.{}",
                env!("LOCKSTEP_KERNELS_HASH"),
                compile::version(),
                self.driver / 1000,
                self.driver % 1000 / 10
            ),
            wave_lanes: 32,
        }
    }

    fn attributes(&self) -> Attributes {
        let memory = self.enter().ok().and_then(|()| result::mem_get_info().ok());
        Attributes {
            multiprocessors: self.multiprocessors,
            pool: Some(Pool { bytes: self.modules.pool_bytes, threads: launch::POOL_THREADS }),
            memory_total_bytes: memory.map(|(_, total)| total as u64),
            memory_free_bytes: memory.map(|(free, _)| free as u64),
        }
    }

    fn allocate(&self, bytes: u64) -> Option<u64> {
        self.enter().ok()?;
        let bytes = usize::try_from(bytes.max(1)).ok()?;
        // SAFETY: a context is current.
        unsafe { result::malloc_sync(bytes) }.ok()
    }

    unsafe fn free(&self, address: u64, _bytes: u64) {
        // Launches may still use it.
        if self.limit.has_passed() || self.enter().is_err() || self.wait().is_err() {
            return;
        }
        // SAFETY: the caller gives back what `allocate` returned, once.
        let _ = unsafe { result::free_sync(address) };
    }

    unsafe fn fill(&self, address: u64, byte: u8, bytes: u64) -> Result<(), DeviceError> {
        self.enter()?;
        let count = usize::try_from(bytes).expect("an allocation's size fits usize");
        // SAFETY: the caller's range lies in one live allocation.
        let filled = unsafe { result::memset_d8_async(address, byte, count, self.stream) };
        filled.map_err(|error| failed("filling memory", error))
    }

    unsafe fn copy_in(&self, target: u64, source: &[u8]) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller's range lies in one live allocation. The source is ordinary memory:
        // the driver has read it when the call returns.
        let copied = unsafe { result::memcpy_htod_async(target, source, self.stream) };
        copied.map_err(|error| failed("a copy to the device", error))
    }

    unsafe fn copy_out(&self, source: u64, target: &mut [u8]) -> Result<(), DeviceError> {
        self.enter()?;
        let staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, piece) in target.chunks_mut(STAGING_BYTES).enumerate() {
            // SAFETY: a piece is no longer than the staging memory, which the mutex gives to this
            // call alone.
            let staged =
                unsafe { std::slice::from_raw_parts_mut(staging.0.cast::<u8>(), piece.len()) };
            let address = source + (index * STAGING_BYTES) as u64;
            // SAFETY: the caller's range lies in one live allocation; the copy is waited for below,
            // before anybody reads what it brings.
            unsafe { result::memcpy_dtoh_async(staged, address, self.stream) }
                .map_err(|error| failed("a copy to the host", error))?;
            self.wait()?;
            piece.copy_from_slice(staged);
        }
        Ok(())
    }

    unsafe fn copy_within(&self, source: u64, target: u64, bytes: u64) -> Result<(), DeviceError> {
        self.enter()?;
        let count = usize::try_from(bytes).expect("an allocation's size fits usize");
        // SAFETY: the caller's ranges lie in live allocations and do not overlap.
        let copied = unsafe { result::memcpy_dtod_async(target, source, count, self.stream) };
        copied.map_err(|error| failed("a copy on the device", error))
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.enter()?;
        self.wait()
    }

    fn limit_waits(&self, limit: Option<Duration>) {
        self.limit.set(limit);
    }

    fn record(&self) -> Result<u64, DeviceError> {
        self.enter()?;
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let event = result::event::create(flags).map_err(|error| failed("a mark", error))?;
        // SAFETY: event and stream are alive.
        unsafe { result::event::record(event, self.stream) }
            .map_err(|error| failed("a mark", error))?;
        Ok(event as usize as u64)
    }

    unsafe fn seconds_between(&self, first: u64, second: u64) -> Result<f64, DeviceError> {
        self.enter()?;
        let event = |handle: u64| handle as usize as sys::CUevent;
        // SAFETY: the caller's marks are alive.
        unsafe { result::event::synchronize(event(second)) }
            .map_err(|error| failed("waiting for a mark", error))?;
        // SAFETY: as above.
        let milliseconds = unsafe { result::event::elapsed(event(first), event(second)) }
            .map_err(|error| failed("the time between marks", error))?;
        Ok(f64::from(milliseconds) * 1e-3)
    }

    unsafe fn release_mark(&self, mark: u64) {
        if self.enter().is_err() {
            return;
        }
        // SAFETY: the caller gives back what `record` returned, once.
        let _ = unsafe { result::event::destroy(mark as usize as sys::CUevent) };
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is this value's own.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| failed("the begin of a capture", error))
    }

    fn end_capture(&self) -> Result<u64, DeviceError> {
        self.enter()?;
        // SAFETY: the stream is this value's own.
        let graph = unsafe { result::stream::end_capture(self.stream) }
            .map_err(|error| failed("the end of a capture", error))?;
        let mut executable = std::ptr::null_mut();
        // SAFETY: the graph was captured above; the pointer is of a local.
        let made = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut executable, graph, 0) };
        // SAFETY: the executable graph has its own copy.
        let _ = unsafe { result::graph::destroy(graph) };
        made.result().map_err(|error| failed("making a graph", error))?;
        Ok(executable as usize as u64)
    }

    unsafe fn replay(&self, graph: u64) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller's graph and its buffers are alive.
        unsafe { result::graph::launch(graph as usize as sys::CUgraphExec, self.stream) }
            .map_err(|error| failed("the launch of a graph", error))
    }

    unsafe fn release_graph(&self, graph: u64) {
        if self.limit.has_passed() || self.enter().is_err() {
            return;
        }
        // SAFETY: the caller gives back what `end_capture` returned, once.
        let _ = unsafe { result::graph::exec_destroy(graph as usize as sys::CUgraphExec) };
    }

    fn kernel(&self, name: &'static str, argument_bytes: usize) -> Result<Kernel, DeviceError> {
        self.modules.find(name, argument_bytes)
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: Grid,
        arguments: &[u8],
        _parallel: bool,
    ) -> Result<(), LaunchFault> {
        self.enter().map_err(|error| LaunchFault::Runtime(error.to_string()))?;
        if grid.y > GRID_Y_LARGEST {
            let words = format!("{} blocks in y, CUDA serves {GRID_Y_LARGEST}", grid.y);
            return Err(LaunchFault::Runtime(words));
        }
        let function = self.modules.function(kernel).map_err(LaunchFault::Runtime)?;
        let overlap = self.modules.overlaps(kernel.name());
        // SAFETY: the function is of a loaded module; the caller vouches for the arguments.
        let launched =
            unsafe { launch::enqueue(function, kernel, grid, arguments, (self.stream, overlap)) };
        launched.map_err(|error| LaunchFault::Runtime(words(error)))
    }
}
