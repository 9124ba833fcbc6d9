//! The page of a run says what its files say: every figure, every state, whatever stands in a name.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{lockstep, settings, transcript};

fn run(folder: &Path, arguments: &[&str]) -> String {
    let out = folder.to_str().unwrap();
    let ends = ["--threads", "1", "--device", "host", "--out", out];
    let output = lockstep(&[arguments, &ends[..]].concat());
    transcript(&output)
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&text(folder, name)).unwrap()
}

/// As an HTML parser reads it.
fn unescaped(text: &str) -> String {
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'")];
    let named =
        named.iter().chain(&[("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&"), ("&amp;", "&")]);
    named.fold(text.to_owned(), |text, (name, letter)| text.replace(name, letter))
}

/// All figures of a page: a name may stand there more than once.
fn figures(page: &str) -> Vec<(String, String)> {
    let pieces = page.split("<data data-figure=\"").skip(1);
    let value = |piece: &str| {
        let (path, rest) = piece.split_once("\" value=\"").unwrap();
        let (value, _) = rest.split_once('"').unwrap();
        (unescaped(path), unescaped(value))
    };
    pieces.map(value).collect()
}

/// All leaves of `verdict.json`; lists of numbers are one.
fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| leaves(v, &under(k), found)),
        Value::Array(items) if !items.iter().all(Value::is_number) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &under(&index.to_string()), found);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            found.insert(path.to_owned(), items.join(" "));
        }
        Value::String(text) => drop(found.insert(path.to_owned(), text.clone())),
        Value::Null => drop(found.insert(path.to_owned(), "none".to_owned())),
        other => drop(found.insert(path.to_owned(), other.to_string())),
    }
}

/// Holds every figure of the page to the file, and every figure of the file to the page.
fn same_figures(folder: &Path) -> Value {
    let (page, verdict) = (text(folder, "report.html"), json(folder, "verdict.json"));
    let mut expected = BTreeMap::new();
    leaves(&verdict, "", &mut expected);
    let actual = figures(&page);
    assert!(actual.len() > expected.len(), "the figures on top stand below as well");
    for (path, value) in &actual {
        assert_eq!(expected.get(path), Some(value), "{path}");
    }
    for path in expected.keys() {
        assert!(actual.iter().any(|(there, _)| there == path), "{path} is not in the page");
    }
    verdict
}

#[test]
fn every_figure_is_the_one_of_the_verdict() {
    let long: Vec<String> = (1..=48).map(|id| id.to_string()).collect();
    let long = long.join(",");
    let cases: [(&[&str], &str); 5] = [
        (&["run", "--max-tokens", "4", "--tap", "op"], "agrees"),
        (&["run", "--max-tokens", "4", "--reference", "wide"], "agrees"),
        (&["run", "--max-tokens", "4", "--plant", "F09"], "diverges"),
        (&["find", "--max-tokens", "2", "--tokens", &long, "--plant", "F06"], "diverges"),
        (&["run", "--max-tokens", "2", "--plant", "F15"], "inconclusive"),
    ];
    for (arguments, word) in cases {
        let folder = tempfile::tempdir().unwrap();
        let said = run(folder.path(), arguments);
        let verdict = same_figures(folder.path());
        assert_eq!(verdict["verdict"], word, "{said}");
        let message = verdict["message"].as_str().unwrap();
        // The terminal, the file and the page have one sentence.
        assert!(said.contains(message), "{said}");
        let page = text(folder.path(), "report.html");
        assert!(unescaped(&page).contains(message), "{message}");
        // Written again from the files alone it is the same.
        let again = lockstep(&["report", folder.path().to_str().unwrap()]);
        assert_eq!(again.status.code(), Some(0));
        assert_eq!(text(folder.path(), "report.html"), page);
    }
}

#[test]
fn a_changed_figure_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["run", "--max-tokens", "2"]);
    same_figures(folder.path());
    let page = text(folder.path(), "report.html");
    let wrong =
        page.replacen("\"steps_compared\" value=\"2\"", "\"steps_compared\" value=\"3\"", 1);
    assert_ne!(page, wrong);
    fs::write(folder.path().join("report.html"), wrong).unwrap();
    let expected = json(folder.path(), "verdict.json")["steps_compared"].to_string();
    let page = figures(&text(folder.path(), "report.html"));
    let wrong: Vec<_> = page
        .iter()
        .filter(|(path, value)| path == "steps_compared" && *value != expected)
        .collect();
    assert_eq!(wrong.len(), 1);
}

