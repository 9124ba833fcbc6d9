//! GRETA's own files, and what damage does to them.

use proptest::prelude::*;

use super::*;
use crate::number::Number;
use crate::trace::{diff, parse};

fn fixture(name: &str) -> (String, Vec<u8>) {
    let path = format!("{}/../fixtures/greta/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    (name.to_owned(), std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
}

fn wish() -> Wish {
    Wish { run: 1, ..Wish::default() }
}

fn of(name: &str) -> Import {
    import(&[fixture(name)], &wish()).unwrap()
}

fn finding(import: &Import, defect: Defect) -> Option<(usize, usize)> {
    let found = import.files[0].findings.iter().find(|finding| finding.defect == defect)?;
    Some((found.count, found.first_line))
}

#[test]
fn two_runs_in_one_file_are_told_apart() {
    let import = of("b3_11_readout_consistency");
    assert_eq!(import.files[0].kinds, [Kind::ReadoutIndices]);
    assert_eq!(import.files[0].runs_count, 2);
    assert_eq!(finding(&import, Defect::SecondRun), Some((1, 17)));
    assert_eq!(finding(&import, Defect::AlarmIgnored), Some((30, 2)));
    // Run by run: the prompt at 204 against a decode at 205, the prompt at 44 against one at 45.
    assert_eq!(finding(&import, Defect::PhasesOfTwoTokens), Some((2, 2)));
    assert_eq!(import.trace.records.len(), 3 * 16);
    let second = Wish { run: 2, ..Wish::default() };
    let second = super::import(&[fixture("b3_11_readout_consistency")], &second).unwrap();
    assert_eq!(second.trace.records[0].position, 44);
    // The hash is beyond 2^53 and whole.
    assert_eq!(second.trace.records[0].hash.unwrap().0, 16_785_816_201_846_341_193);
}

/// A run of one step, written again, is a second run all the same.
#[test]
fn one_step_twice_is_two_runs() {
    let (name, bytes) = fixture("b3_10_p0_hi_prefill_decode");
    let line = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap();
    let import = import(&[(name, [line, line].concat())], &wish()).unwrap();
    assert_eq!(import.files[0].runs_count, 2);
    assert_eq!(finding(&import, Defect::SecondRun), Some((1, 2)));
    assert_eq!(finding(&import, Defect::PlaceTwice), None);
}

/// Nobody knows what was run after a position that is missing.
#[test]
fn no_token_is_derived_over_a_gap() {
    let (name, bytes) = fixture("b3_12_readout");
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let jump = format!("{}\n{}\n", lines[0], lines[2].replace("\"step\":2", "\"step\":1"));
    let import = import(&[(name, jump.into_bytes())], &wish()).unwrap();
    assert_eq!((import.derived_count, import.unknown_count), (0, 6));
    assert_eq!(finding(&import, Defect::PositionsMissing), Some((1, 2)));
    assert_eq!(finding(&import, Defect::StepsMissing), None);
}

#[test]
fn the_next_token_is_the_choice_before() {
    let import = of("b3_12_readout");
    let at = |position: usize| {
        let of = |record: &&Record| record.position == position && record.tap == "logits";
        import.trace.records.iter().find(of).unwrap().token_id
    };
    assert_eq!((at(204), at(205), at(206)), (None, Some(79), Some(96965)));
    assert_eq!((import.derived_count, import.unknown_count), (45, 3));
    let ids = Some((0..205).collect());
    let wish = Wish { prompt_ids: ids, layers_count: Some(32), ..wish() };
    let import = super::import(&[fixture("b3_12_readout")], &wish).unwrap();
    assert_eq!(import.unknown_count, 0);
    assert_eq!(import.trace.records[0].token_id, Some(204));
    assert_eq!(import.trace.records[0].layer, Some(31));
    let wish = Wish { prompt_ids: Some(vec![1, 2]), ..wish };
    let error = super::import(&[fixture("b3_12_readout")], &wish).unwrap_err();
    assert!(matches!(error, GretaError::Prompt { count: 2, position: 204 }), "{error}");
    assert_eq!(error.hint(), "give --tokens the 205 ids of the prompt");
}

#[test]
fn a_landscape_joins_the_rows_of_its_step() {
    let files = [fixture("b3_10_p0_hi_prefill_decode"), fixture("b3_10_p0_hi_landscape")];
    let import = import(&files, &wish()).unwrap();
    assert_eq!(import.trace.landscapes.len(), 32);
    let second = &import.trace.landscapes[1];
    assert_eq!((second.position, second.token_id), (Some(3), Some(96965)));
    assert_eq!(import.unknown_count, 2);
    let alone = of("b3_10_p0_hi_landscape");
    assert_eq!(alone.trace.landscapes[1].position, None);
    assert!(finding(&alone, Defect::NoPosition).is_some());
}

#[test]
fn stages_say_their_token_and_cover_a_part() {
    let import = of("p6_len_16_trace");
    assert_eq!(finding(&import, Defect::KeyTwice), Some((4, 2)));
    assert_eq!(finding(&import, Defect::PartFigures), Some((4, 2)));
    assert_eq!(finding(&import, Defect::InputOverridden), Some((1, 6)));
    assert_eq!(finding(&import, Defect::PlaceTwice), Some((2, 5)));
    assert_eq!(finding(&import, Defect::PhasesOfTwoTokens), None);
    assert_eq!(import.weights_count, 2);
    let embed = &import.trace.records[0];
    assert_eq!((embed.tap.as_str(), embed.token_id, embed.position), ("embed", Some(108), 28));
    assert_eq!((embed.elements_count, embed.covered_count), (Some(4096), Some(256)));
    assert_eq!(embed.sample.as_ref().unwrap().len(), 256);
}

#[test]
fn metrics_pass_a_position_over() {
    let import = of("b3_57_normout");
    assert_eq!(import.files[0].runs_count, 3);
    assert_eq!(finding(&import, Defect::PositionsMissing), Some((3, 3)));
    assert_eq!(finding(&import, Defect::PlaceTwice), Some((3, 2)));
    assert_eq!(import.trace.records[0].tap, "attn_norm");
    let import = of("b3_58_rms_weight");
    assert_eq!((import.weights_count, import.trace.records.len()), (5, 0));
}

/// What is brought in is a trace like any other: it is written, read, and compared.
#[test]
fn an_import_is_a_trace() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/greta"));
    let mut count = 0;
    for entry in files.unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.to_str().unwrap().strip_suffix(".jsonl") else { continue };
        let trace = of(name.rsplit('/').next().unwrap()).trace;
        let mut bytes = Vec::new();
        trace.write(&mut bytes).unwrap();
        let mut read = parse(&bytes).unwrap();
        for (record, made) in read.records.iter_mut().zip(&trace.records) {
            record.line = made.line;
        }
        for (landscape, made) in read.landscapes.iter_mut().zip(&trace.landscapes) {
            landscape.line = made.line;
        }
        assert_eq!(read, trace);
        let diff = diff::compare(&read, &trace).unwrap();
        let code = diff.exit_code();
        assert_eq!(code, 4, "{name} against itself");
        count += 1;
    }
    assert_eq!(count, 14);
}

