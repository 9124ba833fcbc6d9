//! Suites that are right, and one defect after another.

use proptest::prelude::*;

use super::*;
use crate::cli::{ActivationsChoice, KvChoice, ReferenceChoice};
use crate::sides::TapLevel;

fn suite(text: &str) -> Suite {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn cases_take_what_they_do_not_say_from_the_defaults() {
    let suite = suite(
        "budget_minutes = 1.5\n\
         [defaults]\nmax_tokens = 3\nkv = \"f16\"\nlengths = [5, 9]\nseed = 7\n\
         [[case]]\nname = \"drawn\"\n\
         [[case]]\nname = \"given\"\ntokens = [1, 2]\nkv = \"f32\"\ntap = \"op\"\n\
         [[case]]\nname = \"said\"\nprompt = \"Hi\"\nactivations = \"i8\"\nreference = \"wide\"\n",
    );
    assert_eq!(suite.budget_minutes, Some(1.5));
    let names: Vec<&str> = suite.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["drawn-5", "drawn-9", "given", "said"]);
    assert_eq!(suite.cases[1].drawn, Some(Drawn { seed: 7, length: 9, dated: false, fixed: true }));
    let given = &suite.cases[2];
    assert_eq!((given.drawn, given.options.tokens.clone()), (None, Some(vec![1, 2])));
    assert_eq!((given.options.kv, given.options.tap), (KvChoice::F32, TapLevel::Op));
    assert_eq!(given.options.max_tokens, 3);
    let said = &suite.cases[3].options;
    assert_eq!((said.kv, said.activations), (KvChoice::F16, ActivationsChoice::I8));
    assert_eq!(said.reference, ReferenceChoice::Wide);
    assert_eq!(said.ubatch, 512);
}

#[test]
fn lists_multiply_and_the_names_say_which_is_which() {
    let names = |text: &str| -> Vec<String> {
        suite(text).cases.into_iter().map(|case| case.name).collect()
    };
    let text = "[defaults]\nubatch = [7, 512]\n[[case]]\nname = \"a\"\nkv = [\"f32\", \"f16\"]\n\
                model = [\"tiny\", \"some/where/my model.gguf\"]\nlengths = [1, 33]\n\
                seed = [1, \"date\"]\n";
    let cases = suite(text).cases;
    assert_eq!(cases.len(), 32);
    assert_eq!(cases[0].name, "a-tiny-kv-f32-ubatch7-seed1-1");
    assert_eq!(cases[1].name, "a-tiny-kv-f32-ubatch7-seed1-33");
    assert_eq!(cases[31].name, "a-my-model.gguf-kv-f16-ubatch512-seeddate-33");
    let last = &cases[31];
    assert_eq!(last.options.model.as_deref(), Some("some/where/my model.gguf"));
    assert_eq!((last.options.kv, last.options.ubatch), (KvChoice::F16, 512));
    assert_eq!(last.drawn, Some(Drawn { seed: 0, length: 33, dated: true, fixed: false }));
    assert_eq!(
        names("[[case]]\nname = \"p\"\nprompt = [\"One\", \"Two\"]\n"),
        ["p-prompt1", "p-prompt2"]
    );
    // A case that says one value has that one, and a list of one is a list.
    let own = "[defaults]\nubatch = [7, 9]\n[[case]]\nname = \"a\"\nubatch = 3\n";
    assert_eq!(names(own), ["a"]);
    assert_eq!(names("[[case]]\nname = \"a\"\nubatch = [3]\n"), ["a-ubatch3"]);
    // What has no value in the end is refused by name, as a single one is.
    let error = parse(b"[[case]]\nname = \"a\"\nkv = [\"f32\", \"f8\"]\n").unwrap_err();
    assert_eq!(error.to_string(), "`kv` in case `a` is `f8`");
}

