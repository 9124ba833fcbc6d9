//! Reports in a real browser, without a window; where there is no Chromium, each test is ignored.
//!
//! `LOCKSTEP_REQUIRE_BROWSER=1` makes its absence a failure, `LOCKSTEP_BROWSER` names another.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod support;

use std::env;
use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use support::{lockstep, transcript};

/// What a run of this many steps may take to be read, laid out and ready for its reader.
const READY_MILLISECONDS_MAX: f64 = 2000.0;
const STEPS_MANY: usize = 10_000;
const BROWSER_LIMIT: Duration = Duration::from_secs(120);
const PHONE_PIXELS: u32 = 390;

/// Stands in the page's head: it notes what goes wrong and, when all has loaded, what there is.
const PROBE: &str = r##"<script>
const wrong = [];
addEventListener("error", (event) => wrong.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => wrong.push("refused " + event.blockedURI));
addEventListener("load", () => setTimeout(() => {
  const box = (found) => found ? found.getBoundingClientRect() : { width: 0, height: 0 };
  const chooser = document.querySelector(".chooser");
  let chosen = "";
  if (chooser) {
    const [number] = chooser.querySelectorAll("input");
    number.value = 7;
    number.dispatchEvent(new Event("change"));
    chosen = document.querySelector(".chosen").textContent;
  }
  const height = document.documentElement.scrollHeight;
  const colours = (selector) => {
    const style = getComputedStyle(document.querySelector(selector));
    return [style.color, style.backgroundColor];
  };
  const focusable = [...document.querySelectorAll("a[href], input, button, summary, [tabindex]")];
  const seen = focusable.filter((one) => one.checkVisibility());
  const probe = document.createElement("pre");
  probe.id = "probe";
  probe.textContent = "PROBE" + JSON.stringify({
    ready: performance.now(), height, chosen, wrong,
    inner: innerWidth,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    resources: performance.getEntriesByType("resource").map((entry) => entry.name),
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    body: colours("body"), soft: colours("footer"), head: colours("h1"),
    headings: [...document.querySelectorAll("h1,h2,h3")].map((one) => one.tagName),
    unnamed: document.querySelectorAll(
      "svg[role=img]:not([aria-label]), table:not(:has(caption))").length,
    focusable: seen.length,
    unreachable: seen.filter((one) => {
      one.focus();
      return document.activeElement !== one;
    }).length,
    map: box(document.querySelector(".map svg")).width,
  }) + "PROBE";
  document.body.append(probe);
}, 0));
</script>"##;

type Test = fn(&Path);

