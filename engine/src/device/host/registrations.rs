//! The kernels that a build says it has: a list of statics in its object file.

use super::super::backend::{BLOCK_THREADS, Pool};
use super::{HostBuild, Registration, first_registration};
use std::ffi::CStr;

unsafe extern "C" {
    pub(super) fn lockstep_host_faulty() -> *const Registration;
    fn lockstep_faulty_choose(number: u32);
    #[cfg(target_arch = "x86_64")]
    pub(super) fn lockstep_host_faulty_waves() -> *const Registration;
    #[cfg(target_arch = "x86_64")]
    fn lockstep_faulty_waves_choose(number: u32);
}

/// Tells a faulty build which fault the launches of this thread have from here on.
pub(super) fn choose_fault(build: HostBuild) {
    match build {
        // SAFETY: the function sets a number of this thread, and nothing else.
        HostBuild::Faulty(number) => unsafe { lockstep_faulty_choose(number) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        HostBuild::FaultyWaves(number) => unsafe { lockstep_faulty_waves_choose(number) },
        _ => {}
    }
}

/// The argument bytes of a kernel in the sources, which are those of the builds of GPUs.
#[cfg(target_arch = "x86_64")]
pub(in crate::device) fn argument_bytes(name: &str) -> Option<u64> {
    let found = registrations(HostBuild::Waves64).find(|found| found.is(name));
    found.map(|found| found.argument_bytes)
}

/// The names of all kernels that a GPU's build has to have.
#[cfg(all(test, target_arch = "x86_64"))]
pub(in crate::device) fn kernel_names() -> Vec<&'static str> {
    let names = registrations(HostBuild::Waves64).map(|found| found.name());
    names.map(|name| name.to_str().expect("names are ASCII")).collect()
}

/// The kernels of a build.
pub(super) fn registrations(build: HostBuild) -> impl Iterator<Item = &'static Registration> {
    // SAFETY: the function gives the first of a list of statics.
    unsafe { from(first_registration(build)) }
}

/// A registration and those behind it.
///
/// # Safety
/// `next` is null, or the first of a list of statics.
pub(super) unsafe fn from(
    mut next: *const Registration,
) -> impl Iterator<Item = &'static Registration> {
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: not null; the caller vouches for the list.
        let registration = unsafe { &*next };
        next = registration.next;
        Some(registration)
    })
}

impl Registration {
    fn name(&self) -> &'static CStr {
        // SAFETY: the name is a string literal of the kernels' object file.
        unsafe { CStr::from_ptr(self.name) }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name().to_bytes() == name.as_bytes()
    }
}

/// The largest pool of shared memory of a block; `POOL_BYTES` in `host_waves.h`.
const POOL_BYTES: u32 = 227 << 10;

/// The pools of a build: those of NVIDIA's waves have the kernels that ask for one.
pub(super) fn pool(build: HostBuild) -> Option<Pool> {
    let pool = Pool { bytes: POOL_BYTES, threads: BLOCK_THREADS };
    matches!(build, HostBuild::Waves32 | HostBuild::FaultyWaves(_)).then_some(pool)
}
