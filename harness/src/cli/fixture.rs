//! `lockstep fixture`: a GGUF file from a seed, or a real one in another weight type.

#![expect(clippy::doc_markdown, reason = "these comments are the help on a terminal")]

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use fixtures::{ConvertError, GgmlDType, Mix, PRESETS, Recipe, Tokeniser, Written};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::options::positive;
use super::{EXIT_CODES, Failure};
use crate::model::{Located, Model, ModelError};
use crate::report::output::Output;

const EXAMPLES: &str = "\
Examples:
  lockstep fixture deep --out deep.gguf
  lockstep fixture llama3-8b --seed 7 --out large.gguf
  lockstep fixture --layers 2 --hidden 512 --heads 8 --kv-heads 2 --mix q5_k_m --out some.gguf
  lockstep fixture head-80 --type attn_output=q8_0 --out head.gguf
  lockstep fixture tiny --tokeniser smollm2-135m-instruct --out text.gguf
  lockstep fixture --from smollm2-135m-instruct --mix q4_k_m --out padded.gguf

The same options and the same seed give the same bytes on every machine. A width that is no multiple
of its type's block is refused. --from pads a real model with zeros to multiples of 256, so that it
can have any type and still computes the same.";

/// Make a GGUF file: of any shape from a seed, or a real one in another weight type
#[derive(Debug, Args)]
#[command(after_help = format!("Presets:\n{}\n\n{EXAMPLES}\n\n{EXIT_CODES}", presets()))]
pub(super) struct FixtureCommand {
    /// What to begin with [default: a small model of two layers]
    #[arg(value_name = "PRESET")]
    preset: Option<String>,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Convert this GGUF file, or model that `lockstep fetch` knows, instead of making one
    #[arg(long, value_name = "FILE|NAME")]
    from: Option<String>,

    /// Weight types: q4_k_m, q5_k_m, q3_k_m, or one for all: f32, f16, bf16, q4_0 to q8_0, q2_k to
    /// q6_k [default: the preset's, or q4_k_m]
    #[arg(long, value_name = "MIX")]
    mix: Option<Mix>,

    #[command(flatten)]
    shape: ShapeOptions,
}

/// What can be changed of a recipe.
#[derive(Debug, Default, PartialEq, Args)]
struct ShapeOptions {
    /// Every weight follows from it [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// How many layers
    #[arg(long, value_name = "N", value_parser = positive)]
    layers: Option<usize>,

    /// Values in the residual stream
    #[arg(long, value_name = "N", value_parser = positive)]
    hidden: Option<usize>,

    /// Query heads
    #[arg(long, value_name = "N", value_parser = positive)]
    heads: Option<usize>,

    /// KV heads, a divisor of the heads
    #[arg(long, value_name = "N", value_parser = positive)]
    kv_heads: Option<usize>,

    /// Values in a head, even
    #[arg(long, value_name = "N", value_parser = positive)]
    head_size: Option<usize>,

    /// Values between the feed-forward matrices
    #[arg(long, value_name = "N", value_parser = positive)]
    feed_forward: Option<usize>,

    /// Token ids, at least 257
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "tokeniser")]
    vocabulary: Option<usize>,

    /// Positions the file declares
    #[arg(long, value_name = "N", value_parser = positive)]
    context_length: Option<usize>,

    /// The type of one matrix, or of one in every layer: output=q8_0, blk.0.attn_v=f16, attn_q=q6_k
    #[arg(long = "type", value_name = "MATRIX=TYPE", value_parser = matrix_type)]
    types: Vec<(String, GgmlDType)>,

    /// The token table is the output too
    #[arg(long)]
    tied: bool,

    /// Base of the rotary frequencies
    #[arg(long, value_name = "X")]
    rope_base: Option<f32>,

    /// Divisors of the rotary frequencies, one for each pair of values in a head
    #[arg(long, value_name = "X,X,…", value_delimiter = ',')]
    rope_factors: Option<Vec<f32>>,

    /// Epsilon of the norms
    #[arg(long, value_name = "X")]
    epsilon: Option<f32>,

    /// Take the vocabulary of this GGUF file, or model that `lockstep fetch` knows
    #[arg(long, value_name = "FILE|NAME")]
    tokeniser: Option<String>,
}

