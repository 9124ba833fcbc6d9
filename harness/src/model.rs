//! A model file by name or path, and what a run has to know of it before a side is loaded.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::gguf::File;
use tempfile::NamedTempFile;

use crate::fetch::{self, Cached, Damage, FetchError};
use crate::sides::chain;
use crate::tokens::{Tokens, TokensError};

/// The name of the embedded model.
pub const EMBEDDED: &str = "tiny";

/// Why there is no model, or no prompt for it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Neither a file nor a name.
    #[error("there is no file and no model `{asked}`")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// Names that exist.
        known: Vec<String>,
    },
    /// A name of the catalogue whose file has not been fetched.
    #[error("model {name} is not in the cache")]
    NotFetched {
        /// The name.
        name: String,
    },
    /// A file in the cache that is not the one of the catalogue.
    #[error("model {name} in the cache is damaged: {damage}")]
    Damaged {
        /// The name.
        name: String,
        /// In what it differs.
        damage: Damage,
    },
    /// The cache cannot be read.
    #[error(transparent)]
    Cache(#[from] FetchError),
    /// Text was given, and the file has no tokeniser that can be used.
    #[error("{name} cannot turn text into tokens: {message}")]
    Tokens {
        /// The model.
        name: String,
        /// What its tokeniser lacks.
        message: String,
    },
    /// The embedded model has to stand in a file for the sides to read.
    #[error("cannot write the embedded model into {}: {source}", folder.display())]
    Embedded {
        /// The folder for temporary files.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no GGUF file, or damaged, or of a kind nobody here computes.
    #[error("{name}: {message}")]
    File {
        /// The file, without its folder.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// Nothing to run.
    #[error("the prompt is empty: at least one token is needed")]
    EmptyPrompt,
    /// An id that the model does not have.
    #[error("token id {id} is outside the vocabulary of {vocabulary} tokens")]
    Token {
        /// The id.
        id: u32,
        /// How many there are.
        vocabulary: usize,
    },
}

impl ModelError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unknown { known, .. } => {
                format!("give --model a GGUF file, or one of: {EMBEDDED}, {}", known.join(", "))
            }
            Self::NotFetched { name } => fetching(name),
            Self::Damaged { name, .. } => format!("`{}` replaces it", fetching(name)),
            Self::Cache(error) => error.hint(),
            Self::Tokens { .. } => "give --tokens with ids instead of text".to_owned(),
            Self::Embedded { .. } => {
                "make room there, or set TMPDIR to a folder that can be written to".to_owned()
            }
            Self::File { .. } => {
                "download or convert it again: models in llama architecture run, and \
                 `lockstep inspect FILE` says what a file has"
                    .to_owned()
            }
            Self::EmptyPrompt => "give --prompt some text, or --tokens some ids".to_owned(),
            Self::Token { vocabulary, .. } => {
                format!("ids go from 0 to {}", vocabulary.saturating_sub(1))
            }
        })
    }
}

/// The command that brings a model, or that takes it from its owner.
fn fetching(name: &str) -> String {
    let by_hand = fetch::entry(name).is_ok_and(|entry| entry.package.is_empty());
    format!("lockstep fetch {name}{}", if by_hand { " --from FILE" } else { "" })
}

