//! The kernels compiled for the CPU: blocks of a grid spread over a pool of threads.

use super::backend::{ARGUMENT_WORDS, Attributes, Backend, Description, Grid, Kernel, LaunchFault};
use super::error::DeviceError;
use super::memory;
use crate::options::{HostBuild, Unfit};
use fault::{Fault, launch_fault};
use rayon::prelude::*;
use recorder::{Launched, Recorder};
#[cfg(target_arch = "x86_64")]
use registrations::lockstep_host_faulty_waves;
use registrations::{choose_fault, lockstep_host_faulty, registrations};
use std::alloc::Layout;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod fault;
#[cfg(all(test, target_arch = "x86_64"))]
mod planted;
mod recorder;
mod registrations;

#[cfg(target_arch = "x86_64")]
pub(super) use registrations::argument_bytes;
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) use registrations::kernel_names;

/// Alignment of every allocation: what GPUs give, and four cache lines.
const ALIGNMENT_BYTES: usize = 256;

/// Ranges of blocks a thread gets in one launch, so that a slow core does not hold up the rest.
const RANGES_PER_THREAD: u64 = 4;

type Entry = unsafe extern "C" fn(*const c_void, u32, u64, u64, *mut Fault);

/// `host::Registration` in `engine/kernels/host_entry.h`.
#[repr(C)]
struct Registration {
    name: *const c_char,
    entry: Entry,
    argument_bytes: u64,
    next: *const Self,
}

unsafe extern "C" {
    fn lockstep_host_baseline() -> *const Registration;
    fn lockstep_host_checked() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_avx2() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_avx512() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_waves32() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_waves64() -> *const Registration;
    fn lockstep_host_fast_math() -> *const Registration;
    fn lockstep_host_contracted() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_flushed_inputs() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_flushed_results() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_rounded_down() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_rounded_up() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_host_rounded_to_zero() -> *const Registration;
}

/// Whether this CPU can run a build.
pub(crate) fn usable(build: HostBuild) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("movbe");
        match build {
            HostBuild::Baseline => true,
            HostBuild::Avx2
            | HostBuild::Checked
            | HostBuild::Faulty(_)
            | HostBuild::FaultyWaves(_)
            | HostBuild::Waves32
            | HostBuild::Waves64
            | HostBuild::Unfit(_) => avx2,
            HostBuild::Avx512 => {
                avx2 && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512cd")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        match build {
            HostBuild::Baseline | HostBuild::Checked | HostBuild::Faulty(_) => true,
            HostBuild::Avx2
            | HostBuild::Avx512
            | HostBuild::Waves32
            | HostBuild::Waves64
            | HostBuild::FaultyWaves(_) => false,
            HostBuild::Unfit(unfit) => Unfit::ALL.contains(&unfit),
        }
    }
}

/// The fastest build this CPU can run.
fn fastest() -> HostBuild {
    let preferred = [HostBuild::Avx512, HostBuild::Avx2, HostBuild::Baseline];
    preferred.into_iter().find(|build| usable(*build)).unwrap_or(HostBuild::Baseline)
}

/// Gives the first kernel of a build's list.
type Head = unsafe extern "C" fn() -> *const Registration;

/// First kernel of a build's list.
fn first_registration(build: HostBuild) -> *const Registration {
    let head: Head = match build {
        #[cfg(target_arch = "x86_64")]
        HostBuild::Avx2 => lockstep_host_avx2,
        #[cfg(target_arch = "x86_64")]
        HostBuild::Avx512 => lockstep_host_avx512,
        #[cfg(target_arch = "x86_64")]
        HostBuild::Waves32 => lockstep_host_waves32,
        #[cfg(target_arch = "x86_64")]
        HostBuild::Waves64 => lockstep_host_waves64,
        HostBuild::Checked => lockstep_host_checked,
        HostBuild::Faulty(_) => lockstep_host_faulty,
        #[cfg(target_arch = "x86_64")]
        HostBuild::FaultyWaves(_) => lockstep_host_faulty_waves,
        HostBuild::Unfit(unfit) => unfit_registration(unfit),
        _ => lockstep_host_baseline,
    };
    // SAFETY: the function takes nothing and returns the head of a list that is complete before
    // `main`, since its elements are constructed when the program is loaded.
    unsafe { head() }
}

