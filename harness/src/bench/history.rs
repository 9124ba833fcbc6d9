//! The speeds of earlier nights: one JSON line a measurement, appended and never rewritten.
//!
//! **Invariant:** a file with a line that cannot be read is left as it is, and nothing is appended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Measured, Part, Work};

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read or written.
    #[error("cannot use the history {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line that is no measurement.
    #[error("{}:{line}: no measurement: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
}

impl HistoryError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "give --history a file in a folder that can be written to",
            Self::Line { .. } => {
                "nothing was appended; repair that line or take it out, and keep the others"
            }
        }
    }
}

/// Where and with what something was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The machine, as it calls itself.
    pub runner: String,
    /// The word for `--device`.
    pub device: String,
    /// The device's own name.
    pub device_name: String,
    /// The model file.
    pub model_sha256: String,
}

/// What has to be equal for two speeds to be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Where and with what.
    #[serde(flatten)]
    pub machine: Machine,
    /// Tokens, threads, repeats.
    pub work: Work,
    /// Fixed point of the activations.
    pub activations: String,
    /// Type of the cache.
    pub kv: String,
    /// The most tokens at once.
    pub ubatch: usize,
    /// What was watched.
    pub tap: String,
    /// Whether there were guard zones and poison.
    pub checking: bool,
}

/// One line: one part on one night.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Night {
    /// What the caller calls it, a date for instance.
    pub night: String,
    /// Kernels, compiler, driver. Another build is compared all the same: it is what may be slower.
    pub build: String,
    /// The model's name.
    pub model: String,
    /// What has to be equal.
    #[serde(flatten)]
    pub setting: Setting,
    /// What was measured.
    pub part: Part,
    /// Median, tokens of the prompt in a second.
    pub prefill_tokens_per_second: f64,
    /// Median, tokens one by one in a second.
    pub decode_tokens_per_second: f64,
}

impl Night {
    /// A measurement as a line; the speeds are those of `measured`.
    pub fn new(
        night: &str,
        build: &str,
        model: &str,
        setting: Setting,
        measured: &Measured,
    ) -> Self {
        Self {
            night: night.to_owned(),
            build: build.to_owned(),
            model: model.to_owned(),
            setting,
            part: measured.part,
            prefill_tokens_per_second: measured.prefill_tokens_per_second,
            decode_tokens_per_second: measured.decode_tokens_per_second,
        }
    }

    /// Whether `other` measured the same thing on the same machine.
    pub fn compares_with(&self, other: &Self) -> bool {
        self.part == other.part && self.setting == other.setting
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct History {
    path: PathBuf,
    nights: Vec<Night>,
}

impl History {
    /// Reads a file; one that is not there is a history without nights.
    ///
    /// # Errors
    /// [`HistoryError`]: the first line that is no measurement, or one cut off.
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError::File { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes).map_err(failed)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut nights = Vec::new();
        for (index, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let night = line(text).map_err(|message| HistoryError::Line {
                path: path.to_owned(),
                line: index + 1,
                message,
            })?;
            nights.push(night);
        }
        Ok(Self { path: path.to_owned(), nights })
    }

    /// The last nights, at most `count`, that measured what `now` did; the oldest first.
    pub fn last<'a>(&'a self, now: &Night, count: usize) -> Vec<&'a Night> {
        let same: Vec<&Night> = self.nights.iter().filter(|old| now.compares_with(old)).collect();
        same[same.len().saturating_sub(count)..].to_vec()
    }

    /// Appends lines, all or none as far as the system writes at once.
    ///
    /// # Errors
    /// [`HistoryError::File`].
    pub fn append(&self, nights: &[Night]) -> Result<(), HistoryError> {
        let failed = |source| HistoryError::File { path: self.path.clone(), source };
        let mut text = Vec::new();
        for night in nights {
            serde_json::to_writer(&mut text, night).map_err(|error| failed(error.into()))?;
            text.push(b'\n');
        }
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).open(&self.path).map_err(failed)?;
        // Two runners that share a file write one after the other.
        file.lock().map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)
    }
}

/// One line with its end.
fn line(text: &[u8]) -> Result<Night, String> {
    let Some(text) = text.strip_suffix(b"\n") else {
        return Err("it is cut off: no end of line".to_owned());
    };
    let night: Night = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    for (name, speed) in [
        ("prefill_tokens_per_second", night.prefill_tokens_per_second),
        ("decode_tokens_per_second", night.decode_tokens_per_second),
    ] {
        if !(speed.is_finite() && speed > 0.0) {
            return Err(format!("{name} is {speed}, a speed is above 0"));
        }
    }
    Ok(night)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;

    /// A night with these speeds.
    pub(in crate::bench) fn night(prefill: f64, decode: f64) -> Night {
        let work = Work { threads: 2, repeat: 3, prefill_tokens: 8, decode_tokens: 4 };
        let machine = Machine {
            runner: "one".to_owned(),
            device: "hip:0".to_owned(),
            device_name: "a card".to_owned(),
            model_sha256: "ab".repeat(32),
        };
        let setting = Setting {
            machine,
            work,
            activations: "i16".to_owned(),
            kv: "f32".to_owned(),
            ubatch: 512,
            tap: "readout".to_owned(),
            checking: true,
        };
        Night {
            night: "one".to_owned(),
            build: "a build".to_owned(),
            model: "tiny".to_owned(),
            setting,
            part: Part::Engine,
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
        }
    }

    #[test]
    fn what_is_appended_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let empty = History::read(&path).unwrap();
        assert!(empty.last(&night(1.0, 1.0), 14).is_empty());
        assert!(!path.exists(), "reading makes no file");
        empty.append(&[night(1.25, 0.1), night(2.0, 3.0)]).unwrap();
        History::read(&path).unwrap().append(&[night(4.0, 5.0)]).unwrap();
        let read = History::read(&path).unwrap();
        assert_eq!(read.nights, [night(1.25, 0.1), night(2.0, 3.0), night(4.0, 5.0)]);
        assert_eq!(read.last(&night(9.0, 9.0), 2), [&night(2.0, 3.0), &night(4.0, 5.0)]);
    }

    #[test]
    fn only_the_same_measurement_counts() {
        let same = night(1.0, 1.0);
        let mut others = vec![same.clone(); 6];
        others[0].setting.machine.runner = "another".to_owned();
        others[1].setting.machine.device_name = "another card".to_owned();
        others[2].setting.machine.model_sha256 = "cd".repeat(32);
        others[3].setting.work.prefill_tokens += 1;
        others[4].setting.checking = false;
        others[5].part = Part::Exact;
        assert!(others.iter().all(|other| !same.compares_with(other)));
        let rebuilt = Night { build: "another build".to_owned(), ..same.clone() };
        assert!(same.compares_with(&rebuilt));
    }

    #[test]
    fn a_bad_line_is_named_and_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let good = serde_json::to_string(&night(1.0, 1.0)).unwrap();
        let stopped =
            good.replace("\"decode_tokens_per_second\":1.0", "\"decode_tokens_per_second\":0.0");
        assert_ne!(stopped, good);
        for (bad, words) in [
            ("{\"night\":\n", "EOF"),
            ("\n", "EOF"),
            ("{}\n", "missing field"),
            (&format!("{stopped}\n"), "decode_tokens_per_second is 0"),
            (&good[..20], "cut off"),
            (good.as_str(), "cut off"),
        ] {
            let text = format!("{good}\n{bad}");
            fs::write(&path, &text).unwrap();
            let error = History::read(&path).unwrap_err();
            let HistoryError::Line { line: 2, message, .. } = &error else { panic!("{error}") };
            assert!(message.contains(words), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
