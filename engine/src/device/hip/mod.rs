//! The device `hip`: an AMD GPU with waves of 64 lanes, through HIP 5.4 to 7.
//!
//! One stream, launches and copies in its order. Copies go through pinned memory, so that no copy
//! depends on how the runtime treats pageable memory. The error of a call is returned by that call.

mod api;
mod handle;
mod objects;
mod open;
mod rtc;
mod staging;
#[cfg(test)]
mod tests;

use super::backend::{
    ARGUMENT_WORDS, Attributes, BLOCK_THREADS, Backend, Description, Grid, Kernel, LaunchFault,
};
use super::error::DeviceError;
use super::host;
use super::limit::Limit;
use api::{Api, Refusal};
use handle::Handle;
use hip_sys::hiprt::{
    hipEvent_t, hipFunction_t, hipGraph_t, hipGraphExec, hipGraphExec_t, hipStreamCaptureMode,
    ihipEvent_t, ihipModuleSymbol_t, ihipStream_t,
};
use objects::Loaded;
use staging::Staging;
use std::collections::BTreeSet;
use std::ffi::{CString, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// `HIP_LAUNCH_PARAM_BUFFER_POINTER`, `_BUFFER_SIZE` and `_END`: macros, which hip-sys has not.
const LAUNCH_BUFFER: usize = 1;
const LAUNCH_BUFFER_BYTES: usize = 2;
const LAUNCH_END: usize = 3;

/// `hipErrorNotReady`: no error, work is still under way.
const NOT_READY: u32 = 600;

/// HIP counts the threads of a dimension in 32 bits.
const GRID_X_LARGEST: u32 = u32::MAX / BLOCK_THREADS;

/// An opened AMD GPU.
#[derive(Debug)]
pub(super) struct HipBackend {
    api: &'static Api,
    index: c_int,
    stream: Handle<ihipStream_t>,
    code: Option<Loaded>,
    staging: Mutex<Staging>,
    limit: Limit,
    /// Copies do not belong into a graph.
    capturing: AtomicBool,
    /// Warnings that were given.
    warned: Mutex<BTreeSet<String>>,
    description: Description,
    multiprocessors: u32,
}

impl HipBackend {
    /// The device is chosen for each thread; every call that concerns it begins here.
    fn bind(&self) -> Result<(), Refusal> {
        // SAFETY: the function takes any number.
        let code = unsafe { (self.api.set_device)(self.index) };
        self.api.check("hipSetDevice", code)
    }

    fn wait(&self) -> Result<(), DeviceError> {
        self.bind()?;
        if let Some(limit) = self.limit.get() {
            limit.wait(|| -> Result<bool, DeviceError> {
                // SAFETY: the stream is this backend's, alive.
                let code = unsafe { (self.api.stream_query)(self.stream.0) };
                if code == NOT_READY {
                    return Ok(false);
                }
                Ok(self.api.check("hipStreamQuery", code).map(|()| true)?)
            })?;
        }
        // SAFETY: the stream is this backend's, alive.
        let code = unsafe { (self.api.stream_synchronize)(self.stream.0) };
        Ok(self.api.check("hipStreamSynchronize", code)?)
    }

    /// A free of what is not used any more: what goes wrong is said, and the work goes on.
    fn released(&self, call: &'static str, code: u32) {
        if let Err(refusal) = self.api.check(call, code) {
            self.warn(refusal.sentence());
        }
    }

    /// Says something once: a device that is lost refuses to take anything back.
    fn warn(&self, words: String) {
        let line = format!("warning: {}: {words}", self.description.device);
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if !warned.contains(&line) {
            eprintln!("{line}");
            warned.insert(line);
        }
    }

    /// Waits before something is given back; what goes wrong is said, and the work goes on.
    fn wait_or_warn(&self) {
        if let Err(error) = self.wait() {
            self.warn(error.to_string());
        }
    }

    fn staging(&self) -> MutexGuard<'_, Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what would be captured though it is no launch.
    fn no_capture(&self, operation: &str) -> Result<(), DeviceError> {
        if !self.capturing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let reason = "launches are being captured".to_owned();
        Err(DeviceError::Runtime { operation: operation.to_owned(), reason })
    }
}

impl Backend for HipBackend {
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn attributes(&self) -> Attributes {
        let (mut free, mut total) = (0_usize, 0_usize);
        let known = self.bind().is_ok() && {
            // SAFETY: both results are locals.
            let code = unsafe { (self.api.memory_info)(&raw mut free, &raw mut total) };
            code == 0
        };
        Attributes {
            multiprocessors: self.multiprocessors,
            // No kernel that AMD runs asks for one.
            pool: None,
            memory_total_bytes: known.then_some(total as u64),
            memory_free_bytes: known.then_some(free as u64),
        }
    }

    fn allocate(&self, bytes: u64) -> Option<u64> {
        let bytes = usize::try_from(bytes.max(1)).ok()?;
        self.bind().ok()?;
        let mut pointer: *mut c_void = std::ptr::null_mut();
        // SAFETY: the result is a local.
        let code = unsafe { (self.api.malloc)(&raw mut pointer, bytes) };
        let address = Handle(pointer).number();
        if code != 0 || address == 0 {
            return None;
        }
        assert_eq!(address % 256, 0, "HIP aligns memory to 256 bytes");
        Some(address)
    }

    unsafe fn free(&self, address: u64, _bytes: u64) {
        if self.limit.has_passed() {
            return;
        }
        // A launch may still use it: runtimes wait, this does not rely on it.
        if !self.capturing.load(Ordering::Relaxed) {
            self.wait_or_warn();
        }
        // SAFETY: the caller gives back what `allocate` returned, once.
        let code = unsafe { (self.api.free)(Handle::from_number(address).0) };
        self.released("hipFree", code);
    }

    unsafe fn fill(&self, address: u64, byte: u8, bytes: u64) -> Result<(), DeviceError> {
        self.no_capture("fill of memory")?;
        self.bind()?;
        let count = usize::try_from(bytes).expect("an allocation's size fits usize");
        if count == 0 {
            return Ok(());
        }
        let target = Handle::from_number(address).0;
        // SAFETY: the caller's range lies in one live allocation of this device.
        let code = unsafe { (self.api.fill)(target, byte, count, self.stream.0) };
        Ok(self.api.check("hipMemsetD8Async", code)?)
    }

    unsafe fn copy_in(&self, target: u64, source: &[u8]) -> Result<(), DeviceError> {
        self.no_capture("copy to the device")?;
        self.bind()?;
        // SAFETY: the caller's range lies in one live allocation of this device.
        unsafe { self.staging().copy_in(self, target, source) }
    }

    unsafe fn copy_out(&self, source: u64, target: &mut [u8]) -> Result<(), DeviceError> {
        self.no_capture("copy to the host")?;
        self.bind()?;
        // SAFETY: the caller's range lies in one live allocation of this device.
        unsafe { self.staging().copy_out(self, source, target) }
    }

    unsafe fn copy_within(&self, source: u64, target: u64, bytes: u64) -> Result<(), DeviceError> {
        self.no_capture("copy on the device")?;
        self.bind()?;
        let count = usize::try_from(bytes).expect("an allocation's size fits usize");
        let [source, target] = [source, target].map(|address| Handle::from_number(address).0);
        // SAFETY: the caller's ranges lie in live allocations of this device and are apart.
        let code = unsafe { (self.api.copy_within)(target, source, count, self.stream.0) };
        Ok(self.api.check("hipMemcpyDtoDAsync", code)?)
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.wait()
    }

    fn limit_waits(&self, limit: Option<Duration>) {
        self.limit.set(limit);
    }

    fn record(&self) -> Result<u64, DeviceError> {
        self.bind()?;
        let mut event: hipEvent_t = std::ptr::null_mut();
        // SAFETY: the result is a local.
        let code = unsafe { (self.api.event_create)(&raw mut event) };
        self.api.check("hipEventCreate", code)?;
        // SAFETY: the event was made above, the stream is alive.
        let code = unsafe { (self.api.event_record)(event, self.stream.0) };
        self.api.check("hipEventRecord", code)?;
        Ok(Handle(event).number())
    }

    unsafe fn seconds_between(&self, first: u64, second: u64) -> Result<f64, DeviceError> {
        self.bind()?;
        let [first, second] = [first, second].map(Handle::<ihipEvent_t>::from_number);
        // SAFETY: the caller vouches for the event.
        let code = unsafe { (self.api.event_synchronize)(second.0) };
        self.api.check("hipEventSynchronize", code)?;
        let mut milliseconds = 0.0_f32;
        // SAFETY: the caller vouches for both events; the result is a local.
        let code = unsafe { (self.api.event_elapsed)(&raw mut milliseconds, first.0, second.0) };
        self.api.check("hipEventElapsedTime", code)?;
        Ok(f64::from(milliseconds) * 1e-3)
    }

    unsafe fn release_mark(&self, mark: u64) {
        // SAFETY: the caller gives back an event of `record`, once.
        let code = unsafe { (self.api.event_destroy)(Handle::from_number(mark).0) };
        self.released("hipEventDestroy", code);
    }

    fn begin_capture(&self) -> Result<(), DeviceError> {
        self.bind()?;
        // Relaxed: nothing that another thread does on this device can end the capture.
        let mode = hipStreamCaptureMode::hipStreamCaptureModeRelaxed;
        // SAFETY: the stream is alive.
        let code = unsafe { (self.api.begin_capture)(self.stream.0, mode) };
        self.api.check("hipStreamBeginCapture", code)?;
        self.capturing.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn end_capture(&self) -> Result<u64, DeviceError> {
        self.capturing.store(false, Ordering::Relaxed);
        self.bind()?;
        let mut graph: hipGraph_t = std::ptr::null_mut();
        // SAFETY: the stream is alive; the result is a local.
        let code = unsafe { (self.api.end_capture)(self.stream.0, &raw mut graph) };
        self.api.check("hipStreamEndCapture", code)?;
        let mut launchable: hipGraphExec_t = std::ptr::null_mut();
        let none = std::ptr::null_mut();
        let instantiate = self.api.graph_instantiate;
        // SAFETY: the graph was made above; no log is asked for.
        let code = unsafe { instantiate(&raw mut launchable, graph, none, none.cast(), 0) };
        // SAFETY: the graph was made above; what was instantiated is a copy of its own.
        let destroyed = unsafe { (self.api.graph_destroy)(graph) };
        self.released("hipGraphDestroy", destroyed);
        self.api.check("hipGraphInstantiate", code)?;
        Ok(Handle(launchable).number())
    }

    unsafe fn replay(&self, graph: u64) -> Result<(), DeviceError> {
        self.bind()?;
        let graph = Handle::<hipGraphExec>::from_number(graph);
        // SAFETY: the caller vouches for the graph and for the memory of its launches.
        let code = unsafe { (self.api.graph_launch)(graph.0, self.stream.0) };
        Ok(self.api.check("hipGraphLaunch", code)?)
    }

    unsafe fn release_graph(&self, graph: u64) {
        if self.limit.has_passed() {
            return;
        }
        // A replay may still run.
        self.wait_or_warn();
        // SAFETY: the caller gives back a graph of `end_capture`, once.
        let code = unsafe { (self.api.graph_exec_destroy)(Handle::from_number(graph).0) };
        self.released("hipGraphExecDestroy", code);
    }

    fn kernel(&self, name: &'static str, argument_bytes: usize) -> Result<Kernel, DeviceError> {
        let code = self.code.as_ref().expect("an opened device has code");
        let error = |reason: String| {
            let (kernel, build) = (name.to_owned(), code.build.clone());
            DeviceError::Kernel { kernel, build, reason }
        };
        // The sources are those of the host's builds, and a runtime tells no sizes.
        match host::argument_bytes(name) {
            Some(bytes) if bytes == argument_bytes as u64 => {}
            Some(bytes) => {
                return Err(error(format!("{bytes} argument bytes, not {argument_bytes}")));
            }
            None => return Err(error("no kernel of that name".to_owned())),
        }
        let text = CString::new(name).map_err(|fault| error(fault.to_string()))?;
        self.bind()?;
        let mut function: hipFunction_t = std::ptr::null_mut();
        let find = self.api.module_function;
        // SAFETY: the module is alive, the name ends with a zero, the result is a local.
        let found = unsafe { find(&raw mut function, code.module.0, text.as_ptr()) };
        self.api
            .check("hipModuleGetFunction", found)
            .map_err(|refusal| error(refusal.sentence()))?;
        let handle = Handle(function).number();
        Ok(Kernel { name, handle, argument_bytes, pool: None })
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: Grid,
        arguments: &[u8],
        _parallel: bool,
    ) -> Result<(), LaunchFault> {
        self.bind().map_err(|refusal| LaunchFault::Runtime(refusal.sentence()))?;
        if grid.x > GRID_X_LARGEST {
            let words = format!("{} blocks in x, HIP serves {GRID_X_LARGEST}", grid.x);
            return Err(LaunchFault::Runtime(words));
        }
        let function = Handle::<ihipModuleSymbol_t>::from_number(kernel.handle);
        let mut words = [0_u64; ARGUMENT_WORDS];
        bytemuck::cast_slice_mut(&mut words)[..arguments.len()].copy_from_slice(arguments);
        let mut bytes = arguments.len();
        let mut extra: [*mut c_void; 5] = [
            std::ptr::without_provenance_mut(LAUNCH_BUFFER),
            (&raw mut words).cast(),
            std::ptr::without_provenance_mut(LAUNCH_BUFFER_BYTES),
            (&raw mut bytes).cast(),
            std::ptr::without_provenance_mut(LAUNCH_END),
        ];
        let (launch, stream) = (self.api.launch, self.stream.0);
        let (none, extra) = (std::ptr::null_mut(), extra.as_mut_ptr());
        let Grid { x, y } = grid;
        // SAFETY: the function is of this backend's module; `extra` names `bytes` bytes of
        // arguments in the kernel's layout, which the runtime copies before it returns; the caller
        // vouches for the memory that they name.
        let code =
            unsafe { launch(function.0, x, y, 1, BLOCK_THREADS, 1, 1, 0, stream, none, extra) };
        let launched = self.api.check("hipModuleLaunchKernel", code);
        launched.map_err(|refusal| LaunchFault::Runtime(refusal.sentence()))
    }
}

impl Drop for HipBackend {
    fn drop(&mut self) {
        if self.limit.has_passed() {
            return;
        }
        self.wait_or_warn();
        if let Some(code) = self.code.take() {
            // SAFETY: the module is this backend's; nothing runs any more.
            let code = unsafe { (self.api.module_unload)(code.module.0) };
            self.released("hipModuleUnload", code);
        }
        let pinned = self.staging().address();
        // SAFETY: the memory is this backend's; no copy is under way.
        let code = unsafe { (self.api.host_free)(pinned) };
        self.released("hipHostFree", code);
        // SAFETY: the stream is this backend's, and the last thing to use it is this.
        let code = unsafe { (self.api.stream_destroy)(self.stream.0) };
        self.released("hipStreamDestroy", code);
    }
}
