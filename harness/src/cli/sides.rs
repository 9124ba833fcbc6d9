//! From options to sides: what each is loaded with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::gguf::File;
use reference::Mode;
use serde::{Deserialize, Serialize};

use super::launches;
use super::options::{ActivationsChoice, KvChoice, ReferenceChoice, RunOptions, word};
use crate::compare::triangle::Judge;
use crate::run::lane::{Loader, Loading};
use crate::run::{Lanes, References};
use crate::sides::SideError;
use crate::sides::engine::{EngineSide, NAME};
use crate::sides::foreign::{self, ForeignSide};
use crate::sides::recorded::{Log, RecordedSide};
use crate::sides::recording::Recording;
use crate::sides::reference::ReferenceSide;

/// What both sides are loaded with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    #[serde(with = "launches::device")]
    pub(super) device: engine::DeviceChoice,
    pub(super) activations: ActivationsChoice,
    pub(super) kv: KvChoice,
    pub(super) context_tokens: usize,
    pub(super) ubatch: usize,
    pub(super) threads: usize,
    pub(super) unchecked: bool,
    pub(super) time_limit_seconds: usize,
    pub(super) verify_weights: bool,
    #[serde(with = "launches::planted")]
    pub(super) plant: Option<engine::Fault>,
    pub(super) engine_command: Option<String>,
}

impl Setup {
    /// The options of a run whose context is known.
    pub(super) fn new(options: &RunOptions, context_tokens: usize, threads: usize) -> Self {
        Self {
            device: options.device,
            activations: options.activations,
            kv: options.kv,
            context_tokens,
            ubatch: options.ubatch,
            threads,
            unchecked: options.unchecked,
            time_limit_seconds: options.time_limit,
            verify_weights: options.verify_weights,
            plant: options.plant,
            engine_command: options.engine_command.clone(),
        }
    }

    /// For the engine.
    pub(super) fn engine(&self) -> engine::Options {
        engine::Options {
            device: self.device,
            activations: match self.activations {
                ActivationsChoice::I24 => engine::Activations::I24,
                ActivationsChoice::I16 => engine::Activations::I16,
                ActivationsChoice::I8 => engine::Activations::I8,
            },
            kv: match self.kv {
                KvChoice::F32 => engine::KvType::F32,
                KvChoice::F16 => engine::KvType::F16,
            },
            context_tokens: self.context_tokens,
            ubatch: self.ubatch,
            threads: self.threads,
            host_build: None,
            unchecked: self.unchecked,
            launch_by_launch: false,
            time_limit: Some(Duration::from_secs(self.time_limit_seconds as u64)),
            fault: self.plant,
        }
    }

    /// For an engine in a process of its own.
    fn foreign(&self, command: &str) -> foreign::Options {
        foreign::Options {
            command: command.to_owned(),
            time_limit: Duration::from_secs(self.time_limit_seconds as u64),
            ubatch: self.ubatch,
            context_tokens: self.context_tokens,
            activations: word(self.activations),
            kv: word(self.kv),
            threads: self.threads,
        }
    }

    /// For the reference in a mode.
    pub(super) fn reference(&self, mode: Mode) -> reference::Options {
        reference::Options {
            mode,
            activations: match self.activations {
                ActivationsChoice::I24 => reference::Activations::I24,
                ActivationsChoice::I16 => reference::Activations::I16,
                ActivationsChoice::I8 => reference::Activations::I8,
            },
            kv: match self.kv {
                KvChoice::F32 => reference::KvType::F32,
                KvChoice::F16 => reference::KvType::F16,
            },
            context_tokens: self.context_tokens,
            ubatch: self.ubatch,
            threads: self.threads,
            simd: true,
        }
    }
}

/// Where `exact` comes from; the other references are always computed.
pub(super) enum Source {
    /// It is computed.
    Live,
    /// It is computed, and noted down.
    Noted(Log),
    /// It was computed before.
    Recorded(Recording),
}

/// Loads all sides of a run at the same time.
pub(super) fn load(
    setup: &Setup,
    reference: ReferenceChoice,
    file: &Arc<File>,
    path: &Path,
) -> Result<Lanes, SideError> {
    load_from(setup, reference, Source::Live, file, path)
}

/// As [`load`], with `exact` from anywhere.
pub(super) fn load_from(
    setup: &Setup,
    reference: ReferenceChoice,
    source: Source,
    file: &Arc<File>,
    path: &Path,
) -> Result<Lanes, SideError> {
    let engine = Loading::start(NAME, engine_loader(setup, file, path));
    let start = |mode: Mode| Loading::start(mode.name(), reference_loader(setup, mode, path));
    match reference {
        ReferenceChoice::Exact => {
            let (load, recorded): (Loader, bool) = match source {
                Source::Live => (reference_loader(setup, Mode::Exact, path), false),
                Source::Noted(log) => {
                    let load = reference_loader(setup, Mode::Exact, path);
                    (Box::new(move || Ok(log.around(load()?))), false)
                }
                Source::Recorded(recording) => {
                    (Box::new(|| Ok(Box::new(RecordedSide::new(recording)))), true)
                }
            };
            let reference = Loading::start(Mode::Exact.name(), load);
            let (engine, reference) = (engine.wait()?, reference.wait()?);
            let references = match recorded {
                true => References::Recorded(reference),
                false => References::Exact(reference),
            };
            Ok(Lanes { engine, references })
        }
        ReferenceChoice::Stock | ReferenceChoice::Wide => {
            let (stock, wide) = (start(Mode::Stock), start(Mode::Wide));
            let judge = match reference {
                ReferenceChoice::Stock => Judge::Stock,
                _ => Judge::Wide,
            };
            let engine = engine.wait()?;
            let (stock, wide) = (stock.wait()?, wide.wait()?);
            Ok(Lanes { engine, references: References::Triangle { stock, wide, judge } })
        }
    }
}

/// Loads the engine in its thread: ours, or the one whose command was given.
pub(super) fn engine_loader(setup: &Setup, file: &Arc<File>, path: &Path) -> Loader {
    if let Some(command) = &setup.engine_command {
        let (options, file, path) = (setup.foreign(command), Arc::clone(file), path.to_path_buf());
        return Box::new(move || {
            let config = engine::Config::from_gguf(&file).map_err(|error| {
                let message = error.to_string();
                SideError::Input { side: NAME, message }
            })?;
            Ok(Box::new(ForeignSide::load(&path, &config, &options)?))
        });
    }
    let (options, file) = (setup.engine(), Arc::clone(file));
    let (setup, path) = (setup.clone(), path.to_path_buf());
    Box::new(move || {
        let mut side = EngineSide::load(&file, &options)?;
        if setup.verify_weights {
            side.verify(&file)?;
        }
        Ok(Box::new(side.traced_by(launches::tracer(setup, path))))
    })
}

/// Loads the reference in its thread.
pub(super) fn reference_loader(setup: &Setup, mode: Mode, path: &Path) -> Loader {
    let (options, path): (_, PathBuf) = (setup.reference(mode), path.to_path_buf());
    Box::new(move || Ok(Box::new(ReferenceSide::load(&path, &options)?)))
}
