//! The lines between lockstep and a foreign engine (docs/foreign-engine.md), for both ends.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::fields::Fields;
use crate::sides::TapLevel;

/// The version of these lines; whoever changes their meaning raises it.
pub const PROTOCOL: u32 = 1;

/// What lockstep asks, one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The first line.
    Hello {
        /// The version of the protocol.
        protocol: u32,
        /// The model file, by its whole path on this machine.
        model: String,
        /// The most tokens of a prompt that are run at once.
        ubatch: usize,
        /// How many positions the run needs.
        context_tokens: usize,
        /// The fixed point of the activations: CONTRACT.md section 5.
        activations: String,
        /// The type of the cache: CONTRACT.md section 9.
        kv: String,
        /// How many threads the engine may use.
        threads: usize,
    },
    /// Append these tokens to the sequence and run them.
    Forward {
        /// At least one.
        tokens: Vec<u32>,
        /// Which taps are due before the readout.
        level: TapLevel,
    },
    /// Forget the sequence.
    Reset {},
    /// Nothing more comes.
    Quit {},
}

impl Request {
    /// Its name in messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Forward { .. } => "forward",
            Self::Reset {} => "reset",
            Self::Quit {} => "quit",
        }
    }
}

/// What the engine says, one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase", try_from = "Fields")]
pub enum Answer {
    /// Who it is and what it has loaded.
    Hello {
        /// The version of the protocol that it speaks.
        protocol: u32,
        /// The name of the program.
        implementation: String,
        /// Where it computes.
        device: String,
        /// Its version.
        build: String,
        /// Of the file that it has loaded, computed by itself.
        model_sha256: String,
        /// How many logits a readout has.
        vocabulary: usize,
    },
    /// The rows of one operation.
    Tap {
        /// The name in CONTRACT.md, section 12.
        name: String,
        /// Its layer, or null outside the layers.
        layer: Option<usize>,
        /// The position of the first row.
        first_position: usize,
        /// How many rows.
        rows: usize,
        /// How many values a row has.
        width: usize,
        /// Row after row.
        values: String,
    },
    /// The end of a forward pass: the last token's rows.
    Readout {
        /// The position of that token.
        position: usize,
        /// Tap `final_norm`.
        hidden: String,
        /// One value for each token.
        logits: String,
    },
    /// The sequence is empty.
    Reset {},
    /// It cannot go on.
    Error {
        /// Why.
        message: String,
    },
}

impl Answer {
    /// Its name in messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Tap { .. } => "tap",
            Self::Readout { .. } => "readout",
            Self::Reset {} => "reset",
            Self::Error { .. } => "error",
        }
    }
}

/// The bits of each value in eight hexadecimal digits, as in the rows of traces.
pub fn hexadecimal(values: &[f32]) -> String {
    let mut text = String::with_capacity(values.len() * 8);
    for value in values {
        // Writing into a string does not fail.
        let _ = write!(text, "{:08x}", value.to_bits());
    }
    text
}

/// The values of such a text; none where it is no text of that kind.
pub fn values(text: &str) -> Option<Vec<f32>> {
    // A sign would be a number to the standard library.
    if !text.len().is_multiple_of(8) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        u32::from_str_radix(digits, 16).ok().map(f32::from_bits)
    };
    text.as_bytes().chunks_exact(8).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_every_bit() {
        let row = [0.1, -0.0, f32::MIN_POSITIVE / 8.0, f32::NEG_INFINITY, f32::NAN, f32::MAX];
        let again = values(&hexadecimal(&row)).unwrap();
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&row));
        assert_eq!(hexadecimal(&[1.0]), "3f800000");
        for wrong in ["3f80000", "+f800000", "3f80000g", "3f8000000"] {
            assert_eq!(values(wrong), None, "{wrong}");
        }
        assert_eq!(values(""), Some(Vec::new()));
    }

    #[test]
    fn lines_are_as_they_are_documented() {
        let line = |request: &Request| serde_json::to_string(request).unwrap();
        let forward = Request::Forward { tokens: vec![1, 2], level: TapLevel::Op };
        assert_eq!(line(&forward), r#"{"request":"forward","tokens":[1,2],"level":"op"}"#);
        assert_eq!(line(&Request::Reset {}), r#"{"request":"reset"}"#);
        for request in [forward, Request::Reset {}, Request::Quit {}] {
            assert_eq!(serde_json::from_str::<Request>(&line(&request)).unwrap(), request);
        }
        let unknown = r#"{"answer":"reset","why":1}"#;
        assert!(serde_json::from_str::<Answer>(unknown).is_err());
    }
}
