//! The reference: a model of one mode, its threads, and the positions it has seen.

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use candle_core::{CpuStorage, Storage, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::exact::{Exact, Level};
use crate::file::ModelFile;
use crate::model::{Chunk, Machine, Model, Sink, Tapped};
use crate::stock::Stock;
use crate::wide::Wide;
use crate::{Config, Error, Mode, Observer, Options, Readout, Row, Tap, Values};

/// The version of candle-core; a test compares it with the lock file.
const CANDLE_VERSION: &str = "0.11.1";

/// How many taps may wait for their observer before the forward pass does.
const TAPS_WAITING_MAX: usize = 16;

/// A llama model on candle.
pub struct Reference {
    config: Config,
    options: Options,
    level: Level,
    pool: ThreadPool,
    machine: Box<dyn Machine>,
    position: usize,
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reference")
            .field("config", &self.config)
            .field("options", &self.options)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Reference {
    /// Loads the file at `path`, which must be a valid GGUF file of a llama model.
    pub fn load(path: &Path, options: &Options) -> Result<Self, Error> {
        let mut file = ModelFile::open(path)?;
        let config = file.config().clone();
        let options = completed(options, &config)?;
        let threads = options.threads;
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("reference-{index}"))
            .build()
            .map_err(|source| Error::Pool { threads, source })?;
        let level = Level::best(options.simd);
        let machine = pool.install(|| -> Result<Box<dyn Machine>, Error> {
            let factors = crate::rotary::factors(&mut file)?;
            Ok(match options.mode {
                Mode::Exact => {
                    let exact = Exact::new(&config, &options, level, factors);
                    Box::new(Model::load(&mut file, exact)?)
                }
                Mode::Stock => {
                    let stock = Stock::new(&config, options.context_tokens, factors)?;
                    Box::new(Model::load(&mut file, stock)?)
                }
                Mode::Wide => {
                    let wide = Wide::new(&config, factors);
                    Box::new(Model::load(&mut file, wide)?)
                }
            })
        })?;
        Ok(Self { config, options, level, pool, machine, position: 0 })
    }

    /// Runs `tokens` at the next positions, in chunks, and gives the readout of the last one.
    ///
    /// The observer is called on this thread, in the order of the contract; it changes nothing.
    pub fn forward(
        &mut self,
        tokens: &[u32],
        observer: &mut dyn Observer,
    ) -> Result<Readout, Error> {
        self.check(tokens)?;
        let first_position = self.position;
        let (sender, receiver) = sync_channel(TAPS_WAITING_MAX);
        let sink = Sink { level: observer.level(), sender };
        let mut outcome = None;
        let (machine, position) = (&mut self.machine, &mut self.position);
        let (ubatch, result) = (self.options.ubatch, &mut outcome);
        self.pool.in_place_scope(move |scope| {
            scope.spawn(move |_| {
                *result = Some(run_chunks(machine.as_mut(), tokens, ubatch, position, &sink));
            });
            observe(receiver, observer);
        });
        let position = first_position + tokens.len() - 1;
        match outcome {
            Some(Ok(Some([hidden, logits]))) => {
                Ok(Readout { position, hidden: row(&hidden)?, logits: row(&logits)? })
            }
            Some(Err(error)) => Err(error),
            Some(Ok(None)) | None => unreachable!("the last chunk gives a readout or an error"),
        }
    }

    /// The position of the next token.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Forgets every position.
    pub fn reset(&mut self) {
        self.machine.reset();
        self.position = 0;
    }

    /// What the file says about the model.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The options in use, with the context length of the file filled in.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What computed the bits: the version of candle, the mode and the instructions.
    #[must_use]
    pub fn identity(&self) -> String {
        let mode = self.options.mode.name();
        match self.options.mode {
            Mode::Exact => {
                let activations = self.options.activations.name();
                let level = self.level.name();
                format!("candle-core {CANDLE_VERSION}, {mode} {activations}, {level}")
            }
            Mode::Stock | Mode::Wide => format!("candle-core {CANDLE_VERSION}, {mode}"),
        }
    }

    fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        if tokens.is_empty() {
            return Err(Error::Empty);
        }
        let vocabulary = self.config.vocabulary;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(Error::Token { token, vocabulary });
        }
        let needed = self.position + tokens.len();
        let context_tokens = self.options.context_tokens;
        if needed > context_tokens {
            return Err(Error::Context { needed, context_tokens });
        }
        Ok(())
    }
}

/// Checks the options and fills in the context length of the file.
fn completed(options: &Options, config: &Config) -> Result<Options, Error> {
    let positive = |option, value| {
        if value > 0 {
            return Ok(());
        }
        Err(Error::Option { option, value, expected: "at least 1".into() })
    };
    positive("ubatch", options.ubatch)?;
    positive("threads", options.threads)?;
    let mut options = options.clone();
    if options.context_tokens == 0 {
        options.context_tokens = config.context_length;
    }
    if options.context_tokens > config.context_length {
        return Err(Error::Option {
            option: "context_tokens",
            value: options.context_tokens,
            expected: format!("at most the model's {}", config.context_length),
        });
    }
    Ok(options)
}

fn run_chunks(
    machine: &mut dyn Machine,
    tokens: &[u32],
    ubatch: usize,
    position: &mut usize,
    sink: &Sink,
) -> Result<Option<[Tensor; 2]>, Error> {
    let mut readout = None;
    let count = tokens.len().div_ceil(ubatch);
    for (index, tokens) in tokens.chunks(ubatch).enumerate() {
        let chunk = Chunk { tokens, first_position: *position, readout: index + 1 == count };
        readout = machine.run(chunk, sink)?;
        *position += tokens.len();
    }
    Ok(readout)
}

/// Shows the taps to the observer until the forward pass has closed the channel.
fn observe(receiver: Receiver<Tapped>, observer: &mut dyn Observer) {
    for Tapped { name, layer, first_position, values } in receiver {
        let values = values.contiguous().expect("a copy on the CPU does not fail");
        let dims = values.dims();
        let (rows, width) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let (storage, layout) = values.storage_and_layout();
        let range = layout.start_offset()..layout.start_offset() + rows * width;
        let values = match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => Values::F32(&values[range]),
            Storage::Cpu(CpuStorage::F64(values)) => Values::F64(&values[range]),
            _ => unreachable!("activations are f32 or f64 on the CPU"),
        };
        observer.tap(Tap { name, layer, first_position, rows, width, values });
    }
}

fn row(tensor: &Tensor) -> Result<Row, Error> {
    let flat = tensor.flatten_all()?;
    Ok(match flat.dtype() {
        candle_core::DType::F64 => Row::F64(flat.to_vec1()?),
        _ => Row::F32(flat.to_vec1()?),
    })
}
