//! `junit.xml`: a test a case, for whatever shows tests of a build.
//!
//! A divergence is a failure, whatever could not be judged an error, what was not run is skipped.
//! There is no clock in the file but how long each case took.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::words::details;
use crate::suite::{CaseResult, Word};

/// The whole file. `title` names the suite, or the command of a single run.
pub fn junit(title: &str, cases: &[CaseResult]) -> String {
    let mut suite = TestSuite::new(title);
    let mut seconds = 0.0;
    for case in cases {
        seconds += case.duration_seconds;
        suite.add_test_case(test(title, case));
    }
    suite.set_time(duration(seconds));
    let mut report = Report::new("lockstep");
    report.set_time(duration(seconds));
    report.add_test_suite(suite);
    // Its writer fails on what cannot be written, and memory always can.
    report.to_string().expect("a report is written to memory")
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn test(title: &str, case: &CaseResult) -> TestCase {
    let mut status = match case.verdict {
        Word::Agrees => TestCaseStatus::success(),
        Word::Diverges => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Word::NotRun => TestCaseStatus::skipped(),
        Word::Inconclusive | Word::Device | Word::Input => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
    };
    if case.verdict != Word::Agrees {
        status.set_type(case.verdict.head().to_lowercase());
        status.set_message(case.message.as_str());
        status.set_description(details(case));
    }
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(title);
    test.set_time(duration(case.duration_seconds));
    if case.verdict == Word::Agrees {
        test.add_property(Property::new("message", case.message.as_str()));
    }
    for (name, value) in properties(case) {
        test.add_property(Property::new(name, value));
    }
    test
}

fn properties(case: &CaseResult) -> Vec<(&'static str, String)> {
    let mut properties = case.figures.as_ref().map(|f| f.named()).unwrap_or_default();
    properties.extend(case.seed.map(|seed| ("seed", seed.to_string())));
    properties.extend(case.reference.clone().map(|words| ("reference", words)));
    properties.extend(case.reused.then(|| ("reused", "true".to_owned())));
    properties
}
