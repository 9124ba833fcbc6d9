//! The form of a trace: what is written reads back, and every defect has its own words.

use proptest::prelude::*;

use super::*;

pub(crate) fn header() -> Header {
    Header {
        trace: VERSION,
        written_by: "lockstep 0.1.0".to_owned(),
        side: SideIdentity {
            implementation: "engine".to_owned(),
            device: "host".to_owned(),
            build: "kernels 1".to_owned(),
        },
        model: Some(ModelIdentity { name: "m".to_owned(), sha256: "ab".repeat(32), bytes: 3 }),
        contract: Some(Contract { activations: "i24".to_owned(), kv: "f32".to_owned() }),
        precision: Precision::F32,
        digits: None,
        hash: HashKind::Contract,
        tap: Some(TapLevel::Op),
        options: Some(TraceOptions {
            device: "auto".to_owned(),
            ubatch: 512,
            context_tokens: 64,
            threads: 2,
            max_tokens: 4,
        }),
        prompt_ids: Some(vec![1, 2, 3]),
    }
}

/// A record of a row, with the figures that belong to it.
pub(crate) fn record(tap: &str, layer: Option<usize>, position: usize, row: &[f32]) -> Record {
    let values = crate::sides::Row::F32(row.to_vec());
    let facts = crate::event::RowFacts::of(&values, Some(Hash(engine::hash_row(row))), None);
    Record {
        line: 0,
        token_id: Some(7 + position as u32),
        position,
        layer,
        tap: tap.to_owned(),
        step: position.saturating_sub(2),
        phase: if position <= 2 { Phase::PrefillLast } else { Phase::Decode },
        hash: facts.hash,
        elements_count: Some(facts.elements_count),
        covered_count: None,
        min: facts.min,
        max: facts.max,
        mean: facts.mean,
        nan: Some(facts.nan_count),
        inf: Some(facts.infinite_count),
        sample: None,
        row: None,
    }
}

fn bytes(trace: &Trace) -> Vec<u8> {
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    bytes
}

/// What was read has lines, what was made has none.
fn numbered(mut trace: Trace) -> Trace {
    let mut line = 1;
    for record in &mut trace.records {
        line += 1;
        record.line = line;
    }
    for landscape in &mut trace.landscapes {
        line += 1;
        landscape.line = line;
    }
    trace
}

fn example() -> Trace {
    let mut whole = record("q", Some(1), 3, &[0.1, -0.0, 1e-40]);
    whole.row = Some(vec![0.1, -0.0, 1e-40]);
    let mut foreign = record("embed", None, 0, &[f32::NAN, f32::INFINITY, 2.0]);
    foreign.token_id = None;
    foreign.covered_count = Some(2);
    foreign.sample = Some(vec![Number::F32(f32::NAN), Number::F32(f32::INFINITY)]);
    let landscape = Landscape {
        line: 0,
        step: 0,
        token_id: Some(9),
        position: Some(2),
        top: vec![Logit { id: 4, logit: Number::F32(1.5) }],
        gap: None,
        entropy: Number::F64(0.1),
    };
    Trace {
        header: header(),
        records: vec![whole, foreign],
        landscapes: vec![landscape],
        ending: Ending::Whole(Stopped::MaxTokens),
    }
}

#[test]
fn what_is_written_reads_back() {
    let trace = example();
    assert_eq!(parse(&bytes(&trace)).unwrap(), numbered(trace));
}

