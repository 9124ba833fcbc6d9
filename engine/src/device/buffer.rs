//! Device memory with names: buffers, the parts of an arena, and typed views of them.
//!
//! Every buffer lies between guard zones, which nobody writes; see `guards.rs`. All copies go
//! through `copy.rs`.

use super::DeviceError;
use super::copy;
use super::guards::{GUARD_BYTES, POISON, Zone};
use super::memory::{self, Share};
use super::shared::Shared;
use bytemuck::Pod;
use std::marker::PhantomData;
use std::sync::Arc;

/// Alignment of every buffer.
pub(super) const ALIGNMENT_BYTES: u64 = 256;

/// Block of a runtime, freed when nobody holds a part of it.
#[derive(Debug)]
pub(super) struct Block {
    shared: Arc<Shared>,
    address: u64,
    bytes: u64,
    guarded: bool,
    _share: Share,
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.guarded {
            self.shared.guards.forget(self.address, self.bytes);
        }
        // SAFETY: address and size are those of the memory this value owns; it ends here.
        unsafe { self.shared.backend.free(self.address, self.bytes) };
    }
}

/// A named part of memory, alive as long as somebody holds it: a buffer, or a graph that was
/// captured with it.
#[derive(Debug)]
pub(super) struct Allocation {
    memory: Arc<Block>,
    pub(super) name: String,
    address: u64,
    bytes: u64,
    /// Size of what it was allocated for.
    pub(super) element_bytes: u64,
    /// Part of an arena, which is poisoned as a whole before a pass that writes each part once.
    pub(super) in_arena: bool,
}

impl Allocation {
    /// Whether it is memory of this device.
    pub(super) fn is_of(&self, shared: &Shared) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.memory.shared), shared)
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// What a buffer is to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) element_bytes: u64,
}

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// One buffer.
    Plain,
    /// Buffers that are poisoned together.
    Arena,
    /// The table of guard zones, which has none itself.
    Guards,
}

/// Block for several buffers at once, with a guard zone on both sides of each, and all of it
/// poisoned.
pub(super) fn allocate(
    shared: &Arc<Shared>,
    wanted: &[Wanted],
    purpose: Use,
) -> Result<(Arc<Block>, Vec<Buffer>), DeviceError> {
    let guarded = shared.checks() && purpose != Use::Guards;
    let guard = if guarded { GUARD_BYTES } else { 0 };
    let sum = |sum: u64, wanted: &Wanted| sum.saturating_add(wanted.bytes);
    let bytes = wanted.iter().fold(0, sum);
    let failed = || {
        let first = wanted.first().map_or("nothing", |first| &first.name);
        let name = match wanted.len() {
            0 | 1 => first.to_owned(),
            several => format!("{first} and {} more", several - 1),
        };
        memory::failed(shared.backend.as_ref(), &name, bytes)
    };
    let (offsets, end) = places(wanted, guard).ok_or_else(failed)?;
    let address = shared.backend.allocate(end).ok_or_else(failed)?;
    let share = Share::of(&shared.memory, end);
    let memory =
        Arc::new(Block { shared: Arc::clone(shared), address, bytes: end, guarded, _share: share });
    memory.poison()?;
    if guarded {
        let zones = Zone::around(address, end, wanted, &offsets);
        shared.guards.watch(zones);
    }
    let buffer = |(wanted, offset): (&Wanted, &u64)| Buffer {
        allocation: Arc::new(Allocation {
            memory: Arc::clone(&memory),
            name: wanted.name.clone(),
            address: address + offset,
            bytes: wanted.bytes,
            element_bytes: wanted.element_bytes,
            in_arena: purpose == Use::Arena,
        }),
    };
    let buffers = wanted.iter().zip(&offsets).map(buffer).collect();
    Ok((memory, buffers))
}

/// Where each lies, behind the guard of the one before and at its alignment, and where all end:
/// without guards at the last byte, so that a tool which watches the runtime's memory sees it.
fn places(wanted: &[Wanted], guard: u64) -> Option<(Vec<u64>, u64)> {
    let (mut offsets, mut end) = (Vec::with_capacity(wanted.len()), guard);
    for wanted in wanted {
        let here = end.checked_next_multiple_of(ALIGNMENT_BYTES)?;
        offsets.push(here);
        end = here.checked_add(wanted.bytes)?.checked_add(guard)?;
    }
    if guard > 0 {
        end = end.checked_next_multiple_of(ALIGNMENT_BYTES)?;
    }
    Some((offsets, end))
}

impl Block {
    /// Fills all of it, guard zones as well, with the poison.
    pub(super) fn poison(&self) -> Result<(), DeviceError> {
        // SAFETY: the range is this live memory.
        unsafe { self.shared.backend.fill(self.address, POISON, self.bytes) }
    }
}

