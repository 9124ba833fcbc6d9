//! `report.html`: one file that says what a run's files say, and reaches for nothing else.
//!
//! **Invariant:** a page is made from the files of a folder and from nothing else, so that it says
//! what they say.

mod chart;
mod figures;
mod heat;
mod picture;
mod read;
mod run;
mod tops;

use std::io;
use std::path::{Path, PathBuf};

use askama::Template;
use serde_json::Value;

use read::{Contents, Fault, Suite};
use run::RunView;

/// Why there is no page of a folder.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is written whole is not JSON.
    #[error("{} is not what a run writes: {source}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// Nothing was begun there.
    #[error("{} holds no files of a run or a suite", path.display())]
    Nothing {
        /// Which.
        path: PathBuf,
    },
    /// The page has no place.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The template cannot be filled in.
    #[error("the page cannot be written: {0}")]
    Template(#[from] askama::Error),
}

/// A case of a suite as it is shown.
struct CaseView {
    name: String,
    anchor: String,
    verdict: String,
    exit_code: String,
    seconds: String,
    message: String,
    run: Option<RunView>,
}

/// A suite as it is shown.
struct SuiteView {
    name: String,
    complete: bool,
    exit_code: String,
    cases_count: usize,
    counts: String,
    cases: Vec<CaseView>,
}

/// The whole page.
#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    title: String,
    verdict: String,
    run: Option<RunView>,
    suite: Option<SuiteView>,
    faults: Vec<Fault>,
}

/// The page of a folder of `--out`, as HTML.
pub fn of_folder(path: &Path) -> Result<String, PageError> {
    let Contents { run, suite, faults } = read::folder(path)?;
    let run = run.map(|run| RunView::of(&run, "run", true));
    let suite = suite.map(|suite| suite_view(path, suite)).transpose()?;
    if run.is_none() && suite.is_none() && faults.is_empty() {
        return Err(PageError::Nothing { path: path.to_path_buf() });
    }
    let (verdict, title) = match (&run, &suite) {
        (Some(run), _) => (run.word.clone(), format!("{}: {}", run.word, run.model)),
        (None, Some(suite)) => (worst(suite).to_owned(), suite.name.clone()),
        (None, None) => ("faults".to_owned(), "faults".to_owned()),
    };
    Ok(Page { title, verdict, run, suite, faults }.render()?)
}

/// The word of a suite's exit code.
fn worst(suite: &SuiteView) -> &'static str {
    match suite.exit_code.as_str() {
        "0" if suite.complete => "agrees",
        "1" => "diverges",
        "2" => "input",
        "3" => "device",
        _ => "inconclusive",
    }
}

fn suite_view(path: &Path, suite: Suite) -> Result<SuiteView, PageError> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    let mut cases = Vec::new();
    for (number, case) in suite.cases.into_iter().enumerate() {
        match counts.iter_mut().find(|(verdict, _)| *verdict == case.verdict) {
            Some((_, count)) => *count += 1,
            None => counts.push((case.verdict.clone(), 1)),
        }
        let anchor = format!("case-{}", number + 1);
        // A name of a case is a name of a folder in this one, or there are no files of it.
        let inside = !case.name.is_empty() && Path::new(&case.name).components().all(normal);
        let folder = path.join(&case.name);
        // Without figures this suite ran nothing there: the files are those of an earlier one.
        let ran = inside && !case.figures.is_null();
        let run = if ran { read::run(&folder)? } else { None };
        cases.push(CaseView {
            run: run.map(|run| RunView::of(&run, &anchor, false)),
            anchor,
            exit_code: match case.exit_code {
                Value::Null => "none".to_owned(),
                other => other.to_string(),
            },
            seconds: format!("{:.1} s", case.duration_seconds),
            name: case.name,
            verdict: case.verdict,
            message: case.message,
        });
    }
    let counts: Vec<String> =
        counts.iter().map(|(verdict, count)| format!("{count} {}", words(verdict))).collect();
    Ok(SuiteView {
        name: suite.suite,
        complete: suite.complete,
        exit_code: suite.exit_code.to_string(),
        cases_count: suite.cases_count,
        counts: counts.join(", "),
        cases,
    })
}

fn normal(component: std::path::Component<'_>) -> bool {
    matches!(component, std::path::Component::Normal(_))
}

/// The word of a verdict, for people.
fn words(verdict: &str) -> String {
    verdict.replace('_', " ")
}

/// What stands before a verdict, so that it is not told by its colour alone.
fn sign(verdict: &str) -> &'static str {
    match verdict {
        "agrees" => "✓",
        "diverges" => "✕",
        _ => "?",
    }
}

/// Filters of the templates.
#[expect(unreachable_pub, reason = "askama's macro makes a public type of each")]
mod filters {
    use askama::Values;

    /// A number with at most one digit after the point.
    #[askama::filter_fn]
    pub(super) fn px(value: &f64, _: &dyn Values) -> askama::Result<String> {
        Ok(format!("{value:.1}"))
    }
}
