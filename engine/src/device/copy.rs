//! The gate of every copy: what is asked for is compared with what is there, in checked arithmetic.
//!
//! Invariant: a copy reaches a runtime through this file only, and after `Request::check`.

use super::buffer::{Allocation, View};
use super::error::DeviceError;
use super::shared::Shared;
use bytemuck::Pod;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One side of a copy that lies on a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Address of the buffer's first byte.
    pub(super) address: u64,
    /// Size of the buffer.
    pub(super) capacity_bytes: u64,
    /// Size of what the buffer holds; 1 for plain bytes.
    pub(super) held_bytes: u64,
    /// First element of the copy.
    pub(super) first: u64,
    /// Elements of the copy.
    pub(super) count: u64,
    /// Size of an element of the copy.
    pub(super) element_bytes: u64,
    /// Elements on the other side.
    pub(super) other_count: u64,
}

/// What a request is let through with, in bytes of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) address: u64,
    pub(super) bytes: u64,
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Null,
    Bounds { offset_bytes: u64, bytes: u64 },
    Element,
    Alignment { offset_bytes: u64 },
    Length,
}

impl Request {
    /// Compares what is asked for with what is there.
    pub(super) fn check(&self) -> Result<Range, Refusal> {
        if self.address == 0 {
            return Err(Refusal::Null);
        }
        // In twice the width no sum and no product of what is asked for can overflow.
        let element = u128::from(self.element_bytes);
        let offset_bytes = u128::from(self.first) * element;
        let bytes = u128::from(self.count) * element;
        if offset_bytes + bytes > u128::from(self.capacity_bytes) {
            let [offset_bytes, bytes] =
                [offset_bytes, bytes].map(|value| u64::try_from(value).unwrap_or(u64::MAX));
            return Err(Refusal::Bounds { offset_bytes, bytes });
        }
        let narrow = |value: u128| u64::try_from(value).expect("it is within a capacity in u64");
        let (offset_bytes, bytes) = (narrow(offset_bytes), narrow(bytes));
        let plain = self.held_bytes == 1 || self.element_bytes == 1;
        if !plain && self.held_bytes != self.element_bytes {
            return Err(Refusal::Element);
        }
        self.address.checked_add(offset_bytes + bytes).ok_or(Refusal::Null)?;
        let address = self.address + offset_bytes;
        if !address.is_multiple_of(self.element_bytes) && self.element_bytes.is_power_of_two() {
            return Err(Refusal::Alignment { offset_bytes });
        }
        if self.other_count != self.count {
            return Err(Refusal::Length);
        }
        Ok(Range { address, bytes })
    }

    fn refused(&self, name: &str, shared: &Shared, refusal: Refusal) -> DeviceError {
        let (name, at) = (name.to_owned(), shared.at());
        match refusal {
            Refusal::Null => DeviceError::CopyNull { name, at },
            Refusal::Bounds { offset_bytes, bytes } => DeviceError::CopyBounds {
                name,
                at,
                offset_bytes,
                bytes,
                capacity_bytes: self.capacity_bytes,
            },
            Refusal::Element => DeviceError::CopyElement {
                name,
                at,
                held_bytes: self.held_bytes,
                element_bytes: self.element_bytes,
            },
            Refusal::Alignment { offset_bytes } => DeviceError::CopyAlignment {
                name,
                at,
                offset_bytes,
                element_bytes: self.element_bytes,
            },
            Refusal::Length => DeviceError::CopyLength {
                name,
                at,
                host_count: self.other_count,
                device_count: self.count,
            },
        }
    }
}

/// Counts a copy, checks it, and counts it as checked.
fn gate(
    shared: &Shared,
    allocation: &Allocation,
    (first, count): (u64, u64),
    element_bytes: usize,
    other_count: u64,
) -> Result<Range, DeviceError> {
    shared.copies.total.fetch_add(1, Ordering::Relaxed);
    if shared.capturing() {
        let (name, at) = (allocation.name.clone(), shared.at());
        return Err(DeviceError::CopyInCapture { name, at });
    }
    let request = Request {
        address: allocation.address(),
        capacity_bytes: allocation.bytes(),
        held_bytes: allocation.element_bytes,
        first,
        count,
        element_bytes: element_bytes as u64,
        other_count,
    };
    let refused = |refusal| request.refused(&allocation.name, shared, refusal);
    let range = request.check().map_err(refused)?;
    shared.copies.checked.fetch_add(1, Ordering::Relaxed);
    shared.copies.bytes.fetch_add(range.bytes, Ordering::Relaxed);
    Ok(range)
}

/// Copies a host slice to `[first, first + source.len())` of an allocation.
pub(super) fn write<T: Pod>(
    shared: &Shared,
    allocation: &Arc<Allocation>,
    span: (u64, u64),
    source: &[T],
) -> Result<(), DeviceError> {
    let range = gate(shared, allocation, span, size_of::<T>(), source.len() as u64)?;
    let bytes = bytemuck::cast_slice(source);
    // SAFETY: `check` compared the range with the allocation, which `allocation` keeps alive, and
    // both lengths with each other.
    unsafe { shared.backend.copy_in(range.address, bytes) }
}

/// Copies `[first, first + target.len())` of an allocation to a host slice, after everything that
/// was launched before.
pub(super) fn read<T: Pod>(
    shared: &Shared,
    allocation: &Arc<Allocation>,
    span: (u64, u64),
    target: &mut [T],
) -> Result<(), DeviceError> {
    let range = gate(shared, allocation, span, size_of::<T>(), target.len() as u64)?;
    let bytes = bytemuck::cast_slice_mut(target);
    // SAFETY: as in `write`.
    unsafe { shared.backend.copy_out(range.address, bytes) }?;
    // It waited for everything before it.
    shared.pulse.end();
    Ok(())
}

/// Copies one view to another of the same device, in the stream's order.
pub(super) fn within<T: Pod>(
    shared: &Shared,
    source: View<'_, T>,
    target: View<'_, T>,
) -> Result<(), DeviceError> {
    let element = size_of::<T>();
    let span = |view: View<'_, T>| (view.first(), view.count());
    let from = gate(shared, source.allocation(), span(source), element, target.count())?;
    let to = gate(shared, target.allocation(), span(target), element, source.count())?;
    if from.address < to.address + to.bytes && to.address < from.address + from.bytes {
        let (source, target) = (source.name().to_owned(), target.name().to_owned());
        return Err(DeviceError::CopyOverlap { source_name: source, target, at: shared.at() });
    }
    // SAFETY: `check` compared both ranges with their allocations, which the views keep alive; they
    // were compared with each other above.
    unsafe { shared.backend.copy_within(from.address, to.address, from.bytes) }
}
