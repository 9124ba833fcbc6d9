//! Everything a device can refuse, each with what was asked for and the way out.

use super::probe::Finding;

/// An error of the device layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The device is not there, or cannot be used by this build.
    #[error("device {device} is not usable: {reason}; {remedy}")]
    Missing {
        /// The device as it was asked for.
        device: String,
        /// Why it cannot be used.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// The device is there, but does not compute as CONTRACT.md demands.
    #[error("device {device} is refused: {finding}")]
    Refused {
        /// The device and its name.
        device: String,
        /// The first operation whose bits are wrong.
        finding: Box<Finding>,
    },
    /// Memory could not be had.
    #[error("allocation of {bytes} bytes for {name} failed: {free}; {remedy}")]
    Allocation {
        /// What the memory was for.
        name: String,
        /// Bytes asked for.
        bytes: u64,
        /// What was free then, in words.
        free: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A view that leaves its buffer.
    #[error(
        "view of {name} refused: element {first} + {count} of {element_bytes} bytes > \
         capacity {capacity_bytes}"
    )]
    View {
        /// The buffer.
        name: String,
        /// First element of the view.
        first: u64,
        /// Elements in the view.
        count: u64,
        /// Size of one element.
        element_bytes: u64,
        /// Size of the buffer.
        capacity_bytes: u64,
    },
    /// A copy whose two sides differ in length.
    #[error(
        "copy of {name} refused: {host_count} elements on the host, {device_count} on the device"
    )]
    CopyLength {
        /// The buffer.
        name: String,
        /// Elements of the host slice.
        host_count: u64,
        /// Elements of the device view.
        device_count: u64,
    },
    /// A copy that a graph would repeat at each replay.
    #[error("copy of {name} refused: launches are being captured; copy before or after")]
    CopyInCapture {
        /// The buffer.
        name: String,
    },
    /// A launch that would reach past a buffer.
    #[error(
        "launch of {kernel} refused: {argument} needs {needed} elements, {buffer} has {available}"
    )]
    Extent {
        /// The kernel.
        kernel: String,
        /// The argument's name in the kernel.
        argument: &'static str,
        /// The buffer given for it.
        buffer: String,
        /// Elements the launch reads or writes.
        needed: u64,
        /// Elements in the view.
        available: u64,
    },
    /// A launch whose output lies on another argument.
    #[error("launch of {kernel} refused: output {output} overlaps {other}")]
    Overlap {
        /// The kernel.
        kernel: String,
        /// The argument that is written.
        output: &'static str,
        /// The argument it overlaps.
        other: &'static str,
    },
    /// A shape no launch can serve.
    #[error("launch of {kernel} refused: {what} is {value}, {allowed}")]
    Shape {
        /// The kernel.
        kernel: String,
        /// The quantity.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What would be accepted.
        allowed: &'static str,
    },
    /// The loaded build has no such kernel, or one with other arguments.
    #[error("kernel {kernel} is not in build {build} as expected: {reason}; rebuild the engine")]
    Kernel {
        /// The kernel.
        kernel: String,
        /// The build that was searched.
        build: String,
        /// What differs.
        reason: String,
    },
    /// A checked build saw an access outside its array.
    #[error(
        "kernel {kernel} reached outside {array}: element {index} + {run} of {count}; \
         the access was redirected and the results of the launch are void"
    )]
    OutOfBounds {
        /// The kernel.
        kernel: String,
        /// The argument or shared array.
        array: String,
        /// First element of the access.
        index: u64,
        /// Elements of the access.
        run: u64,
        /// Elements of the array.
        count: u64,
    },
    /// A build that runs the code of a GPU saw threads part at a barrier or a shuffle.
    #[error("kernel {kernel} has a barrier or a shuffle that not every thread reaches")]
    Divergence {
        /// The kernel.
        kernel: String,
    },
    /// The runtime refused a launch.
    #[error("launch of {kernel} failed: {reason}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// What the runtime said.
        reason: String,
    },
    /// The runtime refused something else, or reported an error of an earlier launch.
    #[error("{operation} failed: {reason}")]
    Runtime {
        /// What was asked for.
        operation: String,
        /// What the runtime said.
        reason: String,
    },
}
