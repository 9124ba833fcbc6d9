//! What workflows may and may not do.

use std::collections::BTreeMap;

use super::tree::{files, read};

/// The workflows by name.
fn workflows() -> Vec<(String, String)> {
    let names = files().into_iter().filter(|name| name.starts_with(".github/workflows/"));
    let found: Vec<(String, String)> = names.map(|name| (name.clone(), read(&name))).collect();
    assert!(found.len() >= 2, "{found:?}");
    found
}

/// The jobs of a workflow, each with the lines below its name.
fn jobs(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut now = "";
    for line in text.lines().skip_while(|line| *line != "jobs:").skip(1) {
        match line.strip_prefix("  ").and_then(|rest| rest.strip_suffix(':')) {
            Some(name) if !name.starts_with([' ', '#']) => now = name,
            _ => found.entry(now).or_default().push(line),
        }
    }
    assert!(!found.is_empty() && !found.contains_key(""), "{found:?}");
    found
}

#[test]
fn actions_are_pinned_and_every_step_ends() {
    for (name, text) in workflows() {
        for line in text.lines().filter(|line| line.contains("uses:")) {
            let (_, pin) = line.split_once('@').unwrap();
            let (commit, version) = pin.split_once(" # v").unwrap_or((pin, ""));
            let digits = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(digits && commit.len() == 40, "{name}: {line}: no whole commit");
            assert!(!version.is_empty(), "{name}: {line}: say which version that is");
        }
        for (job, lines) in jobs(&text) {
            let limit = |line: &&&str| line.starts_with("    timeout-minutes: ");
            assert_eq!(lines.iter().filter(limit).count(), 1, "{name}: {job} never ends");
            let steps = lines.iter().filter(|line| line.starts_with("      - ")).count();
            let ends = lines.iter().filter(|line| line.contains("timeout-minutes: ")).count() - 1;
            // Checking out is the only step that ends by the job's limit alone.
            assert!(ends + 1 >= steps, "{name}: {job}: {ends} of {steps} steps have a limit");
        }
    }
}

#[test]
fn workflows_may_do_little_and_forks_nothing() {
    let mut writes = 0;
    for (name, text) in workflows() {
        let head = text.split("\njobs:").next().unwrap();
        let least = head.contains("\npermissions: {}") || head.contains("\n  contents: read");
        assert!(least && !head.contains("write"), "{name}: permissions of all jobs");
        assert!(!text.contains("pull_request_target"), "{name} runs a fork's code with our rights");
        for (job, lines) in jobs(&text) {
            let ours = lines.iter().any(|line| line.contains("self-hosted"));
            let may_write: Vec<&&str> =
                lines.iter().filter(|line| line.trim_end().ends_with(": write")).collect();
            writes += may_write.len();
            if ours {
                assert!(may_write.is_empty(), "{name}: {job} writes from our own machine");
                let guard = lines.iter().find(|line| line.starts_with("    if: ")).unwrap();
                // Whatever a fork's event says of itself: a variable that is not set runs nothing.
                assert!(
                    guard.starts_with("    if: vars.NIGHTLY_RUNNER == 'mi300x' && "),
                    "{guard}"
                );
                assert!(!guard.contains("||"), "{guard}");
                let minutes = head.split_once("      minutes:").unwrap().1;
                let offered = minutes.split_once("options: [").unwrap().1.split_once(']').unwrap();
                let below =
                    |text: &str| text.trim().trim_matches('"').parse::<u32>().unwrap() <= 180;
                assert!(offered.0.split(',').all(below), "{name}: {offered:?}");
                assert!(guard.contains("github.ref == 'refs/heads/main'"), "{guard}");
                assert!(!head.contains("pull_request"), "{name}: {job}: whose code would that be?");
                assert!(head.contains("cancel-in-progress: false"), "{name}: one night a card");
            }
            if !may_write.is_empty() {
                assert!(
                    !lines.iter().any(|line| line.contains("actions/checkout@")),
                    "{name}: {job}"
                );
            }
            // What somebody typed into an input or a title is no part of a script.
            let mut in_script = None;
            for line in lines {
                let indentation = line.len() - line.trim_start().len();
                in_script =
                    in_script.filter(|begin| line.trim().is_empty() || indentation > *begin);
                assert!(in_script.is_none() || !line.contains("${{"), "{name}: {job}: {line}");
                let begins = line.trim_start().trim_start_matches("- ").starts_with("run:");
                assert!(!begins || !line.contains("${{"), "{name}: {job}: {line}");
                if begins {
                    in_script = Some(indentation);
                }
            }
        }
    }
    assert_eq!(writes, 1, "issues, in one job");
}