impl FixtureCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let (what, written, hash) = match &self.from {
            Some(asked) => {
                if self.preset.is_some() || self.shape != ShapeOptions::default() {
                    return Err(Failure::input(
                        "--from takes its shape and its weights of the file",
                    )
                    .hint("only --mix and --out go with it; a preset has no file"));
                }
                let source = located("--from", asked)?;
                // Refused here are files that no side would run afterwards.
                Model::resolve(Some(asked))?;
                let mix = self.mix.unwrap_or(Mix::Q4KM);
                let what = format!("{} in {mix}", source.name);
                let (written, hash) = write(&self.out, |out| {
                    fixtures::convert(&source.path, mix, out).map_err(|error| refused(&error))
                })?;
                (what, written, hash)
            }
            None => {
                let recipe = self.recipe()?;
                let name = self.preset.as_deref().unwrap_or("a fixture");
                let what = format!("{name} in {}, seed {}", recipe.mix, recipe.seed);
                let (written, hash) =
                    write(&self.out, |out| recipe.write(out).map_err(|error| unfit(&error)))?;
                (what, written, hash)
            }
        };
        let (path, Written { tensors_count, size_bytes }) = (self.out.display(), written);
        writeln!(
            Output::new(io::stdout()),
            "{path}: {what}, {tensors_count} tensors, {size_bytes} bytes, SHA-256 {hash}"
        )?;
        Ok(0)
    }

    fn recipe(&self) -> Result<Recipe, Failure> {
        let mut recipe = match &self.preset {
            None => Recipe::small(),
            Some(name) => Recipe::preset(name).ok_or_else(|| unknown_preset(name))?,
        };
        recipe.mix = self.mix.unwrap_or(recipe.mix);
        let options = &self.shape;
        let shape = &mut recipe.shape;
        for (size, asked) in [
            (&mut shape.layers, options.layers),
            (&mut shape.hidden, options.hidden),
            (&mut shape.heads, options.heads),
            (&mut shape.kv_heads, options.kv_heads),
            (&mut shape.head_size, options.head_size),
            (&mut shape.feed_forward, options.feed_forward),
            (&mut shape.vocabulary, options.vocabulary),
            (&mut shape.context_length, options.context_length),
        ] {
            *size = asked.unwrap_or(*size);
        }
        recipe.types.extend(options.types.iter().cloned());
        recipe.seed = options.seed.unwrap_or(recipe.seed);
        recipe.tied |= options.tied;
        recipe.rope_base = options.rope_base.unwrap_or(recipe.rope_base);
        recipe.epsilon = options.epsilon.unwrap_or(recipe.epsilon);
        if options.rope_factors.is_some() {
            recipe.rope_factors.clone_from(&options.rope_factors);
        }
        let Some(asked) = &options.tokeniser else { return Ok(recipe) };
        let source = located("--tokeniser", asked)?;
        source.read()?;
        let hint = "give --tokeniser a file with `tokenizer.` in what `lockstep inspect` shows";
        let tokeniser = Tokeniser::of_file(&source.path)
            .map_err(|error| Failure::input(format!("{}: {error}", source.name)).hint(hint))?;
        Ok(recipe.with_tokeniser(tokeniser))
    }
}

/// The presets, one a line.
fn presets() -> String {
    let lines = PRESETS.map(|(name, what)| format!("  {name:<13} {what}"));
    lines.join("\n")
}

fn unknown_preset(name: &str) -> Failure {
    let names = PRESETS.map(|(name, _)| name).join(", ");
    Failure::input(format!("there is no preset `{name}`"))
        .hint(format!("one of: {names}; or give --from a GGUF file"))
}

fn matrix_type(text: &str) -> Result<(String, GgmlDType), String> {
    let Some((name, kind)) = text.split_once('=') else {
        return Err("a matrix and its type are needed, such as attn_v=q8_0".to_owned());
    };
    let kind = fixtures::kind_named(kind).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), kind))
}

/// A file to read, in the words of the option that names it.
fn located(option: &str, asked: &str) -> Result<Located, Failure> {
    Model::locate(Some(asked)).map_err(|error| match error {
        ModelError::Unknown { asked, known } => {
            Failure::input(format!("there is no file and no model `{asked}`"))
                .hint(format!("give {option} a GGUF file, or one of: tiny, {}", known.join(", ")))
        }
        error => error.into(),
    })
}

fn unfit(error: &fixtures::Error) -> Failure {
    let failure = Failure::input(error.to_string());
    match error {
        fixtures::Error::Width { tensor, block, .. } => {
            let kind = if *block > 32 { "q8_0" } else { "f16" };
            let name = tensor.trim_end_matches(".weight");
            let name = name.rsplit('.').next().unwrap_or(name);
            failure.hint(format!(
                "give another size, or the matrix its own type: --type {name}={kind}"
            ))
        }
        fixtures::Error::NoMatrix { .. } => failure.hint(
            "matrices are token_embd, output unless tied, and in every layer attn_q, attn_k, \
             attn_v, attn_output, ffn_gate, ffn_up and ffn_down",
        ),
        fixtures::Error::Write(_) => failure.hint("make room, or give --out another folder"),
        fixtures::Error::Quantise(_) => failure,
        _ => failure.hint("`lockstep fixture --help` says what each option means"),
    }
}

fn refused(error: &ConvertError) -> Failure {
    let failure = Failure::input(error.to_string());
    match error {
        ConvertError::Write(_) => failure.hint("make room, or give --out another folder"),
        ConvertError::NotFinite { .. } => failure.hint("another --mix may have the range"),
        _ => failure.hint("`lockstep inspect FILE --tensors` shows what the file has"),
    }
}

/// Hashes what goes through it.
struct Hashing<W> {
    inner: W,
    digest: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a file beside its place and moves it there when it is complete.
fn write(
    path: &Path,
    fill: impl FnOnce(&mut Hashing<&mut NamedTempFile>) -> Result<Written, Failure>,
) -> Result<(Written, String), Failure> {
    // Without the system's own words, which name the temporary file.
    let failed = |kind: io::ErrorKind| {
        Failure::input(format!("cannot write {}: {kind}", path.display()))
            .hint("give --out a file in a folder that is there and can be written to")
    };
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory));
    }
    // A device or a link would be replaced, not written to.
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err(failed(io::ErrorKind::InvalidInput));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fixture-");
    // As readable as any file that a program writes; the default is for the owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder.tempfile_in(folder.unwrap_or(Path::new(".")));
    let mut file = file.map_err(|error| failed(error.kind()))?;
    let mut hashing = Hashing { inner: &mut file, digest: Sha256::new() };
    let written = fill(&mut hashing)?;
    let hash = format!("{:x}", hashing.digest.finalize());
    file.as_file().sync_all().map_err(|error| failed(error.kind()))?;
    file.persist(path).map_err(|error| failed(error.error.kind()))?;
    Ok((written, hash))
}
