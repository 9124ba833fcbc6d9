//! What holds for any bytes that are read as a trace, of ours or of GRETA CORE: they are refused in
//! a line, or what was read is written, read back, and parts from no copy of itself.

use harness::trace::diff::{DiffVerdict, Report, compare};
use harness::trace::greta::{Wish, import};
use harness::trace::{Ending, Trace, parse};

/// What a file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Came {
    /// Nobody's trace.
    Refused,
    /// A trace of our form.
    Ours,
    /// A trace of GRETA CORE.
    Greta,
}

/// Reads a file in both forms.
///
/// # Panics
/// When something does not hold.
pub(crate) fn read(bytes: &[u8]) -> Came {
    let ours = match parse(bytes) {
        Ok(trace) => {
            holds(trace);
            true
        }
        Err(error) => {
            one_line(&error.to_string());
            one_line(error.hint());
            false
        }
    };
    let wish = Wish { run: 1, layers_count: Some(2), ..Wish::default() };
    match import(&[("trace.jsonl".to_owned(), bytes.to_vec())], &wish) {
        Ok(import) => {
            let unknown = import.trace.records.iter().filter(|record| record.token_id.is_none());
            assert_eq!(unknown.count(), import.unknown_count);
            assert!(!import.files[0].findings.is_empty(), "every file of GRETA's breaks rules");
            holds(import.trace);
            Came::Greta
        }
        Err(error) => {
            one_line(&error.to_string());
            one_line(&error.hint());
            if ours { Came::Ours } else { Came::Refused }
        }
    }
}

fn holds(trace: Trace) {
    let mut copy = trace.clone();
    copy.header.side.build.push_str(" of another");
    let diff = compare(&trace, &copy).expect("one model, one contract");
    assert!(!matches!(diff.verdict, DiffVerdict::Diverges(_)), "{:?}", diff.verdict);
    let report = Report { diff: &diff, traces: [("A", &trace), ("B", &copy)] }.to_string();
    assert!(!report.contains(|c: char| c.is_control() && c != '\n'), "{report:?}");
    comes_back(trace);
}

/// Compared by its words where values are not equal, in which NaN is NaN; lines are those of a
/// file, and an end that was cut off is not written.
fn comes_back(trace: Trace) {
    let mut written = Vec::new();
    trace.write(&mut written).expect("memory takes everything");
    let again = plain(parse(&written).expect("what we write, we read"));
    let trace = plain(trace);
    if again != trace {
        assert_eq!(format!("{again:?}"), format!("{trace:?}"));
    }
}

fn plain(mut trace: Trace) -> Trace {
    trace.records.iter_mut().for_each(|record| record.line = 0);
    trace.landscapes.iter_mut().for_each(|landscape| landscape.line = 0);
    if let Ending::Early { cut_bytes } = &mut trace.ending {
        *cut_bytes = 0;
    }
    trace
}

/// What people are shown is short, and nothing in it steers a terminal.
fn one_line(message: &str) {
    assert!(!message.is_empty());
    assert!(message.len() <= 1000, "a message of {} bytes", message.len());
    assert!(!message.contains(char::is_control), "{message:?}");
}