/// A named run of device memory.
#[derive(Debug)]
pub struct Buffer {
    allocation: Arc<Allocation>,
}

impl Buffer {
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

    pub(super) fn allocation(&self) -> &Arc<Allocation> {
        &self.allocation
    }

    fn shared(&self) -> &Shared {
        &self.allocation.memory.shared
    }

    /// Copies elements from `first` on to a host slice, as many as it has.
    ///
    /// # Errors
    /// Those of the gate: [`DeviceError::CopyBounds`] and its neighbours.
    pub fn read<T: Pod>(&self, first: u64, target: &mut [T]) -> Result<(), DeviceError> {
        let count = target.len() as u64;
        copy::read(self.shared(), &self.allocation, (first, count), target)
    }

    /// Copies a host slice to the elements from `first` on.
    ///
    /// # Errors
    /// As [`Buffer::read`].
    pub fn write<T: Pod>(&self, first: u64, source: &[T]) -> Result<(), DeviceError> {
        let count = source.len() as u64;
        copy::write(self.shared(), &self.allocation, (first, count), source)
    }

    /// `count` elements of `T` from element `first`.
    ///
    /// # Errors
    /// [`DeviceError::View`] when they are not all inside.
    pub fn view<T: Pod>(&self, first: u64, count: u64) -> Result<View<'_, T>, DeviceError> {
        let element_bytes = size_of::<T>() as u64;
        let end = first.checked_add(count).and_then(|end| end.checked_mul(element_bytes));
        if end.is_some_and(|end| end <= self.bytes()) {
            Ok(View { buffer: self, first, count, element: PhantomData })
        } else {
            Err(DeviceError::View {
                name: self.name().to_owned(),
                at: self.shared().at(),
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

    pub(super) fn first(&self) -> u64 {
        self.first
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
    ///
    /// # Errors
    /// [`DeviceError::View`] when they are not all inside.
    pub fn part(self, first: u64, count: u64) -> Result<Self, DeviceError> {
        let end = first.checked_add(count);
        if end.is_some_and(|end| end <= self.count) {
            Ok(Self { first: self.first + first, count, ..self })
        } else {
            Err(DeviceError::View {
                name: self.buffer.name().to_owned(),
                at: self.buffer.shared().at(),
                first,
                count,
                element_bytes: size_of::<T>() as u64,
                capacity_bytes: self.count * size_of::<T>() as u64,
            })
        }
    }

    /// Copies a host slice of exactly this length into the view.
    ///
    /// # Errors
    /// As [`Buffer::read`].
    pub fn write(self, source: &[T]) -> Result<(), DeviceError> {
        let span = (self.first, self.count);
        copy::write(self.buffer.shared(), &self.buffer.allocation, span, source)
    }

    /// Copies the view into a host slice of exactly its length.
    ///
    /// # Errors
    /// As [`Buffer::read`].
    pub fn read(self, target: &mut [T]) -> Result<(), DeviceError> {
        let span = (self.first, self.count);
        copy::read(self.buffer.shared(), &self.buffer.allocation, span, target)
    }

    /// Copies the view into another of the same length on the same device.
    ///
    /// # Errors
    /// As [`Buffer::read`], and [`DeviceError::CopyOverlap`].
    ///
    /// # Panics
    /// With a view of another device.
    pub fn copy_to(self, target: View<'_, T>) -> Result<(), DeviceError> {
        let shared = self.buffer.shared();
        assert!(target.buffer.allocation.is_of(shared), "both views are of one device");
        copy::within(shared, self, target)
    }

    /// Fills the view with the poison, which is NaN as f32 and f16.
    ///
    /// # Errors
    /// [`DeviceError::CopyInCapture`], or the runtime's.
    pub fn poison(self) -> Result<(), DeviceError> {
        let shared = self.buffer.shared();
        if shared.capturing() {
            let (name, at) = (self.name().to_owned(), shared.at());
            return Err(DeviceError::CopyInCapture { name, at });
        }
        let bytes = self.count * size_of::<T>() as u64;
        // SAFETY: the view is in bounds of memory that it keeps alive.
        unsafe { shared.backend.fill(self.address(), POISON, bytes) }
    }
}

/// Buffers that are poisoned together, before a pass that writes each of them once.
#[derive(Debug)]
pub struct Arena {
    memory: Arc<Block>,
}

impl Arena {
    pub(super) fn new(memory: Arc<Block>) -> Self {
        Self { memory }
    }

    /// Fills every buffer with the poison where that is checked; otherwise nothing happens.
    ///
    /// # Errors
    /// The runtime's.
    pub fn poison(&self) -> Result<(), DeviceError> {
        if self.memory.shared.checks() { self.memory.poison() } else { Ok(()) }
    }
}
