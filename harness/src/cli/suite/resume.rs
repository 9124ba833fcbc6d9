//! `--resume`: what makes two runs of a case the same, and the results of the earlier one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use engine::DeviceChoice;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::cli::Failure;
use crate::identity::{ModelIdentity, hex};
use crate::model::Model;
use crate::suite::{Case, CaseResult, Word};

/// Everything that a case's result depends on, besides the device itself: the file of cases, this
/// program, the folders of recordings, the model's content, the case with its device, seed and
/// planted fault.
pub(super) struct Keys {
    suite_and_program: String,
    models: BTreeMap<Option<String>, Option<String>>,
}

fn sha256(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(hasher.finalize())
}

impl Keys {
    /// For the cases of a file.
    pub(super) fn new(suite: &[u8], references: &str) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .and_then(|path| ModelIdentity::of_file(String::new(), &path))
            .map_err(|error| Failure::input(format!("cannot read this program: {error}")))?;
        Ok(Self::of(&hex(Sha256::digest(suite)), &program.sha256, references))
    }

    fn of(suite: &str, program: &str, references: &str) -> Self {
        let suite_and_program = sha256(&[suite, program, references]);
        Self { suite_and_program, models: BTreeMap::new() }
    }

    /// The key of a case; none where its model cannot be read, nor where the device is whichever
    /// there is: tomorrow it may be another.
    pub(super) fn key(&mut self, case: &Case) -> Option<String> {
        if case.options.device == DeviceChoice::Auto {
            return None;
        }
        let asked = &case.options.model;
        if !self.models.contains_key(asked) {
            self.models.insert(asked.clone(), model_sha256(asked.as_deref()));
        }
        let model = self.models.get(asked)?.as_deref()?;
        Some(self.key_on(case, model))
    }

    fn key_on(&self, case: &Case, model_sha256: &str) -> String {
        // Every option is in it, and a new one is as soon as there is one.
        let said = format!("{case:?}");
        sha256(&[&self.suite_and_program, model_sha256, &said])
    }
}

fn model_sha256(asked: Option<&str>) -> Option<String> {
    let located = Model::locate(asked).ok()?;
    Some(ModelIdentity::of_file(String::new(), &located.path).ok()?.sha256)
}

/// The finished results of an earlier run by their keys; none where there is no file. A line that
/// a killed run left in half is no result.
pub(super) fn earlier(path: &Path) -> Result<BTreeMap<String, CaseResult>, Failure> {
    #[derive(Deserialize)]
    struct Line {
        event: String,
        #[serde(flatten)]
        case: CaseResult,
    }
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => {
            return Err(Failure::input(format!("cannot read {}: {error}", path.display()))
                .hint("give --resume the --out of an earlier run"));
        }
    };
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let finished = |line: &Line| {
        line.event == "case" && matches!(line.case.verdict, Word::Agrees | Word::Diverges)
    };
    let kept = lines.filter(finished).filter_map(|line| Some((line.case.key.clone()?, line.case)));
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::parse;

    #[test]
    fn another_file_program_model_option_or_seed_is_another_key() {
        let case = |text: &str| parse(text.as_bytes()).unwrap().cases.remove(0);
        let one = case("[[case]]\nname = \"a\"\nlengths = [3]\nseed = 1\n");
        let key = |keys: &Keys, case: &Case, model| keys.key_on(case, model);
        let keys = Keys::of("suite", "program", "live");
        let first = key(&keys, &one, "model");
        assert_eq!(first, key(&Keys::of("suite", "program", "live"), &one.clone(), "model"));
        for other in [
            "[[case]]\nname = \"a\"\nlengths = [3]\nseed = 2\n",
            "[[case]]\nname = \"a\"\nlengths = [3]\nseed = 1\nubatch = 7\n",
            "[[case]]\nname = \"a\"\nlengths = [3]\nseed = 1\ndevice = \"host\"\n",
        ] {
            assert_ne!(first, key(&keys, &case(other), "model"), "{other}");
        }
        assert_ne!(first, key(&keys, &one, "another"));
        assert_ne!(first, key(&Keys::of("another", "program", "live"), &one, "model"));
        assert_ne!(first, key(&Keys::of("suite", "another", "live"), &one, "model"));
        assert_ne!(first, key(&Keys::of("suite", "program", "read"), &one, "model"));
    }

    #[test]
    fn only_what_is_finished_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("suite.jsonl");
        assert!(earlier(&path).unwrap().is_empty());
        let line = |name: &str, code| {
            let mut case = CaseResult::new(name, code, "words");
            case.key = Some(name.to_owned());
            let mut value = serde_json::to_value(&case).unwrap();
            value["event"] = "case".into();
            value.to_string()
        };
        let whole = [line("agrees", Some(0)), line("diverges", Some(1))].join("\n");
        let others = [line("doubt", Some(4)), line("device", Some(3)), line("not", None)];
        let half = &line("half", Some(0))[..40];
        let text = format!("{{\"event\":\"suite\"}}\n{whole}\n{}\n{half}", others.join("\n"));
        std::fs::write(&path, text).unwrap();
        let names: Vec<String> = earlier(&path).unwrap().into_keys().collect();
        assert_eq!(names, ["agrees", "diverges"]);
    }
}