fn main() {
    let tests: [(&str, Test); 5] = [
        ("a_browser_that_hangs_is_ended", a_browser_that_hangs_is_ended),
        ("pages_load_without_errors_and_requests", pages_load_without_errors_and_requests),
        ("ten_thousand_steps_open_at_once", ten_thousand_steps_open_at_once),
        ("a_phone_scrolls_in_one_direction", a_phone_scrolls_in_one_direction),
        ("light_and_dark_can_be_read", light_and_dark_can_be_read),
    ];
    let browser = browser();
    let required = env::var_os("LOCKSTEP_REQUIRE_BROWSER").is_some_and(|value| value == "1");
    let trials = tests.map(|(name, test)| {
        let browser = browser.clone();
        let missing = browser.is_none();
        let trial = Trial::test(name, move || {
            let browser = browser.ok_or("no Chromium: `ci/tools.sh browser` installs it")?;
            test(&browser);
            Ok(())
        });
        trial.with_ignored_flag(missing && !required)
    });
    // What a page takes is measured: one browser at a time.
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// The browser that is named, or the first Chromium of the path.
fn browser() -> Option<PathBuf> {
    let named = env::var_os("LOCKSTEP_BROWSER").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let all = folders.iter().flat_map(|folder| names.map(|name| folder.join(name)));
    named.or_else(|| all.into_iter().find(|file| file.is_file()))
}

/// How a page is opened.
struct Window {
    width: u32,
    dark: bool,
}

const DESK: Window = Window { width: 1200, dark: false };

/// Opens a report that has to be without fault, and gives what the probe saw.
fn open(browser: &Path, folder: &Path, window: &Window) -> Value {
    let (seen, console) = look(browser, folder, window);
    assert_eq!(console, Vec::<String>::new(), "the page says something on the console");
    assert_eq!(seen["wrong"].as_array().unwrap().len(), 0, "{seen}");
    assert_eq!(seen["resources"].as_array().unwrap().len(), 0, "{seen}");
    seen
}

/// What a program wrote, which has to end within a time.
fn within(command: &mut Command, limit: Duration) -> Output {
    let [out, err] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let [to_out, to_err] = [&out, &err].map(|file| Stdio::from(file.try_clone().unwrap()));
    let mut child = command.stdin(Stdio::null()).stdout(to_out).stderr(to_err).spawn().unwrap();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begin.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let [stdout, stderr] = [out, err].map(|mut file| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let words = String::from_utf8_lossy(&stderr);
    let status = status.unwrap_or_else(|| panic!("no end within {limit:?}:\n{words}"));
    Output { status, stdout, stderr }
}

/// A program without an end is ended, and said.
fn a_browser_that_hangs_is_ended(_browser: &Path) {
    let limit = Duration::from_millis(200);
    let sleeps = || within(Command::new("sleep").arg("60"), limit);
    let begin = Instant::now();
    assert!(std::panic::catch_unwind(sleeps).is_err());
    assert!(begin.elapsed() < Duration::from_secs(30));
}

/// Opens a report with the probe in it: what the probe saw, and what the console says.
fn look(browser: &Path, folder: &Path, window: &Window) -> (Value, Vec<String>) {
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    let probed = folder.join("probed.html");
    fs::write(&probed, page.replacen("<title>", &format!("{PROBE}<title>"), 1)).unwrap();
    let profile = tempfile::tempdir().unwrap();
    // A window is never as narrow as a phone: the page stands in a frame of that width.
    let address = match window.width < 600 {
        false => format!("file://{}", probed.display()),
        true => {
            let frame = folder.join("frame.html");
            let words = format!(
                "<iframe src=\"probed.html\" width=\"{}\" height=\"800\" style=\"border:0\">\
                 </iframe>\
                 <script>addEventListener(\"load\", () => setTimeout(() => {{\
                 const inside = document.querySelector(\"iframe\").contentDocument;\
                 document.body.append(inside.getElementById(\"probe\").textContent);}}, 0));\
                 </script>",
                window.width
            );
            fs::write(&frame, words).unwrap();
            format!("file://{}", frame.display())
        }
    };
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        // A container's shared memory is too small for a page.
        .arg("--disable-dev-shm-usage")
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={},900", window.width.max(600)))
        // 0 is dark, 1 is light.
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!window.dark)))
        .arg("--dump-dom")
        .arg(&address);
    let output = within(&mut command, BROWSER_LIMIT);
    let words = String::from_utf8_lossy(&output.stderr);
    let console = words.lines().filter(|line| line.contains(":CONSOLE"));
    let console: Vec<String> = console.map(str::to_owned).collect();
    let dom = String::from_utf8(output.stdout).unwrap();
    let mut pieces = dom.rsplit("PROBE");
    let seen = pieces.nth(1).unwrap_or_else(|| panic!("the probe was not reached:\n{words}"));
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let seen = serde_json::from_str(&seen).unwrap_or_else(|error| panic!("{error}: {seen}"));
    (seen, console)
}

fn made(arguments: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ends = ["--threads", "1", "--device", "host", "--quiet", "--out"];
    let out = folder.path().to_str().unwrap();
    let output = lockstep(&[arguments, &ends[..], &[out]].concat());
    assert!(folder.path().join("report.html").is_file(), "{}", transcript(&output));
    folder
}

fn found() -> tempfile::TempDir {
    made(&["find", "--max-tokens", "4", "--plant", "F08"])
}

