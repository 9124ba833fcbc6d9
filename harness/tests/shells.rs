//! What is generated from the command line: completions that a shell can read, and manual pages.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use support::{lockstep, settings, transcript};

/// What the help names, which neither `launches` nor `--plant` is part of.
fn commands() -> BTreeSet<String> {
    let help = String::from_utf8(lockstep(&["--help"]).stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let name = |line: &str| line.strip_prefix("  ")?.split_once(' ').map(|(name, _)| name.into());
    let names = commands.lines().filter_map(name).filter(|name: &String| !name.is_empty());
    let names: BTreeSet<String> = names.collect();
    assert!(names.len() >= 15 && names.contains("run"), "{names:?}");
    names
}

fn completions(shell: &str) -> String {
    let output = lockstep(&["completions", shell]);
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_name_every_command_and_nothing_hidden() {
    let commands = commands();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = completions(shell);
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell} does not know {command}");
        }
        assert!(script.contains("max-tokens"), "{shell} does not know --max-tokens");
        assert!(!script.contains("launches"), "{shell} completes what is hidden");
    }
}

/// Bash reads its script whole, and completes with it.
#[test]
fn bash_completes() {
    let words = "\nCOMP_WORDS=(lockstep tra); COMP_CWORD=1; _lockstep lockstep tra lockstep\n\
                 echo \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let script = completions("bash") + words;
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    assert_eq!(transcript(&output), "exit code 0\n--- stdout\ntrace\n--- stderr\n");
}

#[test]
fn every_command_has_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let output = lockstep(&["man", "--out", out.to_str().unwrap()]);
    let pages = std::fs::read_dir(&out).unwrap().map(|page| page.unwrap().file_name());
    let pages: BTreeSet<String> = pages.map(|name| name.into_string().unwrap()).collect();
    for command in commands().iter().filter(|command| *command != "help") {
        assert!(pages.contains(&format!("lockstep-{command}.1")), "{command}: {pages:?}");
    }
    for page in ["lockstep.1", "lockstep-import-greta.1"] {
        assert!(pages.contains(page), "{pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("launches")), "{pages:?}");
    let words = format!("manual     {} pages: {}\n", pages.len(), out.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), words);
    let run = std::fs::read_to_string(out.join("lockstep-run.1")).unwrap();
    assert!(run.contains("max\\-tokens"), "{run}");
    // Hidden there, and only there.
    let suite = std::fs::read_to_string(out.join("lockstep-suite.1")).unwrap();
    assert!(run.contains("plant") && !suite.contains("plant"), "{suite}");
    let first = String::from_utf8(lockstep(&["man"]).stdout).unwrap();
    assert_eq!(first, std::fs::read_to_string(out.join("lockstep.1")).unwrap());
}

#[test]
fn a_folder_that_cannot_be_and_a_shell_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    let output = lockstep(&["man", "--out", file.to_str().unwrap()]);
    let words = transcript(&output).replace(folder.path().to_str().unwrap(), "[folder]");
    let shell = transcript(&lockstep(&["completions", "tcsh"]));
    settings().bind(|| {
        insta::assert_snapshot!("error_man_out", words);
        insta::assert_snapshot!("error_completions_shell", shell);
    });
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}