proptest! {
    #[test]
    fn every_float_round_trips(bits in prop::collection::vec(any::<u32>(), 1..20), mean: u64) {
        let row: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
        let mut trace = example();
        let mut made = record("v", Some(0), 1, &row);
        if !f64::from_bits(mean).is_nan() {
            made.mean = Number::F64(f64::from_bits(mean));
        } else {
            made.mean = Number::F64(f64::NAN);
        }
        let sample = row.iter().map(|v| if v.is_nan() { f32::NAN } else { *v });
        made.sample = Some(sample.map(Number::F32).collect());
        trace.records = vec![made];
        prop_assert_eq!(parse(&bytes(&trace)).unwrap(), numbered(trace));
        // The row itself keeps even the payload of a NaN.
        let mut trace = example();
        let mut made = record("v", Some(0), 1, &row);
        made.mean = Number::F64(0.0);
        made.row = Some(row.clone());
        trace.records = vec![made];
        let read = parse(&bytes(&trace)).unwrap();
        let back: Vec<u32> = read.records[0].row.iter().flatten().map(|v| v.to_bits()).collect();
        prop_assert_eq!(back, bits);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut bytes = bytes(&example());
        let index = at.index(bytes.len());
        bytes[index] = byte;
        let _ = parse(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = parse(&bytes);
    }
}

/// A cut anywhere behind the header is an early end, and never an error.
#[test]
fn a_killed_run_is_readable() {
    let whole = bytes(&example());
    let header = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let last = whole.len() - 1;
    for length in header..last {
        let read = parse(&whole[..length]).unwrap();
        assert!(matches!(read.ending, Ending::Early { .. }), "{length}");
    }
    assert!(matches!(parse(&whole[..last]).unwrap().ending, Ending::Whole(_)));
    let mut lines = whole.split_inclusive(|&byte| byte == b'\n');
    let two: Vec<u8> = lines.by_ref().take(2).flatten().copied().collect();
    let read = parse(&two).unwrap();
    assert_eq!(read.records.len(), 1);
    assert_eq!(read.ending, Ending::Early { cut_bytes: 0 });
}

/// The words for the example after one replacement in its text.
fn words(from: &str, to: &str) -> String {
    let text = String::from_utf8(bytes(&example())).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    let error = parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
    assert!(!error.hint().is_empty());
    error.to_string()
}

#[test]
fn every_defect_has_its_words() {
    for (from, to, expected) in [
        ("{\"trace\":1", "\n{\"trace\":1", "line 1 is blank"),
        ("\"trace\":1", "\"trice\":1", "line 1 is no header of a trace: it has no field `trace`"),
        ("\"trace\":1", "\"trace\":2", "the trace has version 2, this reader knows 1"),
        ("\"trace\":1", "\"trace\":nan", "line 1 is not JSON: expected ident at column 11"),
        ("\"i24\"", "24", "`contract.activations` in line 1 is a whole number, a string is due"),
        ("abab", "abag", "64 hexadecimal digits is due"),
        ("\"digits\":null", "\"digits\":18", "`digits` in line 1 is 18, 1 to 17 is due"),
        ("\"op\"", "\"ops\"", "`tap` in line 1 is ops, readout, layer or op is due"),
        ("[1,2,3]", "[1,-2,3]", "`prompt_ids` in line 1 is a negative number, a whole number"),
        ("[1,2,3]", "[1,4294967296]", "is 4294967296, a token id below 2^32 is due"),
        ("\"ubatch\":512", "\"ubatch\":{}", "`options.ubatch` in line 1 is an object"),
        ("\"record\":\"row\"", "\"record\":\"rows\"", "line 2 is a record `rows`"),
        ("\"record\":\"row\"", "\"trace\":1", "line 2 is a second header"),
        ("\"layer\":1,", "", "line 2 has no field `layer`"),
        ("\"layer\":1", "\"layer\":1,\"lair\":1", "line 2 has a field `lair` that this form"),
        ("\"layer\":1", "\"layer\":1,\"layer\":2", "line 2 says `layer` twice"),
        (
            "\"position\":3",
            "\"position\":1e3",
            "is a number with a fraction, a whole number is due",
        ),
        ("\"position\":3", "\"position\":99999999999999", "is 99999999999999, at most 2^40 is due"),
        ("\"position\":3", "\"position\":[3", "line 2 is not JSON: "),
        ("\"min\":-0.0", "\"min\":1e99", "a value of f32 is due"),
        ("\"min\":-0.0", "\"min\":1e999", "line 2 is not JSON: number out of range"),
        ("\"max\":0.1", "\"max\":\"much\"", "is much, a number, NaN, inf or -inf is due"),
        (
            "\"decode\",\"hash\":\"",
            "\"decode\",\"hash\":\"+",
            "a hash of 16 hexadecimal digits is due",
        ),
        ("\"row\":\"3dcccccd", "\"row\":\"3dccccc", "eight hexadecimal digits a value"),
        ("\"row\":\"3dcccccd", "\"row\":\"", "the row in line 2 has 2 values, the line says 3"),
        ("\"row\":\"3dcccccd", "\"row\":\"3dcccccc", "the row in line 2 has the hash "),
        ("\"top\":[{", "\"top\":[5,{", "`top[0]` in line 4 is a whole number, not an object"),
        ("\"id\":4", "\"id\":4,\"x\":0", "line 4 has a field `top[0].x`"),
        ("\"max_tokens\",", "\"tired\",", "`stopped` in line 5 is tired, max_tokens, end_of_text"),
        ("\"rows_count\":2", "\"rows_count\":3", "the end in line 5 counts 3 rows, the file has 2"),
        ("s_count\":1}\n", "s_count\":1}\n{}\n", "line 6 stands behind the end of the trace"),
        (
            "{\"record\":\"end\"",
            "7\n{\"record\":\"end\"",
            "line 5 is a whole number, not an object",
        ),
    ] {
        let said = words(from, to);
        assert!(said.contains(expected), "{from} -> {to}: {said}");
    }
}

#[test]
fn bytes_that_are_no_text() {
    assert!(matches!(parse(b""), Err(TraceError::Empty)));
    let mut text = bytes(&example());
    let at = text.iter().position(|&byte| byte == b'\n').unwrap();
    text[at + 3] = 0xff;
    let error = parse(&text).unwrap_err().to_string();
    assert_eq!(error, "line 2 is not UTF-8 at byte 2");
    text[at + 3] = 0;
    assert!(matches!(parse(&text), Err(TraceError::NotJson { line: 2, .. })));
}

#[test]
fn a_line_without_end_is_refused_before_it_is_read() {
    let error = read(std::io::BufReader::new(std::io::repeat(b' '))).unwrap_err();
    assert!(matches!(error, TraceError::LineTooLong { line: 1, .. }), "{error}");
}

#[test]
fn a_million_keys_are_read_in_order_of_their_number() {
    let keys: String = (0..1_000_000).map(|index| format!("\"{index}\":0,")).collect();
    let line = format!("{{{keys}\"0\":0}}");
    let error = parse(line.as_bytes()).unwrap_err();
    assert!(matches!(error, TraceError::DuplicateField { line: 1, .. }), "{error}");
}

/// What a file says reaches the terminal as one short line.
#[test]
fn no_trace_steers_a_terminal() {
    let text = String::from_utf8(bytes(&example())).unwrap();
    let long = format!("\"{}\":1,", "k".repeat(1000));
    for (from, to, words) in [
        ("\"trace\":", "\"\\u001b[2J\":1,\"trace\":", "a field `\\u{1b}[2J`"),
        ("\"trace\":", "\"a\\nb\":1,\"a\\nb\":1,\"trace\":", "says `a\\nb` twice"),
        ("\"row\"", "\"\\u0007\"", "a record `\\u{7}`"),
        ("\"prefill_last\"", "\"\\u009b\"", "is \\u{9b}, prefill_last or decode is due"),
        ("\"trace\":", &format!("{long}\"trace\":"), "k… (1000 bytes)"),
    ] {
        let said = parse(text.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
        assert!(said.contains(words) && said.len() < 200, "{said}");
    }
}
