//! A name out of a file as a message can hold it: on one line, and never long.

use std::fmt::{self, Write};

/// How much of a name is shown.
const CHARACTERS_MOST: usize = 80;

/// Shows control characters escaped and what is longer than 80 characters cut.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, character) in self.0.chars().enumerate() {
            if index == CHARACTERS_MOST {
                return write!(f, "… ({} bytes)", self.0.len());
            }
            match character {
                // Quotes stand in names as they are.
                '\'' | '"' => f.write_char(character)?,
                _ => write!(f, "{}", character.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_on_its_line_and_short() {
        assert_eq!(Shown("blk.0.attn_q.weight").to_string(), "blk.0.attn_q.weight");
        assert_eq!(Shown("it's\n\u{1b}[2J").to_string(), "it's\\n\\u{1b}[2J");
        let long = "ä".repeat(1000);
        assert_eq!(Shown(&long).to_string(), format!("{}… (2000 bytes)", "ä".repeat(80)));
    }
}
