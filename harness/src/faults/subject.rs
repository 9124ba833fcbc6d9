//! A model on which faults are planted one after the other; the reference that judges it is loaded
//! once.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::gguf::File;
use tempfile::NamedTempFile;

use super::FaultsError;
use super::cases::{Case, Fixture};
use super::due::Facts;
use super::weak::{Text, text};
use crate::model::Model;
use crate::run::lane::{Lane, Loading};
use crate::sides::SideError;
use crate::sides::engine::EngineSide;
use crate::sides::reference::ReferenceSide;

/// Positions that a run needs behind its prompt.
const CONTEXT_BEHIND: usize = 32;

/// Where the engine runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The device.
    pub device: engine::DeviceChoice,
    /// The build of the device `host`, or the one that a fault needs.
    pub host_build: Option<engine::HostBuild>,
    /// Threads of each side.
    pub threads: usize,
    /// Whether weaker checks are made as well.
    pub weighs: bool,
}

impl Place {
    /// The device `host`.
    pub fn host(threads: usize) -> Self {
        Self { device: engine::DeviceChoice::Host, host_build: None, threads, weighs: true }
    }

    /// Whether tuned kernels run there.
    pub fn is_of_waves(&self) -> bool {
        match self.device {
            engine::DeviceChoice::Host => {
                self.host_build.is_some_and(|build| build.wave_lanes() > 1)
            }
            _ => true,
        }
    }
}

/// What the reference is loaded with: rows of a pass, whether the cache is f16.
type Kind = (usize, bool);

/// The model.
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// As the engine reads it.
    pub file: Arc<File>,
    /// Where it is.
    pub path: PathBuf,
    /// What it is to its faults.
    pub facts: Facts,
    references: BTreeMap<Kind, Lane>,
    texts: BTreeMap<(Kind, Vec<u32>), Text>,
    /// Holds the file while it is needed.
    _temporary: Option<NamedTempFile>,
    kept: Option<Model>,
}

impl Subject {
    /// A model that has been read.
    pub fn new(name: &str, path: &Path, file: Arc<File>) -> Result<Self, FaultsError> {
        Ok(Self {
            name: name.to_owned(),
            path: path.to_path_buf(),
            facts: Facts::of(&file)?,
            file,
            references: BTreeMap::new(),
            texts: BTreeMap::new(),
            _temporary: None,
            kept: None,
        })
    }

    /// Keeps the model whose file this is: of the embedded one it is gone with the model.
    pub fn keep(&mut self, model: Model) {
        self.kept = Some(model);
    }

    /// Writes a fixture into a file.
    pub fn fixture(fixture: Fixture) -> Result<Self, FaultsError> {
        let mut temporary = NamedTempFile::with_suffix(".gguf")?;
        temporary.write_all(&fixture.bytes())?;
        temporary.flush()?;
        let file = Arc::new(File::open(temporary.path())?);
        let subject = Self::new(fixture.name(), temporary.path(), file)?;
        Ok(Self { _temporary: Some(temporary), ..subject })
    }

    /// Token ids spread over the vocabulary, always the same.
    pub(super) fn prompt(&self, tokens: usize) -> Vec<u32> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        (0..tokens)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 33) % self.facts.config.vocabulary as u64) as u32
            })
            .collect()
    }

    /// Loads the engine with the fault of a case, and the reference where it is not there yet.
    pub(super) fn sides(
        &mut self,
        case: &Case,
        place: &Place,
    ) -> Result<(Lane, Lane), FaultsError> {
        let (file, options) = (Arc::clone(&self.file), engine_options(case, place));
        let load = move || -> Result<Box<dyn crate::sides::Side>, SideError> {
            Ok(Box::new(EngineSide::load(&file, &options)?))
        };
        let engine = Loading::start("engine", Box::new(load));
        let reference = match self.references.remove(&kind(case)) {
            Some(mut reference) => {
                reference.reset();
                reference
            }
            None => {
                let options = self.reference_options(case, place.threads);
                let path = self.path.clone();
                let load = move || -> Result<Box<dyn crate::sides::Side>, SideError> {
                    Ok(Box::new(ReferenceSide::load(&path, &options)?))
                };
                Loading::start("exact", Box::new(load)).wait()?
            }
        };
        Ok((engine.wait()?, reference))
    }

    /// Keeps the reference for the next case.
    pub(super) fn give_back(&mut self, case: &Case, reference: Lane) {
        self.references.insert(kind(case), reference);
    }

    /// How the reference goes on after the prompt of a case.
    pub(super) fn text(
        &mut self,
        case: &Case,
        reference: &mut Lane,
        prompt: &[u32],
    ) -> Result<&Text, SideError> {
        let known = (kind(case), prompt.to_vec());
        if !self.texts.contains_key(&known) {
            let made = text(reference, prompt)?;
            self.texts.insert(known.clone(), made);
        }
        Ok(&self.texts[&known])
    }

    /// What the reference is loaded with; room for the longest prompt of all cases.
    pub(super) fn reference_options(&self, case: &Case, threads: usize) -> reference::Options {
        let longest = super::cases::CASES.map(|case| case.prompt_tokens).into_iter().max();
        reference::Options {
            kv: if case.half { reference::KvType::F16 } else { reference::KvType::F32 },
            context_tokens: longest.unwrap_or(0).max(case.prompt_tokens) + CONTEXT_BEHIND,
            ubatch: case.ubatch,
            threads,
            ..reference::Options::default()
        }
    }
}

fn kind(case: &Case) -> Kind {
    (case.ubatch, case.half)
}

fn engine_options(case: &Case, place: &Place) -> engine::Options {
    engine::Options {
        device: place.device,
        host_build: place.host_build,
        kv: if case.half { engine::KvType::F16 } else { engine::KvType::F32 },
        context_tokens: case.prompt_tokens + CONTEXT_BEHIND,
        ubatch: case.ubatch,
        threads: place.threads,
        fault: case.fault,
        ..engine::Options::default()
    }
}
