//! The forward pass of a llama model, once, over any [`Arithmetic`].

use std::sync::mpsc::SyncSender;

use candle_core::Tensor;

use crate::arithmetic::Arithmetic;
use crate::file::ModelFile;
use crate::{Error, TapLevel};

/// A tap on its way to the observer.
pub(crate) struct Tapped {
    pub(crate) name: &'static str,
    pub(crate) layer: Option<usize>,
    pub(crate) first_position: usize,
    pub(crate) values: Tensor,
}

/// Where taps go, and which.
pub(crate) struct Sink {
    pub(crate) level: TapLevel,
    pub(crate) sender: SyncSender<Tapped>,
}

/// A run of tokens at consecutive positions.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) first_position: usize,
    /// Whether the hidden state and the logits of the last token are wanted.
    pub(crate) readout: bool,
}

/// A model behind its mode.
pub(crate) trait Machine: Send {
    /// Runs a chunk; gives hidden state and logits if they are wanted.
    fn run(&mut self, chunk: Chunk<'_>, sink: &Sink) -> Result<Option<[Tensor; 2]>, Error>;
    /// Forgets every position.
    fn reset(&mut self);
}

struct Layer<A: Arithmetic> {
    attn_norm: A::Vector,
    attn_q: A::Matrix,
    attn_k: A::Matrix,
    attn_v: A::Matrix,
    attn_output: A::Matrix,
    ffn_norm: A::Vector,
    ffn_gate: A::Matrix,
    ffn_up: A::Matrix,
    ffn_down: A::Matrix,
}

/// The weights and the arithmetic they are in.
pub(crate) struct Model<A: Arithmetic> {
    arithmetic: A,
    token_embd: A::Table,
    layers: Vec<Layer<A>>,
    output_norm: A::Vector,
    output: A::Matrix,
}

impl<A: Arithmetic> Model<A> {
    /// Loads every tensor, one after the other.
    pub(crate) fn load(file: &mut ModelFile, arithmetic: A) -> Result<Self, Error> {
        let config = file.config().clone();
        let (vocabulary, hidden) = (config.vocabulary, config.hidden);
        let stored = file.matrix("token_embd.weight", vocabulary, hidden)?;
        let (token_embd, tied) = arithmetic.table(stored, config.tied)?;
        let layers = (0..config.layers)
            .map(|index| Layer::load(file, &arithmetic, index))
            .collect::<Result<_, _>>()?;
        let output_norm = arithmetic.vector(file.vector("output_norm.weight", hidden)?)?;
        let output = match tied {
            Some(matrix) => matrix,
            None => arithmetic.matrix(file.matrix("output.weight", vocabulary, hidden)?)?,
        };
        Ok(Self { arithmetic, token_embd, layers, output_norm, output })
    }
}

impl<A: Arithmetic> Layer<A> {
    fn load(file: &mut ModelFile, arithmetic: &A, index: usize) -> Result<Self, Error> {
        let config = file.config().clone();
        let (hidden, feed_forward) = (config.hidden, config.feed_forward);
        let (query_width, kv_width) = (config.query_width(), config.kv_width());
        let name = |tensor: &str| format!("blk.{index}.{tensor}.weight");
        let mut matrix = |tensor: &str, rows: usize, columns: usize| {
            arithmetic.matrix(file.matrix(&name(tensor), rows, columns)?)
        };
        let attn_q = matrix("attn_q", query_width, hidden)?;
        let attn_k = matrix("attn_k", kv_width, hidden)?;
        let attn_v = matrix("attn_v", kv_width, hidden)?;
        let attn_output = matrix("attn_output", hidden, query_width)?;
        let ffn_gate = matrix("ffn_gate", feed_forward, hidden)?;
        let ffn_up = matrix("ffn_up", feed_forward, hidden)?;
        let ffn_down = matrix("ffn_down", hidden, feed_forward)?;
        let attn_norm = arithmetic.vector(file.vector(&name("attn_norm"), hidden)?)?;
        let ffn_norm = arithmetic.vector(file.vector(&name("ffn_norm"), hidden)?)?;
        Ok(Self {
            attn_norm,
            attn_q,
            attn_k,
            attn_v,
            attn_output,
            ffn_norm,
            ffn_gate,
            ffn_up,
            ffn_down,
        })
    }
}

/// The taps of one chunk.
struct Taps<'a> {
    sink: &'a Sink,
    first_position: usize,
    layer: Option<usize>,
}

