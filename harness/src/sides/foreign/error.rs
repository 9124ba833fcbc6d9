//! What can be wrong with a foreign engine: one variant a situation.

use std::io;

use engine::gguf::Shown;

/// Why a foreign engine is not, or no longer, a side.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The command cannot be cut into words.
    #[error("the command `{}` is empty or has a quote that is not closed", Shown(command))]
    Command {
        /// As it was given.
        command: String,
    },
    /// The program does not start.
    #[error("cannot start `{}`: {source}", Shown(program))]
    Start {
        /// The first word of the command.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// No line in time.
    #[error("no answer to `{request}` within {seconds} s; --time-limit allows more")]
    Silent {
        /// What was asked.
        request: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// The process has ended, or closed its output.
    #[error("the process ended ({status}) when the answer to `{request}` was due")]
    Ended {
        /// What was asked.
        request: &'static str,
        /// How it ended.
        status: String,
    },
    /// The output cannot be read.
    #[error("cannot read the answer to `{request}`: {message}")]
    Read {
        /// What was asked.
        request: &'static str,
        /// What the system said.
        message: String,
    },
    /// More than any answer needs.
    #[error("a line of more than {bytes_max} bytes, where no answer to `{request}` is longer")]
    TooLong {
        /// What was asked.
        request: &'static str,
        /// The most.
        bytes_max: usize,
    },
    /// Something else than an answer.
    #[error(
        "`{}` is no answer: {message}; standard output is for answers alone, words for people \
         belong on standard error",
        Shown(line)
    )]
    NotAnAnswer {
        /// What was read.
        line: String,
        /// What the parser said.
        message: String,
    },
    /// Another version.
    #[error("it speaks version {found} of the protocol, {known} is known here")]
    Version {
        /// Its.
        found: u64,
        /// Ours.
        known: u32,
    },
    /// An answer to another question.
    #[error("it answered `{request}` with `{answer}`, {due} is due")]
    Turn {
        /// What was asked.
        request: &'static str,
        /// What came.
        answer: &'static str,
        /// What was expected.
        due: &'static str,
    },
    /// Another model file.
    #[error("it has loaded a file with SHA-256 {}, the model's is {expected}", Shown(found))]
    Model {
        /// Its.
        found: String,
        /// Ours.
        expected: String,
    },
    /// Another number of tokens.
    #[error("it has a vocabulary of {found} tokens, the model has {expected}")]
    Vocabulary {
        /// Its.
        found: usize,
        /// The file's.
        expected: usize,
    },
    /// A name that cannot be shown.
    #[error("its {field} is empty, longer than {characters_max} characters, or not one line")]
    Name {
        /// Which.
        field: &'static str,
        /// The most.
        characters_max: usize,
    },
    /// It says that it cannot.
    #[error("it reports: {}", Shown(message))]
    Reported {
        /// Its words.
        message: String,
    },
    /// A tap that nobody knows.
    #[error("it sent a tap `{}`, which CONTRACT.md section 12 does not have", Shown(name))]
    UnknownTap {
        /// Its name.
        name: String,
    },
    /// A row of another length than it says, or than the model has.
    #[error("`{row}` has {digits} characters, {due} hexadecimal digits are due: 8 for each value")]
    Digits {
        /// Which row.
        row: String,
        /// How many there are.
        digits: usize,
        /// How many there should be.
        due: usize,
    },
    /// A row with something else in it.
    #[error("`{row}` has a character that is no hexadecimal digit")]
    NotHexadecimal {
        /// Which row.
        row: String,
    },
    /// Rows that the call does not have.
    #[error(
        "`{tap}` has {rows} rows of {width} values from position {first}; this call runs \
         positions {from} to {to}, and no row is wider than {width_max}"
    )]
    Shape {
        /// The tap.
        tap: String,
        /// How many rows.
        rows: usize,
        /// How wide.
        width: usize,
        /// Of which position.
        first: usize,
        /// The first position of the call.
        from: usize,
        /// The last.
        to: usize,
        /// The widest row of the model.
        width_max: usize,
    },
    /// A readout of another token.
    #[error("the readout is of position {found}, {due} is due")]
    Position {
        /// Its.
        found: usize,
        /// The last of the call.
        due: usize,
    },
    /// Taps without an end.
    #[error("more than {taps_max} taps came without a readout")]
    NoReadout {
        /// The most that a call can have.
        taps_max: usize,
    },
}