#[test]
fn lists_are_counted_before_anything_is_made_of_them() {
    let list = |key: &str, count: usize| {
        let numbers: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        format!("{key} = [{}]\n", numbers.join(","))
    };
    let text = |count: usize| {
        let keys = ["ubatch", "threads", "max_tokens", "context_tokens", "seed", "lengths"];
        let lists = keys.map(|key| list(key, count)).concat();
        format!("[[case]]\nname = \"a\"\n{lists}")
    };
    assert_eq!(parse(text(4).as_bytes()).unwrap().cases.len(), 4096);
    assert!(matches!(parse(text(1000).as_bytes()), Err(SuiteError::TooManyCases { .. })));
    // Every list's value is said in every case.
    let prompt = "p".repeat(5000);
    let text = format!("[[case]]\nname = \"a\"\nprompt = [\"{prompt}\"]\n{}", list("ubatch", 9000));
    assert!(matches!(parse(text.as_bytes()), Err(SuiteError::TooMuchSaid { .. })));
    let long = format!("[[case]]\nname = \"{}\"\nmodel = [\"{}\"]", "n".repeat(99), "m".repeat(99));
    assert!(matches!(parse(long.as_bytes()), Err(SuiteError::BadName { .. })));
}

#[test]
fn the_day_is_a_seed_and_a_number_in_the_file_stays() {
    let text = "[[case]]\nname = \"day\"\nlengths = [2]\nseed = \"date\"\n\
                [[case]]\nname = \"own\"\nlengths = [2]\nseed = 5\n[[case]]\nname = \"text\"\n\
                [[case]]\nname = \"none\"\nlengths = [2]\n";
    let seeds = |asked, day| {
        let mut suite = suite(text);
        let said = suite.draw_from(asked, day);
        let of = |case: &Case| case.drawn.map(|drawn| (drawn.seed, drawn.dated));
        (said, suite.cases.iter().map(of).collect::<Vec<_>>())
    };
    let none = None::<(u64, bool)>;
    let day = 20_261_126;
    let expected = vec![Some((day, true)), Some((5, false)), none, Some((0, false))];
    assert_eq!(seeds(None, day), (Some(day), expected));
    let all = |seed| vec![Some((seed, true)), Some((5, false)), none, Some((seed, true))];
    assert_eq!(seeds(Some(Seed::Date), day), (Some(day), all(day)));
    assert_eq!(seeds(Some(Seed::Number(9)), day), (Some(9), all(9)));
    let mut fixed = suite("[[case]]\nname = \"own\"\nlengths = [2]\n");
    assert_eq!(fixed.draw_from(None, day), None);
}

#[test]
fn drawn_tokens_are_those_of_the_seed() {
    let tokens = |length| Drawn { seed: 3, length, dated: false, fixed: true }.tokens(500);
    assert_eq!(tokens(9)[..5], tokens(5));
    assert!(tokens(999).iter().all(|id| *id < 500));
    assert_ne!(tokens(9), Drawn { seed: 4, length: 9, dated: false, fixed: true }.tokens(500));
    // The first output of splitmix64 from state 0, a published test vector.
    let first = Drawn { seed: 0, length: 1, dated: false, fixed: true }.tokens(1 << 31);
    assert_eq!(u64::from(first[0]), 0xe220_a839_7b1d_cdaf % (1 << 31));
}

/// The beginning of a case.
const CASE: &str = "[[case]]\nname = \"a\"\n";

/// A text with `CASE` in it is refused with these words and this way out.
fn refused(text: &str, words: &str, hint: &str) {
    let text = text.replace("CASE", CASE);
    let error = parse(text.as_bytes()).err().unwrap_or_else(|| panic!("no error: {text}"));
    let (said, way) = (error.to_string(), error.hint());
    assert!(said.contains(words), "{text}\n{said}");
    assert!(way.contains(hint) && !way.is_empty(), "{text}\n{way}");
}

