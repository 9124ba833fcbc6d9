//! One variant for each defect of a suite file.

use engine::gguf::Shown;

/// Why a file is no suite.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    /// Bytes that are no text.
    #[error("the suite is not UTF-8 at byte {byte}")]
    NotUtf8 {
        /// The first that is none.
        byte: usize,
    },
    /// Text that is no TOML; a key that stands twice is none either.
    #[error("the suite is not TOML: line {line}: {message}")]
    NotToml {
        /// The line.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// A key nobody knows.
    #[error("{place} has a key `{}` that no suite has", Shown(key))]
    UnknownKey {
        /// The table.
        place: String,
        /// The key.
        key: String,
        /// The nearest that is known, and all of them.
        known: String,
    },
    /// A value of another kind.
    #[error("`{key}` in {place} is {found}, {expected} is due")]
    WrongType {
        /// The table.
        place: String,
        /// The key.
        key: String,
        /// What would be right.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A number that cannot be.
    #[error("`{key}` in {place} is {}, {expected} is due", Shown(value))]
    OutOfRange {
        /// The table.
        place: String,
        /// The key.
        key: String,
        /// What stands there.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A word that is not one of a few.
    #[error("`{key}` in {place} is `{}`", Shown(value))]
    UnknownWord {
        /// The table.
        place: String,
        /// The key.
        key: String,
        /// What stands there.
        value: String,
        /// The nearest that is known, and all of them.
        known: String,
    },
    /// A case without a name.
    #[error("case {number} has no name")]
    NoName {
        /// Counted from 1.
        number: usize,
    },
    /// A name that cannot be a folder everywhere.
    #[error("case {number} is called `{}`", Shown(name))]
    BadName {
        /// Counted from 1.
        number: usize,
        /// Its name.
        name: String,
    },
    /// A name that two cases have.
    #[error("two cases are called `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Two ways of saying what a case begins with.
    #[error("{place} has `{one}` and `{two}`: one of them says what it begins with")]
    TwoPrompts {
        /// The case.
        place: String,
        /// One key.
        one: &'static str,
        /// Another.
        two: &'static str,
    },
    /// A seed, and nothing that is drawn from it.
    #[error("{place} has a `seed` and no `lengths`: nothing is drawn from it")]
    SeedWithoutLengths {
        /// The case.
        place: String,
    },
    /// A length that is listed twice.
    #[error("`lengths` in {place} has {length} twice")]
    DuplicateLength {
        /// The case.
        place: String,
        /// The length.
        length: usize,
    },
    /// Nothing to run.
    #[error("the suite has no case")]
    NoCases,
    /// More than anybody waits for.
    #[error("the suite has more than {cases_max} cases")]
    TooManyCases {
        /// The most.
        cases_max: usize,
    },
    /// Cases that are many times what the file is.
    #[error("models, prompts and tokens of all cases have more than {bytes_max} bytes")]
    TooMuchSaid {
        /// The most.
        bytes_max: usize,
    },
}

impl SuiteError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::NotUtf8 { .. } => "write the suite as text in UTF-8".to_owned(),
            Self::NotToml { .. } => "fixtures/suites/quick.toml is an example".to_owned(),
            Self::UnknownKey { known, .. } | Self::UnknownWord { known, .. } => known.clone(),
            Self::WrongType { expected, .. } => format!("write {expected}"),
            Self::OutOfRange { expected, .. } => format!("write {expected}"),
            Self::NoName { .. } => "give it name = \"...\"".to_owned(),
            Self::BadName { .. } => {
                "a name is a folder too: letters, digits, - _ and . with a letter or digit first, \
                 not ending like a file (.json, .jsonl, .xml, .md, .html)"
                    .to_owned()
            }
            Self::DuplicateName { .. } => {
                "a name ends with a value of each list, and a length; rename one".to_owned()
            }
            Self::TwoPrompts { two, .. } => format!("leave `{two}` away"),
            Self::SeedWithoutLengths { .. } => "give it lengths = [1, 33], or no seed".to_owned(),
            Self::DuplicateLength { .. } => "write each length once".to_owned(),
            Self::NoCases => "add a table [[case]] with a name".to_owned(),
            Self::TooManyCases { .. } => "split it into several files".to_owned(),
            Self::TooMuchSaid { .. } => {
                "each case has what the defaults say: say less there, or split the file".to_owned()
            }
        }
    }
}

/// Distances take time and memory for each letter.
const WORD_BYTES_MAX: usize = 100;

/// The nearest of the known words, and all of them.
pub(super) fn nearest(word: &str, known: &[&str]) -> String {
    let distance = |other: &&&str| match other.starts_with(word) && !word.is_empty() {
        true => 0,
        false => strsim::damerau_levenshtein(word, other),
    };
    // A third of the letters may be others; to nothing known is a longer word near.
    let short = word.len() <= WORD_BYTES_MAX;
    let near = known.iter().filter(|_| short).min_by_key(distance);
    let near = near.filter(|near| distance(near) <= 1 + word.chars().count() / 3);
    let all = known.join(", ");
    match near {
        Some(near) => format!("did you mean `{near}`? There are: {all}"),
        None => format!("there are: {all}"),
    }
}
