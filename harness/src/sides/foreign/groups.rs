//! A foreign engine and all that it has started: a group of processes, ended as a whole.
//!
//! A wrapper that starts the engine is no more than its parent: ended alone, it leaves the engine.

#[cfg(unix)]
pub(super) use unix::{end, end_all, spawn};

#[cfg(not(unix))]
pub(super) use other::{end, end_all, spawn};

#[cfg(unix)]
mod unix {
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use rustix::process::{Pid, Signal, kill_process_group};

    /// The groups that run.
    static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

    fn groups() -> MutexGuard<'static, Vec<Pid>> {
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it as the head of a group of its own: Ctrl-C lets lockstep end its step, and is not
    /// for the engine that computes the step.
    pub(in super::super) fn spawn(command: &mut Command) -> io::Result<Child> {
        let mut groups = groups();
        let child = command.process_group(0).spawn()?;
        groups.push(Pid::from_child(&child));
        Ok(child)
    }

    /// Ends its group, once: the number may be another group's later.
    pub(in super::super) fn end(child: &mut Child) {
        let (mut groups, group) = (groups(), Pid::from_child(child));
        if let Some(place) = groups.iter().position(|known| *known == group) {
            groups.swap_remove(place);
            // That nobody is left in it is no defect.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Ends every group, for a process that ends without dropping what it has.
    pub(in super::super) fn end_all() {
        for group in groups().drain(..) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(not(unix))]
mod other {
    use std::io;
    use std::process::{Child, Command};

    pub(in super::super) fn spawn(command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }

    pub(in super::super) fn end(child: &mut Child) {
        let _ = child.kill();
    }

    /// Nothing is known of groups here.
    pub(in super::super) fn end_all() {}
}
