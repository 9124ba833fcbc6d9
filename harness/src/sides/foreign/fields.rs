//! An answer as it is read: all fields of all answers, each of its own type.
//!
//! A reader that waits for the word which says what a line is keeps whatever stands before it, many
//! times as large as the line. Here a field that is unknown, comes twice or is of another type ends
//! the reading where it stands.

use serde::Deserialize;

use super::message::Answer;

/// The fields of a line.
#[derive(Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    answer: Option<Kind>,
    protocol: Option<u32>,
    implementation: Option<String>,
    device: Option<String>,
    build: Option<String>,
    model_sha256: Option<String>,
    vocabulary: Option<usize>,
    name: Option<String>,
    layer: Option<usize>,
    first_position: Option<usize>,
    rows: Option<usize>,
    width: Option<usize>,
    values: Option<String>,
    position: Option<usize>,
    hidden: Option<String>,
    logits: Option<String>,
    message: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Hello,
    Tap,
    Readout,
    Reset,
    Error,
}

fn due<T>(field: &mut Option<T>, name: &str) -> Result<T, String> {
    field.take().ok_or_else(|| format!("missing field `{name}`"))
}

impl TryFrom<Fields> for Answer {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let all = &mut fields;
        let answer = match due(&mut all.answer, "answer")? {
            Kind::Hello => Self::Hello {
                protocol: due(&mut all.protocol, "protocol")?,
                implementation: due(&mut all.implementation, "implementation")?,
                device: due(&mut all.device, "device")?,
                build: due(&mut all.build, "build")?,
                model_sha256: due(&mut all.model_sha256, "model_sha256")?,
                vocabulary: due(&mut all.vocabulary, "vocabulary")?,
            },
            Kind::Tap => Self::Tap {
                name: due(&mut all.name, "name")?,
                layer: all.layer.take(),
                first_position: due(&mut all.first_position, "first_position")?,
                rows: due(&mut all.rows, "rows")?,
                width: due(&mut all.width, "width")?,
                values: due(&mut all.values, "values")?,
            },
            Kind::Readout => Self::Readout {
                position: due(&mut all.position, "position")?,
                hidden: due(&mut all.hidden, "hidden")?,
                logits: due(&mut all.logits, "logits")?,
            },
            Kind::Reset => Self::Reset {},
            Kind::Error => Self::Error { message: due(&mut all.message, "message")? },
        };
        if fields != Fields::default() {
            return Err(format!("`{}` has a field of another answer", answer.word()));
        }
        Ok(answer)
    }
}
