//! Pinned memory that copies go through: in the stream's order to the device, at once to the host.

use super::super::error::DeviceError;
use super::HipBackend;
use super::api::{Api, Refusal};
use super::handle::Handle;
use std::ffi::c_void;

/// Enough that a chunk's transfer outweighs its calls.
const BYTES: usize = 8 << 20;

/// Two chunks, so that one is filled while the other is on its way.
const CHUNK_BYTES: usize = BYTES / 2;

/// Pinned memory, of which the first `used` bytes may be on their way.
#[derive(Debug)]
pub(super) struct Staging {
    memory: Handle<c_void>,
    used: usize,
}

impl Staging {
    pub(super) fn new(api: &Api) -> Result<Self, Refusal> {
        let mut pointer: *mut c_void = std::ptr::null_mut();
        // SAFETY: the result is a local; no flags.
        let code = unsafe { (api.host_malloc)(&raw mut pointer, BYTES, 0) };
        api.check("hipHostMalloc", code)?;
        Ok(Self { memory: Handle(pointer), used: 0 })
    }

    /// For the backend that frees it.
    pub(super) fn address(&self) -> *mut c_void {
        self.memory.0
    }

    fn at(&self, offset: usize) -> *mut c_void {
        assert!(offset < BYTES, "pinned memory is {BYTES} bytes");
        self.memory.0.wrapping_byte_add(offset)
    }

    /// Copies to the device; the source is free again when this returns.
    ///
    /// # Safety
    /// `source.len()` bytes from `target` lie in one live allocation of the backend's device.
    pub(super) unsafe fn copy_in(
        &mut self,
        backend: &HipBackend,
        target: u64,
        source: &[u8],
    ) -> Result<(), DeviceError> {
        let mut target = target;
        for chunk in source.chunks(CHUNK_BYTES) {
            if self.used + chunk.len() > BYTES {
                backend.wait()?;
                self.used = 0;
            }
            let pinned = self.at(self.used);
            // SAFETY: the sum was compared with the memory's size, and no copy uses this part.
            unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), pinned.cast(), chunk.len()) };
            let address = Handle::from_number(target).0;
            let copy = backend.api.copy_in;
            // SAFETY: the caller vouches for the target; the pinned part stays as it is until
            // `used` is taken back, after a wait.
            let code = unsafe { copy(address, pinned, chunk.len(), backend.stream.0) };
            backend.api.check("hipMemcpyHtoDAsync", code)?;
            self.used += chunk.len().next_multiple_of(64);
            target += chunk.len() as u64;
        }
        Ok(())
    }

    /// Copies to the host when everything before has happened.
    ///
    /// # Safety
    /// `target.len()` bytes from `source` lie in one live allocation of the backend's device.
    pub(super) unsafe fn copy_out(
        &mut self,
        backend: &HipBackend,
        source: u64,
        target: &mut [u8],
    ) -> Result<(), DeviceError> {
        let mut source = source;
        for chunk in target.chunks_mut(BYTES) {
            // Copies to the device that still read this memory come first in the stream.
            let pinned = self.at(0);
            let address = Handle::from_number(source).0;
            let copy = backend.api.copy_out;
            // SAFETY: the caller vouches for the source; a chunk is at most the pinned memory.
            let code = unsafe { copy(pinned, address, chunk.len(), backend.stream.0) };
            backend.api.check("hipMemcpyDtoHAsync", code)?;
            backend.wait()?;
            self.used = 0;
            let pinned = pinned.cast::<u8>().cast_const();
            // SAFETY: the copy has happened, and nothing else writes there.
            unsafe { std::ptr::copy_nonoverlapping(pinned, chunk.as_mut_ptr(), chunk.len()) };
            source += chunk.len() as u64;
        }
        Ok(())
    }
}
