//! The engine: a model on a device, fed with tokens.

use super::cache::Cache;
use super::config::Config;
use super::estimate::refuse_too_large;
use super::layer::Pass;
use super::rotary::Rotary;
use super::shapes::Shapes;
use super::step::Singles;
use super::watch::Watch;
use super::weights::Weights;
use super::workspace::Workspace;
use crate::device::{Buffer, Device, Pulse};
use crate::error::Error;
use crate::fault::Fault;
use crate::gguf::File;
use crate::kernels::Kernels;
use crate::options::{KvType, Options};
use crate::taps::{Observer, Readout, TapLevel};
use std::sync::Arc;

/// What produced a result: no two sides of a comparison have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This implementation and its version.
    pub implementation: String,
    /// The device.
    pub device: String,
    /// Compiler and kernels' hash.
    pub build: String,
}

/// A llama model on a device, with the cache of one sequence.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: Config,
    pub(super) kernels: Kernels,
    pub(super) weights: Weights,
    pub(super) cache: Cache,
    pub(super) workspace: Workspace,
    /// `[context][rope_dimensions / 2]`.
    pub(super) cosine: Buffer,
    pub(super) sine: Buffer,
    pub(super) kv: KvType,
    pub(super) context_tokens: usize,
    pub(super) ubatch: usize,
    pub(super) position: usize,
    /// Calls since the sequence was empty.
    pub(super) calls: usize,
    /// Whether the cache may hold something of an earlier sequence.
    pub(super) cache_used: bool,
    pub(super) singles: Singles,
    pub(super) fault: Option<Fault>,
}

impl Engine {
    /// Loads a file on a device.
    ///
    /// # Errors
    /// A file that is no supported model, a device that is missing or too small.
    pub fn load(file: &File, options: &Options) -> Result<Self, Error> {
        let config = Config::from_gguf(file)?;
        let shapes = Shapes::check(file, &config)?;
        let largest = 1 << 31;
        for (what, value) in
            [("--context-tokens", options.context_tokens), ("--ubatch", options.ubatch)]
        {
            if value == 0 {
                return Err(Error::Zero { what });
            }
            assert!(value < largest, "{what} {value} is far beyond any memory");
        }
        let (planted, threads) =
            (options.fault.and_then(Fault::kernel_number), options.threads.max(1));
        let device = Device::open_planted(options.device, options.host_build, threads, planted)?;
        let device = if options.unchecked { device.unchecked() } else { device };
        device.limit_waits(options.time_limit);
        device.set_careful(options.launch_by_launch);
        let kernels = Kernels::load(&device, options.activations, options.kv)?;
        let table = shapes.checked("token_embd.weight").kind;
        if let Some(fault) = options.fault.filter(|fault| !fault.is_on_waves(table))
            && kernels.has_tuned()
        {
            let device = device.describe().device;
            return Err(Error::Unplanted { fault: fault.id(), device });
        }
        let (waves, free_bytes) = (kernels.has_tuned(), device.attributes().memory_free_bytes);
        refuse_too_large(shapes, options, waves, device.describe().device, free_bytes)?;
        let weights = Weights::load(shapes, &device, options.fault)?;
        let ubatch = options.ubatch.min(options.context_tokens);
        let sizes = (ubatch, options.context_tokens);
        let workspace = Workspace::allocate(&kernels, &config, &weights, sizes)?;
        let cache = Cache::allocate(&device, &config, options.kv, options.context_tokens)?;
        let factors = weights.rope_factors.as_deref();
        let tables = Rotary::new(&config, factors).tables(options.context_tokens);
        Ok(Self {
            cosine: device.upload("rope.cosine", &tables.cosine)?,
            sine: device.upload("rope.sine", &tables.sine)?,
            config,
            kernels,
            weights,
            cache,
            workspace,
            kv: options.kv,
            context_tokens: options.context_tokens,
            ubatch,
            position: 0,
            calls: 0,
            cache_used: false,
            singles: Singles::default(),
            fault: options.fault,
        })
    }