#[test]
fn a_divergence_has_its_picture_its_cause_and_its_replay() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["find", "--max-tokens", "4", "--plant", "F08"]);
    let page = unescaped(&text(folder.path(), "report.html"));
    for label in ["found", "pattern", "judged", "cause", "look at"] {
        let lines = said.lines().skip_while(|line| !line.starts_with("found "));
        let line = lines.clone().find(|line| line.starts_with(label)).unwrap();
        let words = line[label.len()..].trim();
        assert!(page.contains(words), "{label}: {words}");
    }
    assert!(page.contains("lockstep replay witness.json"));
    let shown = json(folder.path(), "divergence.json");
    let verdict = json(folder.path(), "verdict.json");
    assert_eq!(shown["tap"], verdict["divergence"]["tap"]);
    // The window has the element that the verdict names, with the bits that it names.
    let index = verdict["divergence"]["element"]["index"].as_u64().unwrap() as usize;
    let size = |name: &str| shown[name].as_u64().unwrap() as usize;
    let columns = size("columns");
    let (line, column) = match shown["folded"] == true {
        true => (index / columns - size("window_line"), index % columns),
        false => (0, index - size("window_column")),
    };
    for (rows, bits) in [("expected_bits", "expected_bits"), ("actual_bits", "actual_bits")] {
        let value = shown[rows][line][column].as_u64().unwrap();
        let named = format!("0x{value:08x}");
        assert_eq!(verdict["divergence"]["element"][bits], named.as_str());
        assert!(page.contains(&format!("<td>{named}</td>")), "{named}");
    }
    let taps = text(folder.path(), "taps.jsonl");
    assert!(taps.lines().any(|line| line.contains("x\"") || line.contains("x1")), "{taps}");
}

#[test]
fn a_run_that_was_killed_has_its_page() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["run", "--max-tokens", "4", "--tap", "op"]);
    fs::remove_file(folder.path().join("verdict.json")).unwrap();
    fs::remove_file(folder.path().join("report.html")).unwrap();
    // The last line is torn, as a full disk leaves it.
    let lines = text(folder.path(), "taps.jsonl");
    fs::write(folder.path().join("taps.jsonl"), &lines[..lines.len() - 20]).unwrap();
    let output = lockstep(&["report", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let page = text(folder.path(), "report.html");
    let said = "no verdict: the run was stopped before its end. 3 steps were compared; all of them";
    assert!(page.contains(said), "{}", &page[..2000]);
    assert!(page.contains("taps.jsonl: line 6 is not whole"));
    assert!(!page.contains("data-figure"), "figures without a verdict");
}

#[test]
fn an_empty_folder_and_a_damaged_verdict_are_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let none = transcript(&lockstep(&["report", path]));
    assert!(none.starts_with("exit code 2") && none.contains("holds no files of a run"), "{none}");
    fs::write(folder.path().join("verdict.json"), "{").unwrap();
    let broken = transcript(&lockstep(&["report", path]));
    assert!(broken.starts_with("exit code 2") && broken.contains("is not what a run"), "{broken}");
    let missing = transcript(&lockstep(&["report", "no/such/folder"]));
    assert!(missing.starts_with("exit code 2") && missing.contains("no folder"), "{missing}");
}

#[test]
fn whatever_stands_in_a_name_stays_text() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["run", "--max-tokens", "30", "--past-end"]);
    let evil = "</script><script>alert(1)</script>";
    let inside = serde_json::to_string(evil).unwrap();
    for name in ["landscape.jsonl", "readout.jsonl", "verdict.json"] {
        let words = text(folder.path(), name)
            .replace("\"name\":\"tiny\"", &format!("\"name\":{inside}"))
            .replace("\"name\": \"tiny\"", &format!("\"name\": {inside}"));
        let words: Vec<String> = words
            .lines()
            .map(|line| match serde_json::from_str::<Value>(line) {
                Ok(mut value) if value.get("top5").is_some() => {
                    for top in value["top5"].as_array_mut().unwrap() {
                        top["text"] = Value::from(evil);
                    }
                    value.to_string()
                }
                Ok(mut value) if value.get("hidden_hash").is_some() => {
                    value["token"] = Value::from(evil);
                    value.to_string()
                }
                _ => line.to_owned(),
            })
            .collect();
        fs::write(folder.path().join(name), words.join("\n") + "\n").unwrap();
    }
    let output = lockstep(&["report", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let page = text(folder.path(), "report.html");
    assert!(!page.contains("<script>alert"), "not escaped");
    assert!(
        page.contains("\\u003c/script>\\u003cscript>alert(1)"),
        "not in the data of the script"
    );
    assert!(page.contains("&#60;script&#62;alert(1)") || page.contains("&lt;script&gt;alert(1)"));
    let scripts = page.matches("</script>").count();
    assert_eq!(scripts, 2, "the data and the script");
}

#[test]
fn a_page_reaches_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["run", "--max-tokens", "2"]);
    let page = text(folder.path(), "report.html");
    for reach in ["http:", "https:", "src=", "@import", "fetch(", "XMLHttpRequest"] {
        assert!(!page.contains(reach), "{reach}");
    }
}

