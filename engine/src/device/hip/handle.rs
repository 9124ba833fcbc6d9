//! Handles of the runtime: addresses that only the runtime reads.

/// A stream, a module and the like, as the runtime named it.
#[derive(Debug)]
pub(super) struct Handle<T>(pub(super) *mut T);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

// SAFETY: nothing is read through the address on this side, and HIP serves its handles on every
// thread.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    /// As the number that the trait's callers keep.
    pub(super) fn number(self) -> u64 {
        self.0.expose_provenance() as u64
    }

    /// The handle that gave this number.
    pub(super) fn from_number(number: u64) -> Self {
        Self(std::ptr::with_exposed_provenance_mut(number as usize))
    }
}