#[test]
fn defects_of_lists_seeds_and_limits() {
    for (text, words, hint) in [
        ("CASEkv = []", "`kv` in case `a` is empty, one value, or a list of them is due", ""),
        ("CASEubatch = [[1]]", "`ubatch` in case `a` is a list, a whole number is due", ""),
        ("CASEpast_end = [true]", "`past_end` in case `a` is a list", "true or false"),
        ("CASElengths = [1]\nseed = \"today\"", "`seed` in case `a` is `today`", "date"),
        ("CASEseed = \"date\"", "case `a` has a `seed` and no `lengths`", ""),
        ("CASElimit_minutes = 0", "`limit_minutes` in case `a` is 0, more than 0 minutes", ""),
        ("CASEfind_on_divergence = 1", "`find_on_divergence` in case `a` is a whole", ""),
        ("CASEubatch = [7, 7]", "two cases are called `a-ubatch7`", "each list"),
    ] {
        refused(text, words, hint);
    }
}

#[test]
fn every_defect_has_its_words_and_its_way_out() {
    for (text, words, hint) in [
        ("", "the suite has no case", "add a table [[case]] with a name"),
        ("case = []", "the suite has no case", "[[case]]"),
        ("a = ", "the suite is not TOML: line 1: ", "quick.toml is an example"),
        ("\n\n[x\n", "the suite is not TOML: line 3: ", "quick.toml"),
        (
            "[[case]]\nname = \"a\"\nname = \"b\"",
            "the suite is not TOML: line 3: duplicate key",
            "",
        ),
        ("[case]\nname = \"a\"", "`case` in the suite is one table, tables [[case]] is due", ""),
        ("case = [1]", "`case` in the suite is a list of other things", "tables [[case]]"),
        ("defaults = 3\n[[case]]\nname = \"a\"", "`defaults` in the suite is no table", ""),
        (
            "budget = 3",
            "the suite has a key `budget` that no suite has",
            "did you mean `budget_minutes`?",
        ),
        ("[[case]]\nmodel = \"tiny\"", "case 1 has no name", "give it name"),
        ("[[case]]\nname = 4", "`name` in case 1 is a whole number, a string is due", ""),
        ("[[case]]\nname = \"../a\"", "case 1 is called `../a`", "a name is a folder too"),
        ("[[case]]\nname = \"\"", "case 1 is called ``", "letters, digits"),
        ("CASE[[case]]\nname = \"a\"", "two cases are called `a`", "rename"),
        ("CASElengths = [2]\n[[case]]\nname = \"a-2\"", "two cases are called `a-2`", ""),
        ("CASEkind = 1", "case `a` has a key `kind` that no suite has", "there are: name, model"),
        ("CASEubtach = 1", "case `a` has a key `ubtach`", "did you mean `ubatch`?"),
        ("[[case]]\nname = \"suite.json\"", "case 1 is called `suite.json`", "like a file"),
        ("[[case]]\nname = \"A.HTML\"", "case 1 is called `A.HTML`", "like a file"),
        ("CASEubatch = 0", "`ubatch` in case `a` is 0, a number from 1 to 16777216 is due", ""),
        ("CASEubatch = -5", "`ubatch` in case `a` is -5", "a number from 1"),
        ("CASEubatch = 2.0", "`ubatch` in case `a` is a number with a fraction", ""),
        ("CASEthreads = 5000", "`threads` in case `a` is 5000, a number from 1 to 4096", ""),
        ("CASElengths = []", "`lengths` in case `a` is empty", "a list of numbers"),
        ("CASElengths = [1, \"2\"]", "`lengths` in case `a` is a string", ""),
        ("CASElengths = 3", "`lengths` in case `a` is a whole number, a list", ""),
        ("CASElengths = [3, 3]", "`lengths` in case `a` has 3 twice", "once"),
        ("CASEtokens = [-1]", "`tokens` in case `a` is -1, token ids from 0 up", ""),
        ("CASEtokens = [4294967296]", "`tokens` in case `a` is 4294967296", ""),
        ("CASEtokens = [1]\nprompt = \"x\"", "has `prompt` and `tokens`", "leave `tokens` away"),
        ("CASEseed = 1", "case `a` has a `seed` and no `lengths`", "lengths = [1, 33]"),
        ("CASElengths = [1]\nseed = -1", "`seed` in case `a` is -1", "not negative"),
        (
            "CASEkv = \"f17\"",
            "`kv` in case `a` is `f17`",
            "did you mean `f16`? There are: f32, f16",
        ),
        ("CASEdevice = \"cude\"", "`device` in case `a` is `cude`", "did you mean `cuda`?"),
        ("CASEpast_end = 1", "`past_end` in case `a` is a whole number, true or false is due", ""),
        ("CASE[defaults]\ntapp = \"op\"", "the defaults has a key `tapp`", "did you mean `tap`?"),
        ("budget_minutes = 0\nCASE", "`budget_minutes` in the suite is 0, more than 0 minutes", ""),
        ("budget_minutes = nan\nCASE", "`budget_minutes` in the suite is NaN", ""),
    ] {
        refused(text, words, hint);
    }
    assert_eq!(parse(b"a\xff").unwrap_err(), SuiteError::NotUtf8 { byte: 1 });
    let lengths: Vec<String> = (1..=CASES_MAX + 1).map(|length| length.to_string()).collect();
    let many = format!("{CASE}lengths = [{}]", lengths.join(","));
    assert!(matches!(parse(many.as_bytes()), Err(SuiteError::TooManyCases { .. })));
}

