//! The writer: one call a line, so that a killed run ends with a whole line.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::{Header, Landscape, Record, Trace};
use crate::compare::Phase;
use crate::event::Stopped;
use crate::landscape::Logit;
use crate::number::{Hash, Number};

/// Writes a trace while it comes about.
pub struct Writer<W> {
    target: W,
    rows_count: usize,
    landscapes_count: usize,
}

impl<W: Write> Writer<W> {
    /// Begins a trace with its header.
    pub fn begin(target: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self { target, rows_count: 0, landscapes_count: 0 };
        writer.line(header)?;
        Ok(writer)
    }

    /// A row.
    pub fn row(&mut self, record: &Record) -> io::Result<()> {
        self.rows_count += 1;
        self.line(&Line::Row {
            token_id: record.token_id,
            position: record.position,
            layer: record.layer,
            tap: &record.tap,
            step: record.step,
            phase: record.phase,
            hash: record.hash,
            elements_count: record.elements_count,
            covered_count: record.covered_count,
            min: record.min,
            max: record.max,
            mean: record.mean,
            nan: record.nan,
            inf: record.inf,
            sample: record.sample.as_deref(),
            row: record.row.as_deref(),
        })
    }

    /// The top of the logits of a step.
    pub fn landscape(&mut self, landscape: &Landscape) -> io::Result<()> {
        self.landscapes_count += 1;
        self.line(&Line::Landscape {
            step: landscape.step,
            token_id: landscape.token_id,
            position: landscape.position,
            top: &landscape.top,
            gap: landscape.gap,
            entropy_topk: landscape.entropy,
        })
    }

    /// The last line.
    pub fn end(mut self, stopped: Stopped) -> io::Result<()> {
        let (rows_count, landscapes_count) = (self.rows_count, self.landscapes_count);
        self.line(&Line::End { stopped, rows_count, landscapes_count })?;
        self.target.flush()
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.target.write_all(&bytes)
    }
}

impl Trace {
    /// Writes the whole of it; an end that is missing stays missing.
    pub fn write(&self, target: impl Write) -> io::Result<()> {
        let mut writer = Writer::begin(target, &self.header)?;
        self.records.iter().try_for_each(|record| writer.row(record))?;
        self.landscapes.iter().try_for_each(|landscape| writer.landscape(landscape))?;
        match self.ending {
            super::Ending::Whole(stopped) => writer.end(stopped),
            super::Ending::Early { .. } => Ok(()),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Line<'a> {
    Row {
        token_id: Option<u32>,
        position: usize,
        layer: Option<usize>,
        tap: &'a str,
        step: usize,
        phase: Phase,
        hash: Option<Hash>,
        elements_count: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        covered_count: Option<usize>,
        min: Number,
        max: Number,
        mean: Number,
        nan: Option<usize>,
        inf: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sample: Option<&'a [Number]>,
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hexadecimal")]
        row: Option<&'a [f32]>,
    },
    Landscape {
        step: usize,
        token_id: Option<u32>,
        position: Option<usize>,
        top: &'a [Logit],
        gap: Option<Number>,
        entropy_topk: Number,
    },
    End {
        stopped: Stopped,
        rows_count: usize,
        landscapes_count: usize,
    },
}

/// The bits of each value in eight digits.
fn hexadecimal<S: Serializer>(row: &Option<&[f32]>, serializer: S) -> Result<S::Ok, S::Error> {
    let values = row.unwrap_or_default();
    let mut text = String::with_capacity(values.len() * 8);
    for value in values {
        // Writing into a string does not fail.
        let _ = write!(text, "{:08x}", value.to_bits());
    }
    serializer.serialize_str(&text)
}
