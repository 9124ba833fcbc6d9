//! Plants every edit of harness/planted.toml in a copy of the sources and runs the operation tests
//! on it: each must turn red.
//!
//! `cargo run --release -p harness --example planted -- [--minutes N] [PART OF A NAME]`
//!
//! The copy and its build stand in target/planted; the sources themselves are never touched. With
//! `--minutes`, edits from all over the list are taken until the time is over, and the last line
//! says how many were left. Exit code 1 when an edit was not caught, 2 when one cannot be planted,
//! 4 when none was.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read ends the whole run")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

use serde::Deserialize;

#[derive(Deserialize)]
struct List {
    edit: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    what: String,
    from: String,
    to: String,
    place: Option<usize>,
}

impl Edit {
    /// The source with the edit, or why there is none.
    fn plant(&self, source: &str) -> Result<String, String> {
        let places: Vec<usize> = source.match_indices(&self.from).map(|(index, _)| index).collect();
        let at = match self.place {
            None if places.len() == 1 => places[0],
            Some(place) if (1..=places.len()).contains(&place) => places[place - 1],
            _ => return Err(format!("`{}` stands {} times", self.from, places.len())),
        };
        let (before, rest) = source.split_at(at);
        Ok(format!("{before}{}{}", self.to, &rest[self.from.len()..]))
    }
}

fn main() -> io::Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut limit = Duration::MAX;
    if arguments.first().is_some_and(|argument| argument == "--minutes") {
        let minutes = arguments.get(1).and_then(|minutes| minutes.parse().ok());
        let minutes: u64 = minutes.expect("--minutes takes a number");
        limit = Duration::from_secs(60 * minutes);
        arguments.drain(..2);
    }
    let filter = arguments.pop().unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let copy = root.join("target/planted/sources");
    copy_sources(root, &copy)?;
    let text = fs::read_to_string(root.join("harness/planted.toml"))?;
    let list: List = toml::from_str(&text).unwrap();
    let mut output = io::stdout();
    let clean = tests(&copy)?;
    if !clean.status.success() {
        writeln!(output, "the sources as they are fail: {}", last_lines(&clean))?;
        return Ok(ExitCode::from(2));
    }
    let (mut caught, mut missed, mut faulty, mut left) = (0, 0, 0, 0);
    let begin = Instant::now();
    for edit in spread(&list.edit) {
        let name = format!("{}: {}", edit.file, edit.what);
        if !name.contains(&filter) {
            continue;
        }
        if begin.elapsed() > limit {
            left += 1;
            continue;
        }
        let path = copy.join(&edit.file);
        let source = fs::read_to_string(&path)?;
        let answer = match edit.plant(&source) {
            Err(why) => Err(why),
            Ok(planted) => {
                fs::write(&path, planted)?;
                let answer = verdict(&tests(&copy)?);
                fs::write(&path, source)?;
                answer
            }
        };
        match answer {
            Ok(failed) if failed.is_empty() => {
                missed += 1;
                writeln!(output, "MISSED  {name}")?;
            }
            Ok(failed) => {
                caught += 1;
                writeln!(output, "caught  {name}  by {}", failed.join(", "))?;
            }
            Err(why) => {
                faulty += 1;
                writeln!(output, "faulty  {name}: {why}")?;
            }
        }
        output.flush()?;
    }
    writeln!(
        output,
        "{caught} caught, {missed} missed, {faulty} could not be planted, {left} left out"
    )?;
    Ok(ExitCode::from(match (faulty, missed, caught) {
        (0, 0, 0) => 4,
        (0, missed, _) => u8::from(missed > 0),
        _ => 2,
    }))
}

/// Every seventh, then every seventh from the second: a part of them comes from everywhere.
fn spread(edits: &[Edit]) -> impl Iterator<Item = &Edit> {
    (0..7).flat_map(|first| edits.iter().skip(first).step_by(7))
}

/// The names of the tests that failed; an edit that does not compile says nothing.
fn verdict(output: &Output) -> Result<Vec<String>, String> {
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains("test result:") {
        return Err(format!("it does not compile or run: {}", last_lines(output)));
    }
    let failed =
        text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    Ok(failed.map(str::to_owned).collect())
}

fn last_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("error")).take(3).collect();
    lines.join(" | ")
}

fn tests(copy: &Path) -> io::Result<Output> {
    Command::new(env!("CARGO"))
        .args(["test", "-p", "harness", "--test", "operations"])
        // The comparison need not be fast here; it is built again for every edit.
        .args(["--config", "profile.dev.package.harness.opt-level=0"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.with_file_name("build"))
        // A case that fails here is no case of the clean sources.
        .env("LOCKSTEP_CASES_KEEP", "0")
        .output()
}

fn copy_sources(root: &Path, copy: &Path) -> io::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    let skipped = |name: &str| matches!(name, "target" | ".git" | "out");
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(copy.join(&folder))?;
        for entry in fs::read_dir(root.join(&folder))? {
            let name = entry?.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if root.join(&path).is_dir() {
                if !skipped(&name) {
                    folders.push(path);
                }
                continue;
            }
            fs::copy(root.join(&path), copy.join(&path))?;
        }
    }
    Ok(())
}