/// The head of a build that the probe has to refuse.
fn unfit_registration(unfit: Unfit) -> Head {
    match unfit {
        #[cfg(target_arch = "x86_64")]
        Unfit::FlushedInputs => lockstep_host_flushed_inputs,
        #[cfg(target_arch = "x86_64")]
        Unfit::FlushedResults => lockstep_host_flushed_results,
        #[cfg(target_arch = "x86_64")]
        Unfit::RoundedDown => lockstep_host_rounded_down,
        #[cfg(target_arch = "x86_64")]
        Unfit::RoundedUp => lockstep_host_rounded_up,
        #[cfg(target_arch = "x86_64")]
        Unfit::RoundedToZero => lockstep_host_rounded_to_zero,
        Unfit::Contracted => lockstep_host_contracted,
        _ => lockstep_host_fast_math,
    }
}

/// The device `host`.
#[derive(Debug)]
pub(super) struct HostBackend {
    build: HostBuild,
    threads: usize,
    pool: rayon::ThreadPool,
    recorder: Recorder,
}

impl HostBackend {
    pub(super) fn new(build: Option<HostBuild>, threads: usize) -> Result<Self, DeviceError> {
        let missing = |reason: String, remedy: &str| DeviceError::Missing {
            device: "host".to_owned(),
            reason,
            remedy: remedy.to_owned(),
        };
        let build = build.unwrap_or_else(fastest);
        if !usable(build) {
            let reason = format!("this CPU cannot run the build {}", build.name());
            return Err(missing(reason, "leave the build to be chosen"));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("engine-{index}"))
            .build()
            .map_err(|error| missing(error.to_string(), "lower --threads"))?;
        Ok(Self { build, threads, pool, recorder: Recorder::default() })
    }
}

fn layout(bytes: u64) -> Option<Layout> {
    let bytes = usize::try_from(bytes.max(1)).ok()?;
    Layout::from_size_align(bytes, ALIGNMENT_BYTES).ok()
}