/// A file of 100 KB would have become half a gigabyte.
#[test]
fn what_every_case_repeats_is_bounded() {
    let lengths: Vec<String> = (1..=9000).map(|length| length.to_string()).collect();
    let text = |model_bytes: usize| {
        let model = "m".repeat(model_bytes);
        let lengths = lengths.join(",");
        format!("[[case]]\nname = \"a\"\nmodel = \"{model}\"\nlengths = [{lengths}]")
    };
    assert_eq!(parse(text(1000).as_bytes()).unwrap().cases.len(), 9000);
    let error = parse(text(50_000).as_bytes()).unwrap_err();
    assert_eq!(error, SuiteError::TooMuchSaid { bytes_max: 1 << 24 });
    // From the defaults into cases without lengths.
    let cases: String = (0..9000).map(|case| format!("[[case]]\nname = \"{case}\"\n")).collect();
    let text = format!("[defaults]\nprompt = \"{}\"\n{cases}", "p".repeat(50_000));
    assert!(matches!(parse(text.as_bytes()), Err(SuiteError::TooMuchSaid { .. })));
}

/// What a file says reaches the terminal as one short line.
#[test]
fn no_suite_steers_a_terminal() {
    let long = "k".repeat(1000);
    for (text, words) in [
        ("\"\\u001b[2J\" = 1", "has a key `\\u{1b}[2J`"),
        ("[[case]]\nname = \"a\\nb\"", "is called `a\\nb`"),
        ("[[case]]\nname = \"a\"\nkv = \"\\u001b\"", "is `\\u{1b}`"),
        (&format!("{long} = 1"), "k… (1000 bytes)"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(words) && said.len() < 200, "{said}");
        assert!(error.hint().starts_with("there are") || error.hint().starts_with("a name"));
    }
}

#[test]
fn the_worst_answer_wins() {
    for (codes, expected) in [
        (vec![Some(0), Some(0)], 0),
        (vec![Some(0), Some(2)], 2),
        (vec![Some(2), Some(3), Some(0)], 3),
        (vec![Some(3), Some(4)], 4),
        (vec![Some(4), Some(1), Some(3)], 1),
        (vec![Some(0), None], 0),
        (vec![None, None], 4),
        (vec![], 4),
    ] {
        assert_eq!(worst(&codes), expected, "{codes:?}");
    }
}

#[test]
fn the_suites_that_come_along_are_right() {
    for (name, least) in [("quick", 8), ("host", 30), ("nightly", 50)] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/suites");
        let suite = parse(&std::fs::read(format!("{folder}/{name}.toml")).unwrap()).unwrap();
        assert!(suite.cases.len() >= least, "{name}: {}", suite.cases.len());
        assert!(suite.budget_minutes.is_some(), "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(at: prop::sample::Index, byte: u8) {
        let text = "[defaults]\nlengths = [1]\n[[case]]\nname = \"a\"\nkv = \"f16\"\n";
        let mut text = text.as_bytes().to_vec();
        let index = at.index(text.len());
        text[index] = byte;
        let _ = parse(&text);
    }
}
