//! What a checked build says went wrong first in a launch.

use super::super::backend::{FaultArray, LaunchFault};

/// `host::Fault` in `engine/kernels/host_entry.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Fault {
    pub(super) raised: u32,
    in_shared: u32,
    field_offset: u64,
    index: u64,
    run: u64,
    count: u64,
    array: [u8; 32],
}

/// The fault in the backend's terms.
pub(super) fn launch_fault(fault: &Fault) -> LaunchFault {
    if fault.in_shared == 2 {
        return LaunchFault::Divergence;
    }
    let array = if fault.in_shared == 1 {
        let name = fault.array.iter().take_while(|byte| **byte != 0).copied().collect();
        FaultArray::Shared(String::from_utf8(name).unwrap_or_default())
    } else {
        FaultArray::ArgumentAt(fault.field_offset)
    };
    LaunchFault::Outside { array, index: fault.index, run: fault.run, count: fault.count }
}
