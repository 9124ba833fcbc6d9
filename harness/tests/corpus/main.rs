//! The corpora that fuzzing left: every input of them again, without a fuzzer.

mod suite;
mod traces;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What a file of at most 100 KB may take; a load of other programs makes nothing ten times slower.
const BYTES_MOST: usize = 64 << 20;
const TIME_MOST: Duration = Duration::from_secs(10);

#[test]
fn traces_are_refused_in_a_line_or_come_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let mut counts = BTreeMap::new();
    for folder in ["hostile/corpus/traces", "greta"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            // A folder says what is in it.
            if path.extension().is_some_and(|ending| ending == "md") {
                continue;
            }
            let bytes = std::fs::read(path).unwrap();
            *counts.entry(traces::read(&bytes)).or_insert(0) += 1;
        }
    }
    eprintln!("{counts:?}");
    let count = |came| counts.get(&came).copied().unwrap_or(0);
    assert!(count(traces::Came::Refused) >= 20, "{counts:?}");
    assert!(count(traces::Came::Ours) >= 1, "{counts:?}");
    assert!(count(traces::Came::Greta) >= 5, "{counts:?}");
}

#[test]
fn suites_are_refused_in_a_line_or_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let mut counts = BTreeMap::new();
    for folder in ["hostile/corpus/suite", "suites"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            *counts.entry(suite::read(&bytes)).or_insert(0) += 1;
        }
    }
    eprintln!("{counts:?}");
    let count = |came| counts.get(&came).copied().unwrap_or(0);
    assert!(count(suite::Came::Refused) >= 20, "{counts:?}");
    assert!(count(suite::Came::Read) >= 5, "{counts:?}");
}

/// A fuzzer's inputs are short: these are as long as a small file, each of one thing over and over.
#[test]
fn no_text_becomes_many_times_what_it_is() {
    let header = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/hostile/corpus/traces/ours"),
    );
    let header = header.unwrap().lines().next().unwrap().to_owned();
    let fill = |begin: &str, part: &str, end: &str| {
        format!("{begin}{}{end}", part.repeat((100_000 - begin.len()) / part.len()))
    };
    let numbered = |begin: &str, part: &str| {
        let parts = (0..10_000).map(|number| part.replace('N', &number.to_string()));
        parts.fold(
            begin.to_owned(),
            |text, part| if text.len() < 100_000 { text + &part } else { text },
        )
    };
    let model = "m".repeat(50_000);
    let texts = [
        fill("[", "[0],", "0]\n"),
        fill("[", "{\"\":[0]},", "0]\n"),
        fill("", "[", "\n"),
        numbered("{", "\"N\":0,") + "\"\":0}\n",
        fill(&format!("{header}\n{{\"record\":\"landscape\",\"top\":["), "{},", "0]}\n"),
        fill(&format!("{header}\n"), "{\"record\":\"end\"}\n", ""),
        fill("case = [", "[0],", "]"),
        fill("case = [", "{a=1},", "]"),
        fill("a", ".a", " = 1"),
        fill("[a", ".a", "]"),
        fill("case = ", "[", ""),
        numbered("", "[aN]\n"),
        numbered("", "[[case]]\nname = \"N\"\n"),
        numbered("", "[a.bN.c]\n"),
        numbered("a.b.c.d.e = 1\n", "a.bN = 1\n"),
        fill("[[case]]\nname = \"a\"\ntokens = [", "1,", "]"),
        numbered(&format!("[[case]]\nname = \"a\"\nmodel = \"{model}\"\nlengths = ["), "1N,") + "]",
        numbered(&format!("[defaults]\nmodel = \"{model}\"\n"), "[[case]]\nname = \"N\"\n"),
    ];
    for text in &texts {
        let begin = Instant::now();
        let _ = (traces::read(text.as_bytes()), suite::read(text.as_bytes()));
        let taken = begin.elapsed();
        let start: String = text.chars().take(40).collect();
        eprintln!(
            "{:>5} ms, {} KiB so far: {start}",
            taken.as_millis(),
            ALLOCATED.peak_usage() >> 10
        );
        assert!(taken < TIME_MOST, "{taken:?}: {start}");
        assert!(ALLOCATED.peak_usage() < BYTES_MOST, "{} bytes: {start}", ALLOCATED.peak_usage());
    }
}
