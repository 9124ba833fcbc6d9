//! What surrounds a command when GitHub runs it: the environment is read here and nowhere else.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where annotations and summaries go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ci {
    /// Whether somebody reads annotations on standard output.
    pub(super) annotated: bool,
    /// The file that a job's summary is appended to.
    pub(super) step_summary: Option<PathBuf>,
}

impl Ci {
    /// Of this process.
    pub(super) fn from_environment() -> Self {
        Self::of(std::env::var_os)
    }

    fn of(variable: impl Fn(&'static str) -> Option<OsString>) -> Self {
        if variable("GITHUB_ACTIONS").is_none_or(|value| value != "true") {
            return Self::default();
        }
        let path = variable("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
        Self { annotated: true, step_summary: path.map(PathBuf::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_appended_on_github_only() {
        let here = |actions: &'static str| {
            Ci::of(move |name| {
                Some(if name == "GITHUB_ACTIONS" { actions } else { "summary.md" }.into())
            })
        };
        assert_eq!(here("false"), Ci::default());
        let there = Ci { annotated: true, step_summary: Some("summary.md".into()) };
        assert_eq!(here("true"), there);
        assert_eq!(Ci::of(|_| None), Ci::default());
    }
}
