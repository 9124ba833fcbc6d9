//! Downloads a Python package as a file, with whichever pip the machine has.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Entry, FetchError};

/// The ways to call pip, the surest first.
const COMMANDS: [&[&str]; 4] =
    [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];

/// Downloads the package of an entry into `folder` and returns the package's file. On a terminal
/// pip shows its own progress.
///
/// # Errors
/// [`FetchError::NoPip`] when no command is there, [`FetchError::Download`] with pip's words.
pub fn pip(entry: &Entry, folder: &Path) -> Result<PathBuf, FetchError> {
    let command = COMMANDS.into_iter().find(|command| answers(command));
    let Some(command) = command else {
        let tried = COMMANDS.map(|command| command.join(" ")).join(", ");
        return Err(FetchError::NoPip { tried });
    };
    let failed = |message: String| FetchError::Download {
        package: entry.package.clone(),
        version: entry.package_version.clone(),
        message,
    };
    let mut pip = Command::new(command[0]);
    pip.args(&command[1..]);
    // The file alone is wanted: whether this Python could import it does not matter.
    pip.args(["download", "--no-deps", "--ignore-requires-python", "--only-binary", ":all:"]);
    pip.args(["--disable-pip-version-check", "--dest"]).arg(folder);
    pip.arg(format!("{}=={}", entry.package, entry.package_version));
    pip.stdin(Stdio::null());
    if io::stderr().is_terminal() {
        pip.stdout(Stdio::from(io::stderr()));
    } else {
        pip.stdout(Stdio::null());
    }
    let answer = pip
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| failed(error.to_string()))?;
    if !answer.status.success() {
        return Err(failed(last_words(&String::from_utf8_lossy(&answer.stderr))));
    }
    let wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let files = fs::read_dir(folder).map_err(|error| failed(error.to_string()))?;
    let mut files = files.filter_map(|file| file.ok().map(|file| file.path()));
    files.find(wheel).ok_or_else(|| failed("it brought no wheel".to_owned()))
}

fn answers(command: &[&str]) -> bool {
    let mut pip = Command::new(command[0]);
    pip.args(&command[1..]).arg("--version");
    let quiet = pip.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// pip's last error without its label, or its last line.
fn last_words(words: &str) -> String {
    let lines = || words.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().filter_map(|line| line.strip_prefix("ERROR: ")).next_back();
    error.or_else(|| lines().next_back()).unwrap_or("it gave no reason").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_is_said() {
        let words = "WARNING: retrying\nERROR: first\nERROR: No matching distribution\n\nnotice";
        assert_eq!(last_words(words), "No matching distribution");
        assert_eq!(last_words("No module named pip\n"), "No module named pip");
        assert_eq!(last_words(""), "it gave no reason");
    }
}
