//! Lockstep on SmolLM2 itself; where it is not in the cache, each test counts as ignored.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use harness::model::Model;
use harness::sides::TapLevel;
use libtest_mimic::{Arguments, Trial};
use support::matrix::Case;
use support::{all_agree, lockstep};

const MODEL: &str = "smollm2-135m-instruct";

type Test = (&'static str, fn(&Model));

fn main() {
    let tests: [Test; 3] = [
        ("smollm2_in_some_splits", smollm2_in_some_splits),
        ("smollm2_in_every_tap", smollm2_in_every_tap),
        ("smollm2_writes_what_the_readme_says", smollm2_writes_what_the_readme_says),
    ];
    let missing = fixtures::cached(MODEL).is_none();
    let trials = tests.map(|(name, test)| {
        // Found again by its hash: a damaged file is a failure, not a skipped test.
        let trial = Trial::test(name, move || {
            test(&Model::resolve(Some(MODEL))?);
            Ok(())
        });
        trial.with_ignored_flag(missing)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit();
}

fn smollm2_in_some_splits(model: &Model) {
    let cases = [
        Case { ubatch: 512, threads: 2, ..Case::new(33, 8) },
        Case { ubatch: 32, threads: 1, ..Case::new(33, 8) },
        Case { ubatch: 7, threads: 2, simd: false, ..Case::new(33, 8) },
    ];
    all_agree(model, &cases);
}

fn smollm2_in_every_tap(model: &Model) {
    all_agree(model, &[Case { level: TapLevel::Op, ..Case::new(2, 2) }]);
}

fn smollm2_writes_what_the_readme_says(_: &Model) {
    let prompt = "The capital of France is";
    let output =
        lockstep(&["run", "--model", MODEL, "--prompt", prompt, "--max-tokens", "24", "--greedy"]);
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let text = stdout.lines().find_map(|line| line.strip_prefix("text       ")).unwrap();
    let readme = include_str!("../../README.md");
    assert!(readme.contains(prompt), "README.md has another prompt");
    assert!(readme.contains(&format!("`{text}`")), "README.md does not say {text}");
}
