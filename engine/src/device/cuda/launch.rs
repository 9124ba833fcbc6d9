//! A launch in the driver's words.

use super::super::backend::{BLOCK_THREADS, Grid, Kernel, Pool};
use cudarc::driver::{result, sys};
use std::ffi::c_void;

/// Threads of a block that has a pool, at most; `WIDE_THREADS` in platform.h.
pub(super) const POOL_THREADS: u32 = 512;

/// Enqueues a launch; with `overlap` it may begin before the one in front has ended.
///
/// # Safety
/// The function is of a loaded module and takes these arguments, whose addresses are of live
/// memory. With `overlap` it waits for its inputs by itself.
pub(super) unsafe fn enqueue(
    function: sys::CUfunction,
    kernel: &Kernel,
    grid: Grid,
    arguments: &[u8],
    (stream, overlap): (sys::CUstream, bool),
) -> Result<(), result::DriverError> {
    let mut bytes = arguments.len();
    // Two keys with their values, then the end, as the driver's documentation has them.
    let mut extra: [*mut c_void; 5] = [
        std::ptr::without_provenance_mut(1),
        arguments.as_ptr().cast_mut().cast(),
        std::ptr::without_provenance_mut(2),
        (&raw mut bytes).cast(),
        std::ptr::null_mut(),
    ];
    let mut attribute = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    };
    let plain = Pool { bytes: 0, threads: BLOCK_THREADS };
    let pool = kernel.pool.unwrap_or(plain);
    let config = sys::CUlaunchConfig {
        gridDimX: grid.x,
        gridDimY: grid.y,
        gridDimZ: 1,
        blockDimX: pool.threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: pool.bytes,
        hStream: stream,
        attrs: &raw mut attribute,
        numAttrs: u32::from(overlap),
    };
    let (config, extra) = (&raw const config, extra.as_mut_ptr());
    // SAFETY: the caller vouches for function and arguments; the driver copies them, and the
    // configuration, before it returns.
    unsafe { sys::cuLaunchKernelEx(config, function, std::ptr::null_mut(), extra) }.result()
}
