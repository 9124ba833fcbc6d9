//! A launch: arguments whose extents are asserted against their buffers before anything runs.

use super::backend::{Backend, FaultArray, Grid, Kernel, LaunchFault};
use super::buffer::{Allocation, View};
use super::error::DeviceError;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

/// A span as kernels see it; `Span<T>` in engine/kernels/platform.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Span {
    address: u64,
    count: u64,
}

const _: () = assert!(size_of::<Span>() == 16);

/// One argument of a launch and how far the launch reaches into it.
#[derive(Clone, Debug)]
pub struct Access {
    argument: &'static str,
    allocation: Arc<Allocation>,
    address: u64,
    bytes: u64,
    needed: u64,
    available: u64,
    written: bool,
}

impl Access {
    /// The launch reads the first `needed` elements of the view.
    pub fn read<T: Pod>(argument: &'static str, view: View<'_, T>, needed: u64) -> Self {
        Self::new(argument, view, needed, false)
    }

    /// The launch writes among the first `needed` elements of the view.
    pub fn write<T: Pod>(argument: &'static str, view: View<'_, T>, needed: u64) -> Self {
        Self::new(argument, view, needed, true)
    }

    fn new<T: Pod>(argument: &'static str, view: View<'_, T>, needed: u64, written: bool) -> Self {
        Self {
            argument,
            allocation: Arc::clone(view.allocation()),
            address: view.address(),
            bytes: needed.saturating_mul(size_of::<T>() as u64),
            needed,
            available: view.count(),
            written,
        }
    }

    /// The span a kernel gets: as long as the launch said it reaches, not as the buffer is.
    pub fn span(&self) -> Span {
        Span { address: self.address, count: self.needed }
    }

    pub(super) fn allocation(&self) -> &Arc<Allocation> {
        &self.allocation
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.address < other.address + other.bytes && other.address < self.address + self.bytes
    }
}

/// Below this many bytes of arguments a host launch stays on the calling thread.
const PARALLEL_BYTES: u64 = 1 << 16;

/// Asserts the extents of `accesses` and enqueues the launch.
///
/// What cannot be checked here is that the kernel keeps to the extents its launcher declared;
/// the checked host build does that, access by access.
pub(super) fn launch<A: Pod>(
    backend: &dyn Backend,
    kernel: &Kernel,
    grid: Grid,
    accesses: &[Access],
    arguments: &A,
) -> Result<(), DeviceError> {
    check(kernel, accesses)?;
    let own = |access: &Access| access.allocation.is_of(backend);
    assert!(accesses.iter().all(own), "buffers of {} are of the device that runs it", kernel.name);
    assert_eq!(size_of::<A>(), kernel.argument_bytes, "arguments of {}", kernel.name);
    assert!(grid.x > 0, "grid of {}", kernel.name);
    assert!(grid.y > 0, "grid of {}", kernel.name);
    let bytes: u64 = accesses.iter().map(|access| access.bytes).sum();
    let arguments = bytemuck::bytes_of(arguments);
    // SAFETY: the kernel came from this backend by its name and argument size; every span was
    // taken from a view of a live buffer, and `check` compared its extent with that view.
    let result = unsafe { backend.launch(kernel, grid, arguments, bytes >= PARALLEL_BYTES) };
    result.map_err(|fault| name_fault(kernel, accesses, fault))
}

fn check(kernel: &Kernel, accesses: &[Access]) -> Result<(), DeviceError> {
    for access in accesses {
        if access.needed > access.available {
            return Err(DeviceError::Extent {
                kernel: kernel.name.to_owned(),
                argument: access.argument,
                buffer: access.allocation.name.clone(),
                needed: access.needed,
                available: access.available,
            });
        }
    }
    for (index, output) in accesses.iter().enumerate().filter(|(_, access)| access.written) {
        for (other_index, other) in accesses.iter().enumerate() {
            if index != other_index && output.overlaps(other) {
                return Err(DeviceError::Overlap {
                    kernel: kernel.name.to_owned(),
                    output: output.argument,
                    other: other.argument,
                });
            }
        }
    }
    Ok(())
}

/// Spans stand first in every argument structure, in the order of `accesses`.
fn name_fault(kernel: &Kernel, accesses: &[Access], fault: LaunchFault) -> DeviceError {
    let kernel = kernel.name.to_owned();
    let (array, index, run, count) = match fault {
        LaunchFault::Outside { array, index, run, count } => (array, index, run, count),
        LaunchFault::Divergence => return DeviceError::Divergence { kernel },
        LaunchFault::Runtime(reason) => return DeviceError::Launch { kernel, reason },
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
    DeviceError::OutOfBounds { kernel, array, index, run, count }
}