#[test]
fn a_suite_has_an_overview_and_its_cases() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let file = folder.path().join("suite.toml");
    let cases = "[[case]]\nname = \"one\"\nmax_tokens = 2\n\n\
                 [[case]]\nname = \"no-model\"\nmodel = \"no/such.gguf\"\n";
    fs::write(&file, cases).unwrap();
    let said = lockstep(&["suite", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let page = text(&out, "report.html");
    let suite = json(&out, "suite.json");
    let cases = suite["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2, "{}", transcript(&said));
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let verdict = case["verdict"].as_str().unwrap();
        assert!(page.contains(&format!("data-case=\"{name}\" data-verdict=\"{verdict}\"")));
    }
    assert!(page.contains("href=\"one/report.html\""));
    same_figures(&out.join("one"));
}

#[test]
fn the_structure_of_a_page() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["find", "--max-tokens", "2", "--plant", "F09"]);
    let page = text(folder.path(), "report.html");
    let (head, rest) = page.split_once("<style>").unwrap();
    let (_, rest) = rest.split_once("</style>").unwrap();
    let (body, _) = rest.rsplit_once("<script>").unwrap();
    let mut settings = settings();
    for (pattern, words) in [
        (r#" d="[^"]+""#, " d=\"[path]\""),
        (r"host x86_64 \w+", "host [cpu]"),
        (r"host [a-z0-9_]+ (baseline|neon|faulty)", "host [cpu]"),
        (r"kernels [0-9a-f]{16}, [^<\x22]+", "kernels [hash], [compiler]"),
        (r"exact (i\d+), \w+", "exact $1, [instructions]"),
        (r#"(seconds[^"]*" value=)"[0-9.e-]+">[^<]+"#, "$1\"[time]\">[time]"),
        (r"(</data></td>)<td>[0-9.]+</td>", "$1<td>[rate]</td>"),
    ] {
        settings.add_filter(pattern, words);
    }
    settings.bind(|| insta::assert_snapshot!("report_page", format!("{head}{body}")));
}

#[test]
fn faults_beside_a_run_are_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let faults = lockstep(&["faults", "--only", "F09", "--format", "json", "--threads", "1"]);
    let lines = String::from_utf8(faults.stdout).unwrap();
    let missed = lines.replace("\"caught\":true", "\"caught\":false").replace("F09", "F99");
    fs::write(folder.path().join("faults.json"), lines + &missed).unwrap();
    let output = lockstep(&["report", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    let page = text(folder.path(), "report.html");
    let row = |id: &str| {
        let start = page.find(&format!("<th scope=\"row\">{id}</th>")).unwrap();
        let row = &page[start..];
        row[..row.find("</tr>").unwrap()].to_owned()
    };
    assert!(row("F09").contains("off by one") && !row("F09").contains("no\""), "{}", row("F09"));
    assert!(row("F99").contains("class=\"no\""), "{}", row("F99"));
}

/// What the page shows is to be pasted: the model by its folder, an engine by its command.
#[test]
fn the_search_of_the_page_is_that_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("the model.gguf");
    fs::write(&model, fixtures::TINY).unwrap();
    let engine = concat!(env!("CARGO_BIN_EXE_lockstep"), " serve --device host --plant F10");
    let (model, out) = (model.to_str().unwrap(), folder.path().join("out"));
    let run = ["run", "--model", model, "--tokens", "84,104", "--max-tokens", "2", "--quiet"];
    let ends = ["--engine-command", engine, "--out", out.to_str().unwrap()];
    let output = lockstep(&[&run[..], &ends].concat());
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    let page = unescaped(&text(&out, "report.html"));
    let due = format!("lockstep find --model '{model}' --tokens 84,104 ");
    assert!(page.contains(&due), "{due}");
    assert!(page.contains(&format!(" --engine-command '{engine}'")), "{engine}");
    assert!(!page.contains("F10 over JSON lines'"));
}
