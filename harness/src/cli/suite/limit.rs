//! A case's time limit: a flag that is raised by the user or by the clock, and says by whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the clock and the user are looked at; a step takes longer.
const TICK: Duration = Duration::from_millis(20);

/// Stops a run between two steps.
pub(super) struct Limit {
    stop: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Limit {
    /// Begins to count. Without a limit the flag is the user's own.
    pub(super) fn start(minutes: Option<f64>, interrupted: &Arc<AtomicBool>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let limit = minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
        let Some(limit) = limit else {
            return Self { stop: Arc::clone(interrupted), over, watch: None };
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (begin, user) = (Instant::now(), Arc::clone(interrupted));
        let (sender, ended) = channel();
        let (stopping, passing) = (Arc::clone(&stop), Arc::clone(&over));
        let work = move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let passed = begin.elapsed() >= limit;
                if passed {
                    passing.store(true, Ordering::SeqCst);
                }
                if passed || user.load(Ordering::SeqCst) {
                    stopping.store(true, Ordering::SeqCst);
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lockstep limit".to_owned()).spawn(work);
        let thread = thread.expect("the system has no thread for a clock");
        Self { stop, over, watch: Some((sender, thread)) }
    }

    /// What a run looks at.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Whether the time has passed.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.watch.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(flag: &AtomicBool) -> bool {
        let begin = Instant::now();
        while !flag.load(Ordering::SeqCst) && begin.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(TICK);
        }
        flag.load(Ordering::SeqCst)
    }

    #[test]
    fn the_clock_and_the_user_raise_one_flag_and_only_the_clock_the_other() {
        let user = Arc::new(AtomicBool::new(false));
        let passed = Limit::start(Some(1e-4), &user);
        assert!(wait(&passed.flag()) && passed.is_over());
        let long = Limit::start(Some(60.0), &user);
        assert!(!long.flag().load(Ordering::SeqCst));
        user.store(true, Ordering::SeqCst);
        assert!(wait(&long.flag()) && !long.is_over());
        let none = Limit::start(None, &user);
        assert!(none.flag().load(Ordering::SeqCst) && !none.is_over());
    }
}
