//! Everything a device can refuse, each with what was asked for and the way out.

use super::careful::LaunchFacts;
use super::moment::At;
use super::probe::Finding;

/// An error of the device layer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
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
        "view of {name}{at} refused: element {first} + {count} of {element_bytes} bytes > \
         capacity {capacity_bytes}"
    )]
    View {
        /// The buffer.
        name: String,
        /// Where in the run.
        at: At,
        /// First element of the view.
        first: u64,
        /// Elements in the view.
        count: u64,
        /// Size of one element.
        element_bytes: u64,
        /// Size of the buffer.
        capacity_bytes: u64,
    },
    /// A copy that leaves its buffer.
    #[error(
        "copy of {name}{at} refused: offset {offset_bytes} + {bytes} bytes > capacity \
         {capacity_bytes}"
    )]
    CopyBounds {
        /// The buffer.
        name: String,
        /// Where in the run.
        at: At,
        /// First byte of the copy, or the largest number where that is larger.
        offset_bytes: u64,
        /// Its length, or the largest number.
        bytes: u64,
        /// Size of the buffer.
        capacity_bytes: u64,
    },
    /// A copy whose two sides differ in length.
    #[error(
        "copy of {name}{at} refused: {host_count} elements on the host, {device_count} on the \
         device"
    )]
    CopyLength {
        /// The buffer.
        name: String,
        /// Where in the run.
        at: At,
        /// Elements of the other side: a host slice, or another view.
        host_count: u64,
        /// Elements of the device view.
        device_count: u64,
    },
    /// A copy of a buffer as something that it does not hold.
    #[error(
        "copy of {name}{at} refused: elements of {element_bytes} bytes, the buffer holds elements \
         of {held_bytes}"
    )]
    CopyElement {
        /// The buffer.
        name: String,
        /// Where in the run.
        at: At,
        /// Size of what the buffer was allocated for.
        held_bytes: u64,
        /// Size of an element of the copy.
        element_bytes: u64,
    },
    /// A copy that begins inside an element.
    #[error(
        "copy of {name}{at} refused: offset {offset_bytes} is no multiple of {element_bytes} bytes"
    )]
    CopyAlignment {
        /// The buffer.
        name: String,
        /// Where in the run.
        at: At,
        /// First byte of the copy.
        offset_bytes: u64,
        /// Size of an element of the copy.
        element_bytes: u64,
    },
    /// A copy of a buffer that has no address, or whose addresses wrap.
    #[error("copy of {name}{at} refused: the buffer's address is null or wraps")]
    CopyNull {
        /// The buffer.
        name: String,
        /// Where in the run.
        at: At,
    },
    /// A copy on the device from and to the same bytes.
    #[error("copy of {source_name} to {target}{at} refused: the two overlap")]
    CopyOverlap {
        /// The buffer that is read.
        source_name: String,
        /// The buffer that is written.
        target: String,
        /// Where in the run.
        at: At,
    },
    /// A copy that a graph would repeat at each replay.
    #[error("copy of {name}{at} refused: launches are being captured; copy before or after")]
    CopyInCapture {
        /// The buffer.
        name: String,
        /// Where in the run.
        at: At,
    },
    /// A launch that would reach past a buffer.
    #[error(
        "launch of {kernel}{at} refused: {argument} needs {needed} elements, {buffer} has \
         {available}"
    )]
    Extent {
        /// The kernel.
        kernel: String,
        /// Where in the run.
        at: At,
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
    #[error(
        "launch of {kernel}{at} refused: output {output} ({output_buffer}) overlaps {other} \
         ({other_buffer})"
    )]
    Overlap {
        /// The kernel.
        kernel: String,
        /// Where in the run.
        at: At,
        /// The argument that is written.
        output: &'static str,
        /// The buffer given for it.
        output_buffer: Box<str>,
        /// The argument it overlaps.
        other: &'static str,
        /// The buffer given for that.
        other_buffer: Box<str>,
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
        "kernel {kernel}{at} reached outside {array}: element {index} + {run} of {count}; \
         the access was redirected and the results of the launch are void"
    )]
    OutOfBounds {
        /// The kernel.
        kernel: String,
        /// Where in the run.
        at: At,
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
    #[error("kernel {kernel}{at} has a barrier or a shuffle that not every thread reaches")]
    Divergence {
        /// The kernel.
        kernel: String,
        /// Where in the run.
        at: At,
    },
    /// The runtime refused a launch.
    #[error("launch of {kernel}{at} failed: {reason}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// Where in the run.
        at: At,
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
    /// A guard zone was written.
    #[error("memory outside every buffer was written{at}: {zone}")]
    Guard {
        /// How far from which buffers.
        zone: String,
        /// Where in the run it was seen.
        at: At,
    },
    /// A guard zone was written, by this launch.
    #[error("memory outside every buffer was written{at}: {zone}; by the launch of {launch}")]
    GuardBy {
        /// How far from which buffers.
        zone: String,
        /// Where in the run.
        at: At,
        /// The launch.
        launch: Box<LaunchFacts>,
    },
    /// A launch that made the device fail, found by waiting for each.
    #[error("{reason}{at}: the first launch to fail is {launch}")]
    LaunchFailed {
        /// What the runtime said.
        reason: String,
        /// Where in the run.
        at: At,
        /// The launch.
        launch: Box<LaunchFacts>,
    },
    /// A launch that left elements of an output as they were.
    #[error(
        "{argument} [{index}] was not written{at}, {count} elements in all, by the launch of \
         {launch}"
    )]
    NotWritten {
        /// The launch.
        launch: Box<LaunchFacts>,
        /// Where in the run.
        at: At,
        /// The output.
        argument: &'static str,
        /// The first such element.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// A launch that computed with memory which nobody had written.
    #[error(
        "{argument} [{index}] was computed from memory that nobody wrote{at}, {count} elements in \
         all, by the launch of {launch}"
    )]
    FromPoison {
        /// The launch.
        launch: Box<LaunchFacts>,
        /// Where in the run.
        at: At,
        /// The output.
        argument: &'static str,
        /// The first such element.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// A wait that took too long.
    #[error("the device did not finish within {seconds} s{at}{}", in_flight(launch.as_deref()))]
    TimeLimit {
        /// The limit.
        seconds: f64,
        /// Where in the run.
        at: At,
        /// The launch, where each was waited for.
        launch: Option<Box<LaunchFacts>>,
    },
    /// The device answers nothing any more, so that no launch can be tried again.
    #[error("{reason}; the device is lost for this process")]
    Lost {
        /// What it said first.
        reason: String,
    },
    /// The same step launch by launch had no error.
    #[error(
        "{reason}; the step run again, launch by launch, shows no error: it depends on time, or on \
         what ran before"
    )]
    NotRepeated {
        /// What the device said first.
        reason: String,
    },
}

impl DeviceError {
    /// Whether the cause lies before the call that reported it.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Runtime { .. } | Self::Launch { .. } | Self::Guard { .. })
    }

    /// Whether it says which launch is the cause.
    pub fn names_its_launch(&self) -> bool {
        matches!(
            self,
            Self::GuardBy { .. }
                | Self::LaunchFailed { .. }
                | Self::NotWritten { .. }
                | Self::FromPoison { .. }
                | Self::TimeLimit { launch: Some(_), .. }
        )
    }

    /// Whether another process has to look for the launch: this one cannot use the device again.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::TimeLimit { launch: None, .. })
    }
}

fn in_flight(launch: Option<&LaunchFacts>) -> String {
    launch.map_or_else(String::new, |launch| format!(": in flight is {launch}"))
}
