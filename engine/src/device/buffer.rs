//! Device memory with a name, and the gate through which every copy goes.
//!
//! Invariant: no other file calls the backend's copies, so that the counts are all there are.

use super::DeviceError;
use super::backend::Backend;
use super::memory::{self, Memory, Share};
use bytemuck::Pod;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Copies asked for and copies whose bounds were asserted; equal unless the gate was passed by.
#[derive(Debug, Default)]
pub(super) struct CopyCounts {
    pub(super) total: AtomicU64,
    pub(super) checked: AtomicU64,
    /// While launches are captured, nothing may be copied: a graph would copy again at each replay.
    pub(super) capturing: AtomicBool,
    /// What the device's buffers hold.
    pub(super) memory: Arc<Memory>,
}

/// Memory of a device, freed when nobody holds it: a buffer, or a graph that was captured with it.
#[derive(Debug)]
pub(super) struct Allocation {
    backend: Arc<dyn Backend>,
    pub(super) name: String,
    address: u64,
    bytes: u64,
    _share: Share,
}

impl Allocation {
    /// Whether it is memory of this backend.
    pub(super) fn is_of(&self, backend: &dyn Backend) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.backend), std::ptr::from_ref(backend))
    }
}

/// A named allocation.
#[derive(Debug)]
pub struct Buffer {
    counts: Arc<CopyCounts>,
    allocation: Arc<Allocation>,
}

impl Buffer {
    pub(super) fn allocate(
        backend: &Arc<dyn Backend>,
        counts: &Arc<CopyCounts>,
        name: &str,
        bytes: u64,
    ) -> Result<Self, DeviceError> {
        let address =
            backend.allocate(bytes).ok_or_else(|| memory::failed(backend.as_ref(), name, bytes))?;
        let share = Share::of(&counts.memory, bytes);
        let (backend, name) = (Arc::clone(backend), name.to_owned());
        let allocation = Arc::new(Allocation { backend, name, address, bytes, _share: share });
        Ok(Self { counts: Arc::clone(counts), allocation })
    }

    /// Fills the whole buffer with 0xff, which is NaN as f32 and f16.
    pub(super) fn poison(&self) -> Result<(), DeviceError> {
        // SAFETY: the range is this live allocation.
        unsafe { self.allocation.backend.fill(self.address(), 0xff, self.bytes()) }
    }

    /// The name given at allocation.
    pub fn name(&self) -> &str {
        &self.allocation.name
    }

    /// Device address of the first byte.
    pub fn address(&self) -> u64 {
        self.allocation.address
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.allocation.bytes
    }

    /// `count` elements of `T` from element `first`.
    pub fn view<T: Pod>(&self, first: u64, count: u64) -> Result<View<'_, T>, DeviceError> {
        let element_bytes = size_of::<T>() as u64;
        let end = first.checked_add(count).and_then(|end| end.checked_mul(element_bytes));
        if end.is_some_and(|end| end <= self.bytes()) {
            Ok(View { buffer: self, first, count, element: PhantomData })
        } else {
            Err(DeviceError::View {
                name: self.name().to_owned(),
                first,
                count,
                element_bytes,
                capacity_bytes: self.bytes(),
            })
        }
    }

    /// The whole buffer as elements of `T`; a rest that is no whole element is left out.
    pub fn all<T: Pod>(&self) -> View<'_, T> {
        View {
            buffer: self,
            first: 0,
            count: self.bytes() / size_of::<T>() as u64,
            element: PhantomData,
        }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: address and size are those of the allocation this value owns; it ends here.
        unsafe { self.backend.free(self.address, self.bytes) };
    }
}

/// A typed run of a buffer, in bounds by construction.
#[derive(Debug)]
pub struct View<'a, T> {
    buffer: &'a Buffer,
    first: u64,
    count: u64,
    element: PhantomData<T>,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for View<'_, T> {}

impl<T: Pod> View<'_, T> {
    /// Elements in the view.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn allocation(&self) -> &Arc<Allocation> {
        &self.buffer.allocation
    }

    /// Byte offset in its buffer.
    pub fn offset_bytes(&self) -> u64 {
        self.first * size_of::<T>() as u64
    }

    /// Device address of the first element.
    pub fn address(&self) -> u64 {
        self.buffer.address() + self.offset_bytes()
    }

    /// Size of the whole buffer.
    pub fn allocation_bytes(&self) -> u64 {
        self.buffer.bytes()
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        self.buffer.name()
    }

    /// `count` elements from element `first` of this view.
    pub fn part(self, first: u64, count: u64) -> Result<Self, DeviceError> {
        let end = first.checked_add(count);
        if end.is_some_and(|end| end <= self.count) {
            Ok(Self { first: self.first + first, count, ..self })
        } else {
            Err(DeviceError::View {
                name: self.buffer.name().to_owned(),
                first,
                count,
                element_bytes: size_of::<T>() as u64,
                capacity_bytes: self.count * size_of::<T>() as u64,
            })
        }
    }

    /// Copies a host slice of exactly this length into the view.
    pub fn write(self, source: &[T]) -> Result<(), DeviceError> {
        self.gate(source.len())?;
        let bytes = bytemuck::cast_slice(source);
        // SAFETY: the view is in bounds of a live buffer, and `gate` compared the lengths.
        unsafe { self.buffer.allocation.backend.copy_in(self.address(), bytes) }
    }

    /// Copies the view into a host slice of exactly its length.
    pub fn read(self, target: &mut [T]) -> Result<(), DeviceError> {
        self.gate(target.len())?;
        let bytes = bytemuck::cast_slice_mut(target);
        // SAFETY: the view is in bounds of a live buffer, and `gate` compared the lengths.
        unsafe { self.buffer.allocation.backend.copy_out(self.address(), bytes) }
    }

    /// Asserts that both sides of a copy have one length, and counts the copy.
    fn gate(&self, host_count: usize) -> Result<(), DeviceError> {
        self.buffer.counts.total.fetch_add(1, Ordering::Relaxed);
        if self.buffer.counts.capturing.load(Ordering::Relaxed) {
            return Err(DeviceError::CopyInCapture { name: self.buffer.name().to_owned() });
        }
        if host_count as u64 != self.count {
            return Err(DeviceError::CopyLength {
                name: self.buffer.name().to_owned(),
                host_count: host_count as u64,
                device_count: self.count,
            });
        }
        let end = self.offset_bytes() + self.count * size_of::<T>() as u64;
        assert!(end <= self.buffer.bytes(), "views are in bounds by construction");
        self.buffer.counts.checked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
