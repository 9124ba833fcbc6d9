//! The readout: final norm and logits of the last token, and the two rows copied to the host.

use super::engine::Engine;
use super::layer::Pass;
use super::watch::Watch;
use crate::device::{DeviceError, View};
use crate::error::Error;
use crate::fault::Fault;
use crate::kernels::RmsNorm;
use crate::taps::{Observer, Place, Readout, Tap, TapLevel};

impl Engine {
    /// Copies `final_norm` and `logits` of the last row of a pass, after computing them where
    /// the pass has not done so.
    pub(super) fn read_out(
        &self,
        (pass, read): (Pass, bool),
        position: usize,
        observer: &mut dyn Observer,
    ) -> Result<Readout, Error> {
        let space = &self.workspace.readout;
        match (read, self.kernels.has_tuned()) {
            (true, _) => self.spoil_logits()?,
            (false, true) => {
                self.tuned_readout(pass, &mut Watch::rows(observer))?;
                self.spoil_logits()?;
            }
            (false, false) => self.plain_readout(pass)?,
        }
        let (hidden, hidden_place) = copy(space.hidden.values.all())?;
        let (logits, logits_place) = copy(space.logits.all())?;
        if observer.level() >= TapLevel::Layer {
            for (name, values) in [("final_norm", &hidden), ("logits", &logits)] {
                observer.tap(Tap {
                    name,
                    layer: None,
                    first_position: position,
                    rows: 1,
                    width: values.len(),
                    values,
                });
            }
        }
        Ok(Readout { position, hidden, logits, hidden_place, logits_place })
    }

    fn plain_readout(&self, pass: Pass) -> Result<(), Error> {
        let wrong = self.fault == Some(Fault::ReadoutOfRowZero);
        self.plain_final_norm(pass, if wrong { 0 } else { pass.rows - 1 })?;
        if self.logits_are_stale() { Ok(()) } else { self.plain_logits() }
    }

    /// The fault of a graph that replays the offset of the first decode: later logits are left
    /// elsewhere.
    pub(super) fn logits_are_stale(&self) -> bool {
        self.fault == Some(Fault::StaleLogits) && self.calls > 1
    }

    /// `final_norm` of one row of the stream behind the last layer.
    pub(super) fn plain_final_norm(&self, pass: Pass, row: u32) -> Result<(), Error> {
        let space = &self.workspace.readout;
        let input = RmsNorm {
            x: self.row(pass, row)?,
            weight: self.weights.output_norm.all(),
            width: u32::try_from(self.config.hidden).expect("sizes were compared with 2^24"),
            rows: 1,
            epsilon: self.config.epsilon,
        };
        Ok(self.kernels.rms_norm(input, space.hidden.values.all())?)
    }

    /// `logits` of the hidden state.
    pub(super) fn plain_logits(&self) -> Result<(), Error> {
        let space = &self.workspace.readout;
        let matrix = self.weights.output_matrix();
        let pass = Pass { rows: 1, first_position: 0, level: TapLevel::Readout };
        self.products(pass, &space.hidden, &[matrix], &[&space.logits])?;
        self.spoil_logits()
    }

    /// The fault of logits that are no numbers.
    pub(super) fn spoil_logits(&self) -> Result<(), Error> {
        let space = &self.workspace.readout;
        let spoiled = match self.fault {
            Some(Fault::NanLogit) => 1,
            Some(Fault::NanLogits) => space.logits.all::<f32>().count(),
            _ => return Ok(()),
        };
        let nothing = vec![f32::NAN; usize::try_from(spoiled).expect("a row fits in host memory")];
        // Not the first: a token that is chosen for being NaN is token 0.
        let first = if spoiled == 1 { 7 } else { 0 };
        Ok(space.logits.view(first, spoiled)?.write(&nothing)?)
    }

    /// A row of the residual stream behind the last layer.
    pub(super) fn row(&self, pass: Pass, row: u32) -> Result<View<'_, f32>, DeviceError> {
        let hidden = self.config.hidden as u64;
        let stream = self.workspace.stream(pass, self.config.layers);
        stream.view(u64::from(row) * hidden, hidden)
    }
}

/// The row on the host, and where it was on the device.
fn copy(view: View<'_, f32>) -> Result<(Vec<f32>, Place), Error> {
    let count = usize::try_from(view.count()).expect("a row fits in host memory");
    let mut row = vec![f32::NAN; count];
    view.read(&mut row)?;
    let place = Place {
        pointer: view.address() - view.offset_bytes(),
        allocation_bytes: view.allocation_bytes(),
        offset_bytes: view.offset_bytes(),
    };
    Ok((row, place))
}
