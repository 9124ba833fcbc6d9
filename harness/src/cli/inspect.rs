//! `lockstep inspect`: the facts of a GGUF file, before anybody loads it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use engine::gguf::{File, Shown, Value};
use engine::{Config, Estimate, Mebibytes, Options};

use super::{EXIT_CODES, Failure};
use crate::model::Model;
use crate::report::output::Output;

/// How much of a text is shown.
const TEXT_COLUMNS: usize = 60;

/// Show what a GGUF file has: metadata, tensors, sizes
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct InspectCommand {
    /// A GGUF file, or a name `lockstep fetch` knows
    #[arg(value_name = "FILE|NAME")]
    model: String,

    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

impl InspectCommand {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let located = Model::locate(Some(&self.model))?;
        let file = located.read()?;
        let mut output = Output::new(io::stdout());
        let bytes = file.size_bytes();
        let (version, alignment) = (file.version(), file.alignment());
        writeln!(output, "{}: GGUF {version}, {bytes} bytes, alignment {alignment}", located.name)?;
        writeln!(output, "\n{}", metadata(&file).trim_fmt())?;
        writeln!(output, "\n{}", types(&file).trim_fmt())?;
        if self.tensors {
            writeln!(output, "\n{}", tensors(&file).trim_fmt())?;
        }
        match runs(&file) {
            Ok(memory) => writeln!(output, "\n{memory}\nruns: yes")?,
            Err(error) => writeln!(output, "\nruns: no, {error}")?,
        }
        Ok(0)
    }
}

/// What a device needs for the whole of the model's context, or why the engine does not run it.
fn runs(file: &File) -> Result<String, engine::Error> {
    let context_tokens = Config::from_gguf(file)?.context_length;
    let options = Options { context_tokens, ..Options::default() };
    let estimate = Estimate::new(file, &options, true)?;
    Ok(format!(
        "memory of a GPU for {context_tokens} positions, ubatch {}: {}: {estimate}",
        options.ubatch,
        Mebibytes(estimate.total_bytes())
    ))
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table
}

fn metadata(file: &File) -> Table {
    let mut table = plain();
    for (key, value) in file.metadata() {
        table.add_row([Shown(key).to_string(), words(value)]);
    }
    table
}

fn words(value: &Value) -> String {
    match value {
        Value::Str(text) => short(text),
        other => other.to_string(),
    }
}

fn short(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    if escaped.chars().count() <= TEXT_COLUMNS {
        return format!("\"{escaped}\"");
    }
    let kept: String = escaped.chars().take(TEXT_COLUMNS).collect();
    format!("\"{kept}…\" ({} bytes)", text.len())
}

fn types(file: &File) -> Table {
    let mut sums: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for tensor in file.tensors() {
        let sum = sums.entry(tensor.kind.name()).or_default();
        sum.0 += 1;
        sum.1 += tensor.size_bytes;
    }
    let mut table = plain();
    table.set_header(["type", "tensors", "bytes"]);
    for (kind, (count, bytes)) in sums {
        table.add_row([kind.to_owned(), count.to_string(), bytes.to_string()]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn tensors(file: &File) -> Table {
    let mut table = plain();
    table.set_header(["tensor", "type", "dimensions", "offset", "bytes"]);
    for tensor in file.tensors() {
        let dimensions: Vec<String> = tensor.dimensions.iter().map(u64::to_string).collect();
        table.add_row([
            Shown(&tensor.name).to_string(),
            tensor.kind.name().to_owned(),
            dimensions.join(" x "),
            tensor.offset_bytes.to_string(),
            tensor.size_bytes.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
