//! A wait that ends: a stream is asked whether it has finished, until it has or it took too long.

use super::error::DeviceError;
use super::moment::At;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a wait may take; for ever by default.
#[derive(Debug, Default)]
pub(super) struct Limit {
    /// 0 is no limit.
    milliseconds: AtomicU64,
    /// A wait has taken too long: the device is given up, and no later wait is begun.
    passed: AtomicBool,
}

/// A limit that was set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limited<'a> {
    limit: Duration,
    passed: &'a AtomicBool,
}

/// For so long a wait asks again at once, which costs the least time; then the core is shared.
const SPIN: Duration = Duration::from_millis(20);

impl Limit {
    pub(super) fn set(&self, limit: Option<Duration>) {
        let milliseconds =
            limit.map_or(0, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1));
        self.milliseconds.store(milliseconds, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<Limited<'_>> {
        let milliseconds = self.milliseconds.load(Ordering::Relaxed);
        let limit = Duration::from_millis(milliseconds);
        (milliseconds > 0).then_some(Limited { limit, passed: &self.passed })
    }

    /// Whether the device was given up; what it holds cannot be given back.
    pub(super) fn has_passed(&self) -> bool {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Limited<'_> {
    /// Asks until the answer is yes, an error, or the limit has passed.
    pub(super) fn wait<E: From<DeviceError>>(
        self,
        mut finished: impl FnMut() -> Result<bool, E>,
    ) -> Result<(), E> {
        let seconds = self.limit.as_secs_f64();
        let error = || DeviceError::TimeLimit { seconds, at: At(None), launch: None };
        if self.passed.load(Ordering::Relaxed) {
            return Err(error().into());
        }
        let begin = Instant::now();
        while !finished()? {
            let age = begin.elapsed();
            if age > self.limit {
                self.passed.store(true, Ordering::Relaxed);
                return Err(error().into());
            }
            if age > SPIN {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }
}
