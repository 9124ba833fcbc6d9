//! A suite in a folder of its own, and what `lockstep suite` leaves there.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use super::lockstep;

/// The folder; it is gone with the test.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new(suite: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("suite.toml"), suite).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let (suite, out) = (self.path("suite.toml"), self.path("out"));
        lockstep(&[&["suite", &suite, "--out", &out], arguments].concat())
    }

    /// The cases of `suite.json` after a run.
    pub(crate) fn cases(&self) -> Vec<Value> {
        self.json("suite.json")["cases"].as_array().unwrap().clone()
    }

    pub(crate) fn prompt(&self, case: &str) -> Value {
        self.json(&format!("{case}/verdict.json"))["prompt_ids"].clone()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.out().join(name)).unwrap()).unwrap()
    }
}