impl Backend for HostBackend {
    fn describe(&self) -> Description {
        Description {
            device: "host".to_owned(),
            name: format!("{} {}", std::env::consts::ARCH, self.build.name()),
            build: format!(
                "kernels {}, {}",
                env!("LOCKSTEP_KERNELS_HASH"),
                env!("LOCKSTEP_HOST_COMPILER")
            ),
            wave_lanes: self.build.wave_lanes(),
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes {
            multiprocessors: u32::try_from(self.threads).unwrap_or(u32::MAX),
            pool: registrations::pool(self.build),
            memory_total_bytes: memory::system_total_bytes(),
            memory_free_bytes: memory::system_available_bytes(),
        }
    }

    fn allocate(&self, bytes: u64) -> Option<u64> {
        // SAFETY: the layout's size is at least 1.
        let pointer = unsafe { std::alloc::alloc(layout(bytes)?) };
        if pointer.is_null() { None } else { Some(pointer.expose_provenance() as u64) }
    }

    unsafe fn free(&self, address: u64, bytes: u64) {
        let layout = layout(bytes).expect("the same layout was made when it was allocated");
        // SAFETY: the caller gives back what `allocate` returned for the same size, once.
        unsafe { std::alloc::dealloc(pointer_mut(address), layout) };
    }

    unsafe fn fill(&self, address: u64, byte: u8, bytes: u64) -> Result<(), DeviceError> {
        let count = usize::try_from(bytes).expect("an allocation's size fits usize");
        // SAFETY: the caller's range lies in one live allocation.
        unsafe { std::ptr::write_bytes(pointer_mut(address), byte, count) };
        Ok(())
    }

    unsafe fn copy_in(&self, target: u64, source: &[u8]) -> Result<(), DeviceError> {
        let target = pointer_mut(target);
        // SAFETY: the caller's range lies in one live allocation, which no Rust reference covers.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
        Ok(())
    }

    unsafe fn copy_out(&self, source: u64, target: &mut [u8]) -> Result<(), DeviceError> {
        let source = pointer_mut(source).cast_const();
        // SAFETY: the caller's range lies in one live allocation; launches on the host have
        // finished when `launch` returns, so there is nothing to wait for.
        unsafe { std::ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    unsafe fn copy_within(&self, source: u64, target: u64, bytes: u64) -> Result<(), DeviceError> {
        let count = usize::try_from(bytes).expect("an allocation's size fits usize");
        let source = pointer_mut(source).cast_const();
        // SAFETY: the caller's ranges lie in live allocations and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(source, pointer_mut(target), count) };
        Ok(())
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn limit_waits(&self, _limit: Option<Duration>) {}

    fn record(&self) -> Result<u64, DeviceError> {
        Ok(self.recorder.mark())
    }

    unsafe fn seconds_between(&self, first: u64, second: u64) -> Result<f64, DeviceError> {
        Ok(self.recorder.seconds_between(first, second))
    }

    unsafe fn release_mark(&self, _mark: u64) {}

    fn begin_capture(&self) -> Result<(), DeviceError> {
        self.recorder.begin();
        Ok(())
    }

    fn end_capture(&self) -> Result<u64, DeviceError> {
        Ok(self.recorder.end())
    }

    unsafe fn replay(&self, graph: u64) -> Result<(), DeviceError> {
        for launch in self.recorder.launches(graph).iter() {
            let Launched { kernel, grid, arguments, parallel } = launch;
            // SAFETY: these are the arguments of a launch that was checked when it was captured;
            // the caller vouches that its buffers are alive.
            unsafe { self.run(kernel, *grid, arguments, *parallel) }.map_err(|fault| {
                let (operation, reason) = (format!("replay of {}", kernel.name), fault.words());
                DeviceError::Runtime { operation, reason }
            })?;
        }
        Ok(())
    }

    unsafe fn release_graph(&self, graph: u64) {
        self.recorder.release(graph);
    }

    fn kernel(&self, name: &'static str, argument_bytes: usize) -> Result<Kernel, DeviceError> {
        let error = |reason: String| DeviceError::Kernel {
            kernel: name.to_owned(),
            build: self.build.name().to_owned(),
            reason,
        };
        if let Some(registration) = registrations(self.build).find(|found| found.is(name)) {
            if registration.argument_bytes != argument_bytes as u64 {
                let theirs = registration.argument_bytes;
                return Err(error(format!("{theirs} argument bytes, not {argument_bytes}")));
            }
            let handle = registration.entry as usize as u64;
            return Ok(Kernel { name, handle, argument_bytes, pool: None });
        }
        Err(error("no kernel of that name".to_owned()))
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: Grid,
        arguments: &[u8],
        parallel: bool,
    ) -> Result<(), LaunchFault> {
        if self.recorder.take(kernel, grid, arguments, parallel) {
            return Ok(());
        }
        // SAFETY: the caller's promises are those that `run` asks for.
        unsafe { self.run(kernel, grid, arguments, parallel) }
    }
}

impl HostBackend {
    /// Runs one launch to its end.
    ///
    /// # Safety
    /// As [`Backend::launch`].
    unsafe fn run(
        &self,
        kernel: &Kernel,
        grid: Grid,
        arguments: &[u8],
        parallel: bool,
    ) -> Result<(), LaunchFault> {
        let blocks = u64::from(grid.x) * u64::from(grid.y);
        let pointer: *const () = std::ptr::with_exposed_provenance(kernel.handle as usize);
        // SAFETY: `handle` is an `Entry` that `kernel` took from a registration.
        let entry: Entry = unsafe { std::mem::transmute::<*const (), Entry>(pointer) };
        let aligned = AlignedArguments::copy(arguments);
        let raised = AtomicBool::new(false);
        let run = |first: u64, last: u64| {
            let mut fault = Fault::default();
            choose_fault(self.build);
            // SAFETY: the caller vouches for the arguments; ranges of blocks are disjoint, and
            // a kernel's blocks write disjoint outputs.
            unsafe {
                entry(aligned.0.as_ptr().cast(), grid.x, first, last, &raw mut fault);
            };
            if fault.raised != 0 && !raised.swap(true, Ordering::Relaxed) {
                return Some(fault);
            }
            None
        };
        let fault = if parallel && self.threads > 1 && blocks > 1 {
            let ranges = blocks.min(self.threads as u64 * RANGES_PER_THREAD);
            let bound = |range: u64| blocks * range / ranges;
            self.pool.install(|| {
                (0..ranges)
                    .into_par_iter()
                    .filter_map(|range| run(bound(range), bound(range + 1)))
                    .find_any(|_| true)
            })
        } else {
            run(0, blocks)
        };
        fault.map_or(Ok(()), |fault| Err(launch_fault(&fault)))
    }
}

fn pointer_mut(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address as usize)
}

/// Kernel arguments at the alignment a C++ structure of them has.
struct AlignedArguments([u64; ARGUMENT_WORDS]);

impl AlignedArguments {
    fn copy(arguments: &[u8]) -> Self {
        let mut words = [0_u64; ARGUMENT_WORDS];
        bytemuck::cast_slice_mut(&mut words)[..arguments.len()].copy_from_slice(arguments);
        Self(words)
    }
}
