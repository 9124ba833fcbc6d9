//! Launches captured once and replayed as one, and marks in a stream to measure between.

use super::backend::Backend;
use super::buffer::Allocation;
use super::{Device, DeviceError};
use std::sync::Arc;

/// Launches in their order, with the arguments they had when they were captured.
///
/// What changes from replay to replay stands in device memory, where the kernels read it.
#[derive(Debug)]
pub struct Graph {
    backend: Arc<dyn Backend>,
    handle: u64,
    /// The memory of every launch, kept alive.
    _allocations: Vec<Arc<Allocation>>,
}

/// Ends a capture that `work` did not come back from.
struct Capturing<'a> {
    device: &'a Device,
    ended: bool,
}

impl Drop for Capturing<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(handle) = self.device.shared.backend.end_capture() {
            // SAFETY: the handle was made above and is nobody else's.
            unsafe { self.device.shared.backend.release_graph(handle) };
        }
        *self.device.shared.captured() = None;
    }
}

impl Device {
    /// Writes down the launches of `work` instead of running them.
    ///
    /// # Errors
    /// Those of `work`, and [`DeviceError::Runtime`] when the runtime cannot capture something.
    ///
    /// # Panics
    /// Inside another capture.
    pub fn capture<E: From<DeviceError>>(
        &self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        let shared = &self.shared;
        assert!(!shared.capturing(), "one capture at a time");
        shared.backend.begin_capture()?;
        *shared.captured() = Some(Vec::new());
        let mut capturing = Capturing { device: self, ended: false };
        let result = work();
        capturing.ended = true;
        let handle = shared.backend.end_capture();
        let mut allocations = shared.captured().take().unwrap_or_default();
        allocations.sort_by_key(Arc::as_ptr);
        allocations.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let backend = Arc::clone(&shared.backend);
        let graph = handle.map(|handle| Graph { backend, handle, _allocations: allocations });
        result?;
        Ok(graph?)
    }

    /// Marks this point of the stream.
    ///
    /// # Errors
    /// [`DeviceError::Runtime`].
    pub fn mark(&self) -> Result<Mark, DeviceError> {
        let backend = Arc::clone(&self.shared.backend);
        let handle = backend.record()?;
        Ok(Mark { backend, handle })
    }

    /// Waits until everything asked for has happened.
    ///
    /// # Errors
    /// [`DeviceError::Runtime`] with the first error of a launch.
    pub fn synchronise(&self) -> Result<(), DeviceError> {
        self.shared.synchronise()
    }
}

impl Graph {
    /// Enqueues all launches.
    ///
    /// # Errors
    /// [`DeviceError`] of the runtime or of a launch.
    pub fn replay(&self) -> Result<(), DeviceError> {
        // SAFETY: `handle` is of a graph that this value owns, and so is a share of every
        // allocation that its launches use.
        unsafe { self.backend.replay(self.handle) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: `handle` came from `end_capture`, and this value is its only owner.
        unsafe { self.backend.release_graph(self.handle) };
    }
}

/// A point in a stream.
#[derive(Debug)]
pub struct Mark {
    backend: Arc<dyn Backend>,
    handle: u64,
}

impl Mark {
    /// Seconds from an earlier mark of the same device to this one; waits for this one.
    ///
    /// # Errors
    /// [`DeviceError::Runtime`].
    pub fn seconds_since(&self, earlier: &Self) -> Result<f64, DeviceError> {
        assert!(Arc::ptr_eq(&self.backend, &earlier.backend), "marks of one device");
        // SAFETY: both handles are owned by these values, of this backend.
        unsafe { self.backend.seconds_between(earlier.handle, self.handle) }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: `handle` came from `record`, and this value is its only owner.
        unsafe { self.backend.release_mark(self.handle) };
    }
}
