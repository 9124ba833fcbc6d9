//! Graphs and marks of the device `host`: lists of launches, and points in time.

use super::super::backend::{Grid, Kernel};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A launch as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Launched {
    pub(super) kernel: Kernel,
    pub(super) grid: Grid,
    pub(super) arguments: Vec<u8>,
    pub(super) parallel: bool,
}

/// What was captured, and what is being captured.
#[derive(Debug)]
pub(super) struct Recorder {
    state: Mutex<State>,
    begin: Instant,
}

#[derive(Debug, Default)]
struct State {
    capture: Option<Vec<Launched>>,
    graphs: BTreeMap<u64, Arc<Vec<Launched>>>,
    next: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { state: Mutex::default(), begin: Instant::now() }
    }
}

impl Recorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        let earlier = self.state().capture.replace(Vec::new());
        assert!(earlier.is_none(), "one capture at a time");
    }

    /// Whether a launch was written down, as it is during a capture.
    pub(super) fn take(
        &self,
        kernel: &Kernel,
        grid: Grid,
        arguments: &[u8],
        parallel: bool,
    ) -> bool {
        let mut state = self.state();
        let Some(capture) = &mut state.capture else { return false };
        let (kernel, arguments) = (kernel.clone(), arguments.to_vec());
        capture.push(Launched { kernel, grid, arguments, parallel });
        true
    }

    pub(super) fn end(&self) -> u64 {
        let mut state = self.state();
        let launches = state.capture.take().expect("a capture has begun");
        let handle = state.next;
        state.next += 1;
        state.graphs.insert(handle, Arc::new(launches));
        handle
    }

    pub(super) fn launches(&self, graph: u64) -> Arc<Vec<Launched>> {
        Arc::clone(self.state().graphs.get(&graph).expect("the graph is alive"))
    }

    pub(super) fn release(&self, graph: u64) {
        self.state().graphs.remove(&graph);
    }

    /// Nanoseconds since the device was opened.
    pub(super) fn mark(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn seconds_between(&self, first: u64, second: u64) -> f64 {
        second.saturating_sub(first) as f64 * 1e-9
    }
}
