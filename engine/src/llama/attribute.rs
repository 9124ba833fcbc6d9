//! A step that a device failed, once more and launch by launch, so that the launch has a name.

use super::engine::Engine;
use super::layer::Pass;
use crate::device::{DeviceError, Moment, PassPhase};
use crate::error::Error;
use crate::taps::Silent;

impl Engine {
    /// Runs a step, looks at the guard zones behind it, and traces what the device reports late.
    pub(super) fn attempt<T>(
        &mut self,
        tokens: &[u32],
        run: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.enter_layer(None);
        let result = self.forget_cache().and_then(|()| run(self)).and_then(|result| {
            self.device().check_guards()?;
            Ok(result)
        });
        let result = result.map_err(|error| match error {
            Error::Device(error) if error.is_late() && !self.device().is_careful() => {
                Error::Device(self.attribute(tokens, error))
            }
            other => other,
        });
        self.device().set_moment(None);
        result
    }

    /// Poisons the cache before a new sequence, where that is checked.
    fn forget_cache(&mut self) -> Result<(), Error> {
        if self.position == 0 && self.cache_used && self.device().is_checking() {
            self.cache.poison()?;
        }
        self.cache_used = true;
        Ok(())
    }

    /// Runs tokens again from the position where they failed, waiting for each launch: the first
    /// that fails, writes outside its buffers or leaves something out is the cause. A device that
    /// is lost for this process answers nothing; then the first error is given back, and says so.
    fn attribute(&mut self, tokens: &[u32], first: DeviceError) -> DeviceError {
        let device = self.device().clone();
        if device.renew_guards().is_err() {
            return DeviceError::Lost { reason: first.to_string() };
        }
        device.set_careful(true);
        let again = self.passes(tokens, &mut Silent);
        device.set_careful(false);
        match again {
            Err(Error::Device(found)) if found.names_its_launch() => found,
            Err(Error::Device(DeviceError::Runtime { .. } | DeviceError::Launch { .. })) => {
                DeviceError::Lost { reason: first.to_string() }
            }
            _ => DeviceError::NotRepeated { reason: first.to_string() },
        }
    }

    /// Says which layer is under way; refusals repeat it.
    pub(super) fn enter_layer(&self, layer: Option<usize>) {
        let phase = if self.calls == 0 { PassPhase::Prefill } else { PassPhase::Decode };
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let (step, layer) = (narrow(self.calls), layer.map(narrow));
        self.device().set_moment(Some(Moment { step, phase, layer }));
    }

    /// Poisons the digests that a pass is going to write: one that is not taken is seen.
    pub(super) fn poison_digests(&self, pass: Pass) -> Result<(), DeviceError> {
        let most = super::workspace::digests_of(&self.config, pass.rows as usize);
        let digests = &self.workspace.digests;
        digests.view::<crate::kernels::RowDigest>(0, most)?.poison()
    }
}