/// What a run begins with.
#[derive(Clone, Copy, Debug)]
pub enum Prompt<'a> {
    /// Text for the model's own tokeniser.
    Text(&'a str),
    /// Token ids as they are.
    Ids(&'a [u32]),
}

/// A model file that has been read and checked, but not loaded.
pub struct Model {
    /// What it is called in reports; never a folder.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its checked contents.
    pub file: Arc<File>,
    /// How many tokens it knows.
    pub vocabulary: usize,
    /// How many positions it was made for.
    pub context_tokens: usize,
    tokens: Result<Tokens, TokensError>,
    /// Holds the embedded model's file.
    _temporary: Option<NamedTempFile>,
}

impl Model {
    /// Finds, reads and checks a model.
    pub fn resolve(asked: Option<&str>) -> Result<Self, ModelError> {
        let located = Self::locate(asked)?;
        let file = located.read()?;
        let config = engine::Config::from_gguf(&file).map_err(|error| ModelError::File {
            name: located.name.clone(),
            message: chain(&error),
        })?;
        Ok(Self {
            name: located.name,
            path: located.path,
            vocabulary: config.vocabulary,
            context_tokens: config.context_length,
            tokens: Tokens::from_gguf(&file),
            file: Arc::new(file),
            _temporary: located.temporary,
        })
    }

    /// Finds a model: a path, a name from the catalogue, or the embedded one.
    pub fn locate(asked: Option<&str>) -> Result<Located, ModelError> {
        let Some(asked) = asked.filter(|&asked| asked != EMBEDDED) else {
            return embedded();
        };
        let path = Path::new(asked);
        if path.is_file() {
            let (name, path) = (file_name(path), path.to_path_buf());
            return Ok(Located { name, path, temporary: None });
        }
        match fetch::entry(asked) {
            Err(FetchError::Unknown { name, known }) => {
                own(&name).ok_or(ModelError::Unknown { asked: name, known })
            }
            Err(error) => Err(error.into()),
            Ok(entry) => cached(asked, &entry),
        }
    }

    /// The token ids of a prompt, all of them checked.
    pub fn ids(&self, prompt: Prompt<'_>) -> Result<Vec<u32>, ModelError> {
        let ids = match (prompt, &self.tokens) {
            (Prompt::Ids(ids), _) => ids.to_vec(),
            (Prompt::Text(text), Ok(tokens)) => {
                tokens.encode(text).map_err(|error| self.no_tokens(&error))?
            }
            (Prompt::Text(_), Err(error)) => return Err(self.no_tokens(error)),
        };
        let vocabulary = self.vocabulary;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(ModelError::Token { id, vocabulary });
        }
        if ids.is_empty() { Err(ModelError::EmptyPrompt) } else { Ok(ids) }
    }

    fn no_tokens(&self, error: &TokensError) -> ModelError {
        ModelError::Tokens { name: self.name.clone(), message: chain(error) }
    }

    /// The tokens that end a text.
    pub fn end_ids(&self) -> BTreeSet<u32> {
        self.tokens.as_ref().map(|tokens| tokens.end_of_text().clone()).unwrap_or_default()
    }

    /// The text of one token.
    pub fn text(&self, id: u32) -> Option<String> {
        self.tokens.as_ref().ok()?.text(id)
    }

    /// The text of many.
    pub fn decode(&self, ids: &[u32]) -> Option<String> {
        Some(self.tokens.as_ref().ok()?.decode(ids))
    }
}

/// A model file that has been found.
pub struct Located {
    /// What it is called in reports.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    temporary: Option<NamedTempFile>,
}

impl Located {
    /// Reads and checks the file itself, whatever architecture it has.
    pub fn read(&self) -> Result<File, ModelError> {
        File::open(&self.path)
            .map_err(|error| ModelError::File { name: self.name.clone(), message: chain(&error) })
    }
}

fn embedded() -> Result<Located, ModelError> {
    let failed = |source| ModelError::Embedded { folder: std::env::temp_dir(), source };
    let mut file = NamedTempFile::with_suffix(".gguf").map_err(failed)?;
    file.write_all(fixtures::TINY).and_then(|()| file.flush()).map_err(failed)?;
    let (name, path) = (EMBEDDED.to_owned(), file.path().to_path_buf());
    Ok(Located { name, path, temporary: Some(file) })
}

/// A file of one's own in the cache: `NAME.gguf`, for a model that the catalogue cannot bring.
fn own(name: &str) -> Option<Located> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) {
        return None;
    }
    let path = fetch::cache_folder().ok()?.join(format!("{name}.gguf"));
    path.is_file().then(|| Located { name: name.to_owned(), path, temporary: None })
}

fn cached(name: &str, entry: &fixtures::Entry) -> Result<Located, ModelError> {
    let name = name.to_owned();
    match fetch::look_up(&name, entry, &fetch::cache_folder()?)? {
        Cached::Whole(path) => Ok(Located { name, path, temporary: None }),
        Cached::Missing => Err(ModelError::NotFetched { name }),
        Cached::Damaged(_, damage) => Err(ModelError::Damaged { name, damage }),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_its_owner_is_brought_by_its_owner() {
        let hint = |name: &str| ModelError::NotFetched { name: name.to_owned() }.hint();
        let by_hand = "lockstep fetch llama3-8b-instruct-q4_k_m --from FILE";
        assert_eq!(hint("llama3-8b-instruct-q4_k_m").unwrap(), by_hand);
        assert_eq!(hint("smollm2-135m-instruct").unwrap(), "lockstep fetch smollm2-135m-instruct");
        let damage = Damage::Size { expected: 2, actual: 1 };
        let name = "llama3-8b-instruct-q4_k_m".to_owned();
        let damaged = ModelError::Damaged { name, damage }.hint();
        assert_eq!(damaged.unwrap(), format!("`{by_hand}` replaces it"));
    }
}