    /// Appends tokens at [`Engine::position`], in passes of at most `ubatch`; reads out the last.
    ///
    /// # Errors
    /// Tokens outside the vocabulary, more of them than the context has room for, or a device
    /// that refuses; the position is then as before. What a device reports late is traced to its
    /// launch (docs/checking.md).
    pub fn forward(
        &mut self,
        tokens: &[u32],
        observer: &mut dyn Observer,
    ) -> Result<Readout, Error> {
        self.check_tokens(tokens)?;
        let readout = self.attempt(tokens, |engine| engine.passes(tokens, observer))?;
        self.position += tokens.len();
        self.calls += 1;
        Ok(readout)
    }

    pub(super) fn passes(
        &mut self,
        tokens: &[u32],
        observer: &mut dyn Observer,
    ) -> Result<Readout, Error> {
        let mut position = self.position;
        let mut last = None;
        for piece in tokens.chunks(self.ubatch) {
            let pass = Pass::new(piece.len(), position, observer.level());
            self.write_inputs(piece, pass)?;
            last = Some((pass, self.run(pass, observer)?));
            position += piece.len();
        }
        let last = last.ok_or(Error::NoTokens)?;
        self.read_out(last, position - 1, observer)
    }

    /// Runs a pass whose inputs are on the device; whether its readout has run as well.
    fn run(&mut self, pass: Pass, observer: &mut dyn Observer) -> Result<bool, Error> {
        if !self.kernels.has_tuned() {
            self.plain_pass(pass, observer)?;
            return Ok(false);
        }
        if pass.rows == 1 && pass.level == TapLevel::Readout && !self.device().is_careful() {
            self.single(pass, None)?;
            return Ok(true);
        }
        if observer.digests_first() && pass.level > TapLevel::Readout {
            self.poison_digests(pass)?;
            self.tuned_pass(pass, &mut Watch::digests_first(observer))?;
        } else {
            self.tuned_pass(pass, &mut Watch::rows(observer))?;
        }
        Ok(false)
    }

    pub(super) fn check_tokens(&self, tokens: &[u32]) -> Result<(), Error> {
        if tokens.is_empty() {
            return Err(Error::NoTokens);
        }
        let needed = self.position + tokens.len();
        if needed > self.context_tokens {
            return Err(Error::Context {
                tokens: tokens.len(),
                position: self.position,
                needed,
                context: self.context_tokens,
            });
        }
        let vocabulary = self.config.vocabulary;
        let outside = tokens.iter().position(|token| *token as usize >= vocabulary);
        outside.map_or(Ok(()), |index| {
            let position = self.position + index;
            Err(Error::Token { token: tokens[index], position, vocabulary })
        })
    }

    /// Tokens so far: the position of the next.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Forgets the sequence. Where that is checked the next one begins with a poisoned cache; no
    /// pass reads beyond its own positions.
    pub fn reset(&mut self) {
        self.position = 0;
        self.calls = 0;
    }

    /// What is in flight on the device, for another thread.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.device().pulse()
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.kernels.device()
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What produces the results.
    pub fn identity(&self) -> Identity {
        let description = self.device().describe();
        let planted = self.fault.map_or_else(String::new, |fault| format!(" with {}", fault.id()));
        Identity {
            implementation: format!(
                "engine {} {} kv {}{planted}",
                env!("CARGO_PKG_VERSION"),
                self.kernels.activations().name(),
                self.kv.name()
            ),
            device: format!("{} {}", description.device, description.name),
            build: description.build,
        }
    }

    /// Copies between host and device whose bounds were asserted.
    pub fn copies_checked(&self) -> u64 {
        self.device().copies_checked()
    }

    /// Copies between host and device.
    pub fn copies_total(&self) -> u64 {
        self.device().copies_total()
    }
}
