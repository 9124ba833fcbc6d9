//! How much device memory is held, and what is said when there is no more of it.
//!
//! A buffer's [`Share`] lives as long as its memory: what a device holds is known at any time, and
//! what a whole process holds, so that a model that was dropped and still holds memory is seen.

use super::backend::Backend;
use super::buffer::ALIGNMENT_BYTES;
use super::guards::GUARD_BYTES;
use super::{Device, DeviceError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes held by every device of this process.
static PROCESS_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes that one device holds for its buffers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: AtomicU64,
}

impl Device {
    /// What buffers in one piece of memory take of a device, with the zones around each where it is
    /// guarded. Runtimes round up, and how far is theirs.
    pub fn footprint_bytes(buffers: impl Iterator<Item = u128>, guarded: bool) -> u128 {
        let guard = if guarded { u128::from(GUARD_BYTES) } else { 0 };
        let alignment = u128::from(ALIGNMENT_BYTES);
        let place = |end: u128, bytes: u128| end.next_multiple_of(alignment) + bytes + guard;
        let end = buffers.fold(guard, place);
        if guarded { end.next_multiple_of(alignment) } else { end }
    }

    /// Bytes that this device's buffers hold now.
    pub fn bytes_allocated(&self) -> u64 {
        self.shared.memory.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the buffers of every device of this process hold now.
    pub fn process_bytes_allocated() -> u64 {
        PROCESS_BYTES.load(Ordering::Relaxed)
    }
}

/// The bytes of one allocation, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Share {
    pub(super) fn of(memory: &Arc<Memory>, bytes: u64) -> Self {
        memory.bytes.fetch_add(bytes, Ordering::Relaxed);
        PROCESS_BYTES.fetch_add(bytes, Ordering::Relaxed);
        Self { memory: Arc::clone(memory), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        PROCESS_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An allocation that failed, with what is free at that moment and what to lower.
pub(super) fn failed(backend: &dyn Backend, name: &str, bytes: u64) -> DeviceError {
    DeviceError::Allocation {
        name: name.to_owned(),
        bytes,
        free: match backend.attributes().memory_free_bytes {
            Some(free) => format!("{free} bytes are free"),
            None => "how much is free is not known".to_owned(),
        },
        remedy: remedy(name),
    }
}

/// Which option decides how large a buffer of this name is.
fn remedy(name: &str) -> &'static str {
    let begins = |stems: &[&str]| stems.iter().any(|stem| name.starts_with(stem));
    if name.ends_with(".weight") {
        "take a model of fewer bits, or a device with more memory"
    } else if begins(&["cache.", "rope.", "chunks."]) {
        "lower --context-tokens"
    } else if begins(&["probe "]) {
        "end what else uses the device"
    } else {
        "lower --ubatch"
    }
}

/// Memory of this system that a program can have without swapping: what Linux calls available.
pub(super) fn system_available_bytes() -> Option<u64> {
    system_bytes("MemAvailable:")
}

/// Memory of this system.
pub(super) fn system_total_bytes() -> Option<u64> {
    system_bytes("MemTotal:")
}

#[cfg(target_os = "linux")]
fn system_bytes(field: &str) -> Option<u64> {
    read_field(&std::fs::read_to_string("/proc/meminfo").ok()?, field)
}

#[cfg(not(target_os = "linux"))]
fn system_bytes(_field: &str) -> Option<u64> {
    None
}

/// A line of `/proc/meminfo`, which counts in units of 1024 bytes and calls them kB.
#[cfg(any(target_os = "linux", test))]
fn read_field(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let count: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    count.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_by_name() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    512 kB\n";
        assert_eq!(read_field(text, "MemAvailable:"), Some(512 << 10));
        assert_eq!(read_field(text, "MemTotal:"), Some(16 << 20));
        assert_eq!(read_field(text, "SwapFree:"), None);
        assert_eq!(read_field("MemTotal: many kB\n", "MemTotal:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_has_memory() {
        let (available, total) = (system_available_bytes().unwrap(), system_total_bytes().unwrap());
        assert!(available > 0 && available <= total, "{available} of {total}");
    }

    #[test]
    fn a_remedy_names_what_decides() {
        assert_eq!(remedy("cache.3.keys"), "lower --context-tokens");
        assert_eq!(remedy("attn_norm.3.32.32.digits"), "lower --ubatch");
        assert!(remedy("blk.0.attn_q.weight").starts_with("take a model of fewer bits"));
    }
}
