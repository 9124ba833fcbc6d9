//! One variant for each defect of a trace file, with its line.

use std::io;

use engine::gguf::Shown;

/// Why a file is no trace this reader accepts.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read.
    #[error("cannot read line {line}: {source}")]
    Read {
        /// The line that was being read.
        line: usize,
        /// What the system said.
        source: io::Error,
    },
    /// There is no line.
    #[error("the file is empty: a trace begins with its header")]
    Empty,
    /// More bytes than any record has.
    #[error("line {line} is longer than {bytes_max} bytes")]
    LineTooLong {
        /// The line.
        line: usize,
        /// The longest that is read.
        bytes_max: usize,
    },
    /// Bytes that are no text.
    #[error("line {line} is not UTF-8 at byte {byte}")]
    NotUtf8 {
        /// The line.
        line: usize,
        /// The first byte of it that is none.
        byte: usize,
    },
    /// Text that is no JSON.
    #[error("line {line} is not JSON: {message}")]
    NotJson {
        /// The line.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A line without anything.
    #[error("line {line} is blank")]
    Blank {
        /// The line.
        line: usize,
    },
    /// JSON, but no object.
    #[error("{place} is {found}, not an object")]
    NotAnObject {
        /// The line, and the field where it is one.
        place: String,
        /// What stands there.
        found: &'static str,
    },
    /// The first line is not what a trace begins with.
    #[error("line 1 is no header of a trace: it has no field `trace`")]
    NoHeader,
    /// A later form.
    #[error("the trace has version {found}, this reader knows {known}")]
    Version {
        /// The file's.
        found: u64,
        /// The reader's.
        known: u64,
    },
    /// A second header.
    #[error("line {line} is a second header: two runs stand in one file")]
    SecondHeader {
        /// The line.
        line: usize,
    },
    /// A kind of line nobody knows.
    #[error("line {line} is a record `{}`: row, landscape and end are known", Shown(found))]
    UnknownRecord {
        /// The line.
        line: usize,
        /// Its word.
        found: String,
    },
    /// A field that has to be there.
    #[error("line {line} has no field `{field}`")]
    MissingField {
        /// The line.
        line: usize,
        /// The field.
        field: String,
    },
    /// A field nobody knows.
    #[error("line {line} has a field `{}` that this form does not have", Shown(field))]
    UnknownField {
        /// The line.
        line: usize,
        /// The field.
        field: String,
    },
    /// A field that is said twice.
    #[error("line {line} says `{}` twice", Shown(field))]
    DuplicateField {
        /// The line.
        line: usize,
        /// The field.
        field: String,
    },
    /// A value of another kind.
    #[error("`{field}` in line {line} is {found}, {expected} is due")]
    WrongType {
        /// The line.
        line: usize,
        /// The field.
        field: String,
        /// What would be right.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A number or a word outside of what can be.
    #[error("`{field}` in line {line} is {}, {expected} is due", Shown(value))]
    OutOfRange {
        /// The line.
        line: usize,
        /// The field.
        field: String,
        /// What stands there.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A row of another length than the record says.
    #[error("the row in line {line} has {actual} values, the line says {expected}")]
    RowLength {
        /// The line.
        line: usize,
        /// What the record says.
        expected: usize,
        /// What there is.
        actual: usize,
    },
    /// A row whose hash is another one.
    #[error("the row in line {line} has the hash {actual}, the line says {expected}")]
    RowHash {
        /// The line.
        line: usize,
        /// What the record says.
        expected: String,
        /// What the values give.
        actual: String,
    },
    /// Something behind the end.
    #[error("line {line} stands behind the end of the trace")]
    AfterEnd {
        /// The line.
        line: usize,
    },
    /// Lines have gone, or have come.
    #[error("the end in line {line} counts {expected} {what}, the file has {actual}")]
    EndCount {
        /// The line.
        line: usize,
        /// Rows or landscapes.
        what: &'static str,
        /// What the end says.
        expected: usize,
        /// What there is.
        actual: usize,
    },
}

impl TraceError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Empty => "give a file that `lockstep trace --out FILE` wrote",
            Self::NoHeader => {
                "`lockstep trace` writes this form; `lockstep import greta` brings GRETA's into it"
            }
            Self::Version { .. } => "read it with the lockstep that wrote it, or record it again",
            Self::SecondHeader { .. } => "cut the file before that line, or record each run apart",
            Self::LineTooLong { .. } | Self::NotUtf8 { .. } | Self::NotJson { .. } => {
                "a trace is text, one JSON object a line; was the file copied whole?"
            }
            Self::RowLength { .. } | Self::RowHash { .. } | Self::EndCount { .. } => {
                "the file was changed or damaged after it was written: record it again"
            }
            _ => "the file was not written by `lockstep trace`, or by another version of it",
        }
    }
}
