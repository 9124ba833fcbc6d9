//! What all buffers and launches of one device share: its runtime, the counts, what is checked.

use super::DeviceError;
use super::backend::Backend;
use super::buffer::Allocation;
use super::guards::Guards;
use super::memory::Memory;
use super::moment::At;
use super::pulse::Pulse;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Copies asked for and copies whose bounds were asserted; equal unless one was refused.
#[derive(Debug, Default)]
pub(super) struct CopyCounts {
    pub(super) total: AtomicU64,
    pub(super) checked: AtomicU64,
    /// Bytes of the copies that were let through.
    pub(super) bytes: AtomicU64,
}

impl CopyCounts {
    pub(super) fn forget(&self) {
        for count in [&self.total, &self.checked, &self.bytes] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// The state of one device.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) copies: CopyCounts,
    /// What the device's buffers hold.
    pub(super) memory: Arc<Memory>,
    /// Guard zones, poison, and the check of both; the bounds of copies and launches are asserted
    /// in any case.
    pub(super) checking: AtomicBool,
    /// After each launch: wait, look at the guards, look for what was not written.
    pub(super) careful: AtomicBool,
    pub(super) guards: Guards,
    /// What the launches of a capture hold, while there is one.
    pub(super) captured: Mutex<Option<Vec<Arc<Allocation>>>>,
    pub(super) pulse: Arc<Pulse>,
}

impl Shared {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            copies: CopyCounts::default(),
            memory: Arc::default(),
            // A sanitizer sees what lies outside memory, and takes guard zones for part of it.
            checking: AtomicBool::new(env!("LOCKSTEP_SANITIZED") != "1"),
            careful: AtomicBool::new(false),
            guards: Guards::default(),
            captured: Mutex::default(),
            pulse: Arc::default(),
        }
    }

    pub(super) fn checks(&self) -> bool {
        self.checking.load(Ordering::Relaxed)
    }

    pub(super) fn is_careful(&self) -> bool {
        self.careful.load(Ordering::Relaxed)
    }

    pub(super) fn captured(&self) -> MutexGuard<'_, Option<Vec<Arc<Allocation>>>> {
        lock(&self.captured)
    }

    /// While launches are captured nothing is copied or filled: a graph would do it again at each
    /// replay.
    pub(super) fn capturing(&self) -> bool {
        self.captured().is_some()
    }

    /// Where the run is, for a refusal.
    pub(super) fn at(&self) -> At {
        self.pulse.at()
    }

    /// Waits for the device; nothing is in flight then.
    pub(super) fn synchronise(&self) -> Result<(), DeviceError> {
        self.backend.synchronise()?;
        self.pulse.end();
        Ok(())
    }
}

/// A lock whose holder did not finish protects plain values here; they are as good as before.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
