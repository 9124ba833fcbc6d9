//! A launch: arguments whose extents are asserted against their buffers before anything runs.

use super::backend::{FaultArray, Grid, Kernel, LaunchFault};
use super::buffer::{Allocation, View};
use super::error::DeviceError;
use super::guards::POISON;
use super::shared::Shared;
use bytemuck::{Pod, Zeroable};
use std::any::TypeId;
use std::sync::Arc;

/// A span as kernels see it; `Span<T>` in engine/kernels/platform.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Span {
    address: u64,
    count: u64,
}

const _: () = assert!(size_of::<Span>() == 16);

/// What a launch does with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    /// Writes every element of the extent.
    Writes,
    /// Writes some of them, and leaves the others as they are.
    Updates,
}

/// One argument of a launch and how far the launch reaches into it.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) argument: &'static str,
    pub(super) allocation: Arc<Allocation>,
    pub(super) address: u64,
    pub(super) bytes: u64,
    needed: u64,
    available: u64,
    pub(super) effect: Effect,
    /// Whether its elements are f32, in which poison is a value that no operation gives.
    pub(super) is_f32: bool,
}

impl Access {
    /// The launch reads the first `needed` elements of the view.
    pub fn read<T: Pod>(argument: &'static str, view: View<'_, T>, needed: u64) -> Self {
        Self::new(argument, view, needed, Effect::Reads)
    }

    /// The launch writes each of the first `needed` elements of the view.
    pub fn write<T: Pod>(argument: &'static str, view: View<'_, T>, needed: u64) -> Self {
        Self::new(argument, view, needed, Effect::Writes)
    }

    /// The launch writes some of the first `needed` elements of the view.
    pub fn update<T: Pod>(argument: &'static str, view: View<'_, T>, needed: u64) -> Self {
        Self::new(argument, view, needed, Effect::Updates)
    }

    fn new<T: Pod>(argument: &'static str, view: View<'_, T>, needed: u64, effect: Effect) -> Self {
        Self {
            argument,
            allocation: Arc::clone(view.allocation()),
            address: view.address(),
            bytes: needed.saturating_mul(size_of::<T>() as u64),
            needed,
            available: view.count(),
            effect,
            is_f32: TypeId::of::<T>() == TypeId::of::<f32>(),
        }
    }

    /// The span a kernel gets: as long as the launch said it reaches, not as the buffer is.
    pub fn span(&self) -> Span {
        Span { address: self.address, count: self.needed }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.address < other.address + other.bytes && other.address < self.address + self.bytes
    }

    /// Fills what the launch is going to write.
    pub(super) fn fill(&self, shared: &Shared, byte: u8) -> Result<(), DeviceError> {
        // SAFETY: the extent was compared with the view that it is of, whose memory is held.
        unsafe { shared.backend.fill(self.address, byte, self.bytes) }
    }
}

/// Below this many bytes of arguments a host launch stays on the calling thread.
const PARALLEL_BYTES: u64 = 1 << 16;

/// Asserts the extents of `accesses`, poisons what is to be written, and enqueues the launch.
///
/// What cannot be checked here is that the kernel keeps to the extents its launcher declared;
/// the checked host build does that, access by access.
pub(super) fn launch(
    shared: &Shared,
    kernel: &Kernel,
    grid: Grid,
    accesses: &[Access],
    arguments: &[u8],
) -> Result<(), DeviceError> {
    check(shared, kernel, accesses)?;
    let own = |access: &Access| access.allocation.is_of(shared);
    assert!(accesses.iter().all(own), "buffers of {} are of the device that runs it", kernel.name);
    assert_eq!(arguments.len(), kernel.argument_bytes, "arguments of {}", kernel.name);
    assert!(grid.x > 0, "grid of {}", kernel.name);
    assert!(grid.y > 0, "grid of {}", kernel.name);
    // Part of an arena was poisoned with it. A graph has no fills: what it writes is in arenas.
    if shared.checks() && !shared.capturing() {
        let whole = |access: &&Access| access.effect == Effect::Writes;
        let stale = |access: &&Access| !access.allocation.in_arena;
        for access in accesses.iter().filter(whole).filter(stale) {
            access.fill(shared, POISON)?;
        }
    }
    enqueue(shared, kernel, grid, accesses, arguments)
}

/// Enqueues a launch whose extents were asserted.
pub(super) fn enqueue(
    shared: &Shared,
    kernel: &Kernel,
    grid: Grid,
    accesses: &[Access],
    arguments: &[u8],
) -> Result<(), DeviceError> {
    let bytes: u64 = accesses.iter().map(|access| access.bytes).sum();
    let parallel = bytes >= PARALLEL_BYTES;
    shared.pulse.begin(kernel.name);
    // SAFETY: the kernel came from this backend by its name and argument size; every span was
    // taken from a view of a live buffer, and `check` compared its extent with that view.
    let result = unsafe { shared.backend.launch(kernel, grid, arguments, parallel) };
    result.map_err(|fault| name_fault(shared, kernel, accesses, fault))
}

fn check(shared: &Shared, kernel: &Kernel, accesses: &[Access]) -> Result<(), DeviceError> {
    for access in accesses {
        if access.needed > access.available {
            return Err(DeviceError::Extent {
                kernel: kernel.name.to_owned(),
                at: shared.at(),
                argument: access.argument,
                buffer: access.allocation.name.clone(),
                needed: access.needed,
                available: access.available,
            });
        }
    }
    let written = |access: &Access| access.effect != Effect::Reads;
    for (index, output) in accesses.iter().enumerate().filter(|(_, access)| written(access)) {
        for (other_index, other) in accesses.iter().enumerate() {
            if index != other_index && output.overlaps(other) {
                return Err(DeviceError::Overlap {
                    kernel: kernel.name.to_owned(),
                    at: shared.at(),
                    output: output.argument,
                    output_buffer: output.allocation.name.as_str().into(),
                    other: other.argument,
                    other_buffer: other.allocation.name.as_str().into(),
                });
            }
        }
    }
    Ok(())
}

/// Spans stand first in every argument structure, in the order of `accesses`.
fn name_fault(
    shared: &Shared,
    kernel: &Kernel,
    accesses: &[Access],
    fault: LaunchFault,
) -> DeviceError {
    let (kernel, at) = (kernel.name.to_owned(), shared.at());
    let (array, index, run, count) = match fault {
        LaunchFault::Outside { array, index, run, count } => (array, index, run, count),
        LaunchFault::Divergence => return DeviceError::Divergence { kernel, at },
        LaunchFault::Runtime(reason) => return DeviceError::Launch { kernel, at, reason },
    };
    let array = match array {
        FaultArray::Shared(name) => format!("shared array {name}"),
        FaultArray::ArgumentAt(offset) => {
            let index = usize::try_from(offset).unwrap_or(usize::MAX) / size_of::<Span>();
            accesses.get(index).map_or_else(
                || format!("the argument at byte {offset}"),
                |access| format!("argument {} ({})", access.argument, access.allocation.name),
            )
        }
    };
    DeviceError::OutOfBounds { kernel, at, array, index, run, count }
}
