//! Bare `nan` and `inf`, which C++ prints and JSON does not have, turned into their names.

use std::borrow::Cow;

/// The text with every bare word for a value that is no number in quotes, and how many there were.
pub(super) fn non_finite(text: &str) -> (Cow<'_, str>, usize) {
    let mut repaired = String::new();
    let (mut count, mut copied, mut place) = (0, 0, 0);
    let (mut inside, mut escaped) = (false, false);
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(place) {
        if inside {
            inside = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            place += 1;
            continue;
        }
        inside = byte == b'"';
        match word(&text[place..]) {
            Some((length, name)) if byte.is_ascii() => {
                repaired.push_str(&text[copied..place]);
                repaired.push_str(name);
                place += length;
                copied = place;
                count += 1;
            }
            _ => place += 1,
        }
        // The next place is on a letter's first byte: words are looked for at those alone.
        while place < bytes.len() && !text.is_char_boundary(place) {
            place += 1;
        }
    }
    if count == 0 {
        return (Cow::Borrowed(text), 0);
    }
    repaired.push_str(&text[copied..]);
    (Cow::Owned(repaired), count)
}

/// The word that a text begins with, where it is one.
fn word(text: &str) -> Option<(usize, &'static str)> {
    let (negative, letters) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let length = letters.bytes().take(9).take_while(u8::is_ascii_alphabetic).count();
    let name = match (letters[..length].to_ascii_lowercase().as_str(), negative) {
        ("nan", _) => "\"NaN\"",
        ("inf" | "infinity", false) => "\"inf\"",
        ("inf" | "infinity", true) => "\"-inf\"",
        _ => return None,
    };
    Some((length + usize::from(negative), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_only() {
        for (text, expected, count) in [
            (r#"{"a":nan,"b":-inf}"#, r#"{"a":"NaN","b":"-inf"}"#, 2),
            (r#"{"nan":0,"inf":"nan"}"#, r#"{"nan":0,"inf":"nan"}"#, 0),
            (r#"["\"nan",-nan,Infinity]"#, r#"["\"nan","NaN","inf"]"#, 2),
            (r#"["\\",nan]"#, r#"["\\","NaN"]"#, 1),
            ("nanny é nan", "nanny é \"NaN\"", 1),
            ("-", "-", 0),
            ("\"nan", "\"nan", 0),
        ] {
            let (repaired, found) = non_finite(text);
            assert_eq!((repaired.as_ref(), found), (expected, count), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~é\\x00\"nai\\\\-]{0,40}") {
            let _ = non_finite(&text);
        }
    }
}
