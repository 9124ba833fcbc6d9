//! The reference in one of its modes.

use std::path::Path;

use reference::{Mode, Observer, Options, Reference};

use super::{
    Copies, Readout, Row, Side, SideError, SideIdentity, Tap, TapLevel, Values, Watcher,
    accepted::accepted, chain,
};

/// The adapter.
pub struct ReferenceSide {
    reference: Reference,
    mode: Mode,
}

impl ReferenceSide {
    /// Loads a file, after the strict reader has accepted it.
    pub fn load(path: &Path, options: &Options) -> Result<Self, SideError> {
        let side = options.mode.name();
        accepted(path).map_err(|error| SideError::Input { side, message: chain(&error) })?;
        let reference = Reference::load(path, options)
            .map_err(|error| SideError::Input { side, message: chain(&error) })?;
        Ok(Self { reference, mode: options.mode })
    }
}

impl Side for ReferenceSide {
    fn identity(&self) -> SideIdentity {
        SideIdentity {
            implementation: self.mode.name().to_owned(),
            device: "cpu".to_owned(),
            build: self.reference.identity(),
        }
    }

    fn forward(&mut self, tokens: &[u32], watcher: &mut dyn Watcher) -> Result<Readout, SideError> {
        let side = self.mode.name();
        let readout = self
            .reference
            .forward(tokens, &mut Adapter { watcher })
            .map_err(|error| SideError::Step { side, message: chain(&error) })?;
        Ok(Readout {
            position: readout.position,
            hidden: row(readout.hidden),
            logits: row(readout.logits),
            hidden_place: None,
            logits_place: None,
        })
    }

    fn reset(&mut self) {
        self.reference.reset();
    }

    fn position(&self) -> usize {
        self.reference.position()
    }

    fn hasher(&self) -> fn(&[f32]) -> u64 {
        reference::row_hash
    }

    fn copies(&self) -> Option<Copies> {
        None
    }
}

fn row(row: reference::Row) -> Row {
    match row {
        reference::Row::F32(values) => Row::F32(values),
        reference::Row::F64(values) => Row::F64(values),
    }
}

struct Adapter<'a> {
    watcher: &'a mut dyn Watcher,
}

impl Observer for Adapter<'_> {
    fn level(&self) -> reference::TapLevel {
        match self.watcher.level() {
            TapLevel::Readout => reference::TapLevel::Readout,
            TapLevel::Layer => reference::TapLevel::Layer,
            TapLevel::Op => reference::TapLevel::Op,
        }
    }

    fn tap(&mut self, tap: reference::Tap<'_>) {
        self.watcher.tap(Tap {
            name: tap.name,
            layer: tap.layer,
            first_position: tap.first_position,
            rows: tap.rows,
            width: tap.width,
            values: match tap.values {
                reference::Values::F32(values) => Values::F32(values),
                reference::Values::F64(values) => Values::F64(values),
            },
        });
    }
}