fn words(line: &str) -> String {
    import(&[("f".to_owned(), line.as_bytes().to_vec())], &wish()).unwrap_err().to_string()
}

#[test]
fn damage_is_an_error_with_its_line() {
    let (_, bytes) = fixture("b3_10_p0_hi_prefill_decode");
    let text = String::from_utf8(bytes).unwrap();
    let first = text.lines().next().unwrap();
    for (from, to, expected) in [
        ("\"vocab\":128256}", "", "f: line 1 is not JSON: EOF while parsing"),
        ("\"step\":0", "\"step\":-1", "`step` in line 1 is a negative number, a whole number is"),
        ("\"step\":0", "\"step\":1e400", "f: line 1 is not JSON: number out of range"),
        ("\"step\":0", "\"step\":99999999999999999", "`step` in line 1 is 99999999999999999, at"),
        (
            "11886124818974435414",
            "99999999999999999999",
            "`hidden_hash` in line 1 is a number with",
        ),
        ("-15438.1", "\"low\"", "`hidden_min` in line 1 is low, a number, NaN, inf or -inf is due"),
        ("\"prefill\"", "\"fill\"", "`phase` in line 1 is fill, prefill, prefill_last, decode"),
        ("\"token_index\":2,", "", "f: line 1 has no field `token_index`"),
        ("\"hidden_hash\"", "\"hidden\"", "of no known kind: its first fields are `phase`, `step`"),
        ("{", "[{", "f: line 1 is not JSON: "),
    ] {
        assert!(first.contains(from), "{from}");
        let said = words(&first.replacen(from, to, 1));
        assert!(said.contains(expected), "{from} -> {to}: {said}");
    }
    assert_eq!(words(""), "f: the file is empty: a trace begins with its header");
    assert_eq!(words("[]"), "f: line 1 is a list, not an object");
    assert!(words("\0").contains("not JSON"));
    let bytes = import(&[("f".to_owned(), vec![b'{', 0xc3, 0x28])], &wish()).unwrap_err();
    assert_eq!(bytes.to_string(), "f: line 1 is not UTF-8 at byte 1");
    let none = Wish { run: 4, ..Wish::default() };
    let none = import(&[fixture("b3_57_normout")], &none).unwrap_err();
    assert_eq!(none.to_string(), "there is no run 4: the files have 3");
}

#[test]
fn bare_nan_is_read_and_told() {
    let (name, bytes) = fixture("b3_10_p0_hi_prefill_decode");
    let text = String::from_utf8(bytes).unwrap().replacen("-15438.1", "-nan", 1);
    let import = import(&[(name, text.into_bytes())], &wish()).unwrap();
    assert_eq!(finding(&import, Defect::BareNonFinite), Some((1, 1)));
    assert_eq!(import.trace.records[0].min, Number::F32(f32::NAN));
}

proptest! {
    #[test]
    fn no_damage_makes_it_panic(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        for name in ["b3_12_readout", "p0_short_trace", "b3_58_rms_in", "b3_10_p4_sys_landscape"] {
            let (name, mut bytes) = fixture(name);
            bytes.truncate(4000);
            let index = at.index(bytes.len());
            bytes[index] = byte;
            bytes.truncate(cut.index(bytes.len()));
            let _ = import(&[(name, bytes)], &wish());
        }
    }
}