impl Taps<'_> {
    /// Hands a tensor on when the observer wants this level. A closed channel is an observer that
    /// panicked; its caller unwinds once this chunk is done.
    fn tap(&self, level: TapLevel, name: &'static str, values: &Tensor) {
        if self.sink.level >= level {
            let values = values.clone();
            let (layer, first_position) = (self.layer, self.first_position);
            drop(self.sink.sender.send(Tapped { name, layer, first_position, values }));
        }
    }
}

impl<A: Arithmetic> Machine for Model<A> {
    fn run(&mut self, chunk: Chunk<'_>, sink: &Sink) -> Result<Option<[Tensor; 2]>, Error> {
        let Chunk { tokens, first_position, readout } = chunk;
        let mut taps = Taps { sink, first_position, layer: None };
        self.arithmetic.begin(first_position, tokens.len())?;
        let mut stream = self.arithmetic.embed(&self.token_embd, tokens)?;
        taps.tap(TapLevel::Layer, "embed", &stream);
        for (index, layer) in self.layers.iter().enumerate() {
            taps.layer = Some(index);
            stream = layer.attend(&mut self.arithmetic, &stream, &taps)?;
            stream = layer.feed_forward(&self.arithmetic, &stream, &taps)?;
        }
        if !readout {
            return Ok(None);
        }
        let last = tokens.len() - 1;
        let taps = Taps { sink, first_position: first_position + last, layer: None };
        let stream = stream.narrow(1, last, 1)?;
        let hidden = self.arithmetic.rms_norm(&stream, &self.output_norm)?;
        taps.tap(TapLevel::Layer, "final_norm", &hidden);
        let [logits] = self.arithmetic.products(&hidden, [&self.output])?;
        taps.tap(TapLevel::Layer, "logits", &logits);
        Ok(Some([hidden, logits]))
    }

    fn reset(&mut self) {
        self.arithmetic.reset();
    }
}

impl<A: Arithmetic> Layer<A> {
    fn attend(
        &self,
        arithmetic: &mut A,
        stream: &Tensor,
        taps: &Taps<'_>,
    ) -> Result<Tensor, Error> {
        let normed = arithmetic.rms_norm(stream, &self.attn_norm)?;
        taps.tap(TapLevel::Op, "attn_norm", &normed);
        let matrices = [&self.attn_q, &self.attn_k, &self.attn_v];
        let [q, k, v] = arithmetic.products(&normed, matrices)?;
        taps.tap(TapLevel::Op, "q", &q);
        taps.tap(TapLevel::Op, "k", &k);
        taps.tap(TapLevel::Op, "v", &v);
        let q = arithmetic.rope(&q, taps.first_position)?;
        taps.tap(TapLevel::Op, "q_rope", &q);
        let k = arithmetic.rope(&k, taps.first_position)?;
        taps.tap(TapLevel::Op, "k_rope", &k);
        let index = taps.layer.unwrap_or_default();
        let attended = arithmetic.attention(index, [&q, &k], &v, taps.first_position)?;
        taps.tap(TapLevel::Op, "attn_out", &attended);
        let [branch] = arithmetic.products(&attended, [&self.attn_output])?;
        taps.tap(TapLevel::Op, "wo", &branch);
        let stream = arithmetic.add(stream, &branch)?;
        taps.tap(TapLevel::Op, "attn_residual", &stream);
        Ok(stream)
    }

    fn feed_forward(
        &self,
        arithmetic: &A,
        stream: &Tensor,
        taps: &Taps<'_>,
    ) -> Result<Tensor, Error> {
        let normed = arithmetic.rms_norm(stream, &self.ffn_norm)?;
        taps.tap(TapLevel::Op, "ffn_norm", &normed);
        let matrices = [&self.ffn_gate, &self.ffn_up];
        let [gate, up] = arithmetic.products(&normed, matrices)?;
        taps.tap(TapLevel::Op, "gate", &gate);
        taps.tap(TapLevel::Op, "up", &up);
        let inner = arithmetic.swiglu(&gate, &up)?;
        taps.tap(TapLevel::Op, "swiglu", &inner);
        let [branch] = arithmetic.products(&inner, [&self.ffn_down])?;
        taps.tap(TapLevel::Op, "down", &branch);
        let stream = arithmetic.add(stream, &branch)?;
        taps.tap(TapLevel::Layer, "ffn_residual", &stream);
        Ok(stream)
    }
}
