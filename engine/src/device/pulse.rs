//! What a device is doing, for somebody who waits for it in another thread and may have to give up.

use super::moment::{At, Moment};
use super::shared::lock;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The last launch of a device, while it may still run.
#[derive(Debug, Default)]
pub struct Pulse {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    launched: Option<(&'static str, Instant)>,
    moment: Option<Moment>,
}

/// A launch that has not been seen to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The kernel; on a GPU the last that was enqueued.
    pub kernel: &'static str,
    /// How long ago it was launched.
    pub age: Duration,
    /// Where the run was.
    pub at: At,
}

impl Pulse {
    /// The launch that has not been seen to end, if there is one.
    pub fn in_flight(&self) -> Option<InFlight> {
        let State { launched, moment } = *lock(&self.state);
        let (kernel, begin) = launched?;
        Some(InFlight { kernel, age: begin.elapsed(), at: At(moment) })
    }

    pub(super) fn begin(&self, kernel: &'static str) {
        lock(&self.state).launched = Some((kernel, Instant::now()));
    }

    pub(super) fn end(&self) {
        lock(&self.state).launched = None;
    }

    pub(super) fn set_moment(&self, moment: Option<Moment>) {
        lock(&self.state).moment = moment;
    }

    pub(super) fn at(&self) -> At {
        At(lock(&self.state).moment)
    }
}