fn pages_load_without_errors_and_requests(browser: &Path) {
    for arguments in [
        &["run", "--max-tokens", "40", "--tap", "op", "--past-end"][..],
        &["run", "--max-tokens", "4", "--reference", "wide"],
        &["run", "--max-tokens", "2", "--plant", "F15"],
        &["find", "--max-tokens", "4", "--plant", "F08"],
    ] {
        let folder = made(arguments);
        let seen = open(browser, folder.path(), &DESK);
        let headings: Vec<&str> =
            seen["headings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(headings.first(), Some(&"H1"), "{seen}");
        assert_eq!(headings.iter().filter(|name| **name == "H1").count(), 1, "{seen}");
        assert_eq!(seen["unnamed"], 0, "a picture or a table without a name: {seen}");
        assert_eq!(seen["unreachable"], 0, "not to be reached by keyboard: {seen}");
        assert!(seen["focusable"].as_u64().unwrap() >= 3, "{seen}");
    }
    // A page that reaches out is seen: the policy refuses it, and the probe says so.
    let folder = found();
    let page = folder.path().join("report.html");
    let words = fs::read_to_string(&page).unwrap();
    let reaching =
        words.replace("<main", "<img src=\"http://example.invalid/x.png\" alt=\"\"><main");
    fs::write(&page, reaching).unwrap();
    let (seen, console) = look(browser, folder.path(), &DESK);
    assert!(!console.is_empty() && !seen["wrong"].as_array().unwrap().is_empty(), "{seen}");
}

/// A run of so many steps, from the lines of a short one.
fn many_steps() -> tempfile::TempDir {
    let folder = made(&["run", "--max-tokens", "3", "--tap", "op"]);
    for name in ["landscape.jsonl", "readout.jsonl", "taps.jsonl"] {
        let path = folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (steps, mut all): (Vec<Value>, Vec<Value>) =
            lines.into_iter().partition(|line| line.get("step").is_some());
        let last: Vec<&Value> = steps.iter().filter(|line| line["step"] == 2).collect();
        for step in 0..STEPS_MANY {
            for line in &last {
                let mut line = (*line).clone();
                line["step"] = step.into();
                if name == "readout.jsonl" {
                    line["pos_id"] = step.into();
                    line["hidden_hash"] = format!("{:016x}", step * 7919).into();
                }
                if name == "landscape.jsonl" {
                    line["gap"] = (((step * 37) % 1000) as f64 / 100.0).into();
                    line["entropy_topk"] = ((step as f64 / 200.0).sin() + 1.5).into();
                    for (place, top) in line["top5"].as_array_mut().unwrap().iter_mut().enumerate()
                    {
                        top["id"] = ((step * 31 + place) % 500).into();
                        top["text"] = format!(" word{}", (step * 31 + place) % 500).into();
                    }
                }
                all.push(line);
            }
        }
        let text: Vec<String> = all.iter().map(Value::to_string).collect();
        fs::write(&path, text.join("\n") + "\n").unwrap();
    }
    let output = lockstep(&["report", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", transcript(&output));
    folder
}

fn ten_thousand_steps_open_at_once(browser: &Path) {
    let folder = many_steps();
    let bytes = fs::metadata(folder.path().join("report.html")).unwrap().len();
    assert!(bytes < 4_000_000, "{bytes} bytes");
    let seen = open(browser, folder.path(), &DESK);
    let ready = seen["ready"].as_f64().unwrap();
    eprintln!("{STEPS_MANY} steps: {bytes} bytes, ready after {ready:.0} ms");
    assert!(ready <= READY_MILLISECONDS_MAX, "ready after {ready} ms");
    // Any of them is a step away, and says what the file says.
    let chosen = seen["chosen"].as_str().unwrap();
    let hash = format!("{:016x}", 7 * 7919);
    assert!(chosen.starts_with('7') && chosen.contains(&hash), "{chosen}");
    assert!(chosen.contains("word217"), "{chosen}");
}

fn a_phone_scrolls_in_one_direction(browser: &Path) {
    for folder in [found(), many_steps()] {
        let seen = open(browser, folder.path(), &Window { width: PHONE_PIXELS, dark: false });
        assert_eq!(seen["inner"], PHONE_PIXELS, "{seen}");
        assert_eq!(seen["overflow"], 0, "{seen}");
    }
    // A table outside of its box is seen.
    let folder = found();
    let page = folder.path().join("report.html");
    let words = fs::read_to_string(&page).unwrap();
    fs::write(&page, words.replace("overflow-x:auto;max-width:100%", "")).unwrap();
    let seen = open(browser, folder.path(), &Window { width: PHONE_PIXELS, dark: false });
    assert!(seen["overflow"].as_i64().unwrap() > 0, "{seen}");
}

/// The luminance of `rgb(r, g, b)`, as WCAG 2 defines it.
fn luminance(colour: &str) -> f64 {
    let inside = colour.split(['(', ')']).nth(1).unwrap();
    let channels: Vec<f64> = inside
        .split(',')
        .take(3)
        .map(|channel| {
            let value: f64 = channel.trim().parse().unwrap();
            let value = value / 255.0;
            let low = 0.040_45;
            if value <= low { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
        .collect();
    0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
}

fn light_and_dark_can_be_read(browser: &Path) {
    let folder = found();
    for dark in [false, true] {
        let seen = open(browser, folder.path(), &Window { width: 1200, dark });
        assert_eq!(seen["dark"], dark, "{seen}");
        let page = luminance(seen["body"][1].as_str().unwrap());
        for text in ["body", "soft", "head"] {
            let ink = luminance(seen[text][0].as_str().unwrap());
            assert_eq!(page <= ink, dark, "{text}: {seen}");
            let contrast = (page.max(ink) + 0.05) / (page.min(ink) + 0.05);
            assert!(contrast >= 4.5, "{text} has a contrast of {contrast:.2}: {seen}");
        }
    }
}
