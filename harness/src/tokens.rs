//! Text to token ids and back, with the vocabulary, merges and special tokens of the GGUF itself.
//!
//! **Invariant:** one tokeniser serves both sides; the ids they get are the same numbers.

use std::collections::BTreeSet;

use engine::gguf::{self, File, Shown};
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

/// The file format's type of a token that steers and is no text.
const CONTROL: i32 = 3;
/// The file format's type of a token that is found in text before anything else.
const USER_DEFINED: i32 = 4;

/// The keys of tokens that end a text, a turn or a message.
const ENDS: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Llama 3's own expression for the pieces of a text.
const LLAMA_3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Why a file gives no tokeniser.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// A key is missing or of another type.
    #[error(transparent)]
    Metadata(#[from] gguf::Error),
    /// Another kind of tokeniser than byte-level BPE.
    #[error("tokeniser `{}` is not supported: only `gpt2` (byte-level BPE) is", Shown(model))]
    Model {
        /// `tokenizer.ggml.model`.
        model: String,
    },
    /// A way of cutting text that is not known here.
    #[error(
        "pre-tokeniser `{}` is not supported: smollm, gpt-2, default and llama-bpe are",
        Shown(pre)
    )]
    Pre {
        /// `tokenizer.ggml.pre`.
        pre: String,
    },
    /// Two lists that belong together differ in length.
    #[error("the file has {tokens} tokens but {types} token types")]
    Types {
        /// Entries of `tokenizer.ggml.tokens`.
        tokens: usize,
        /// Entries of `tokenizer.ggml.token_type`.
        types: usize,
    },
    /// A merge without two halves.
    #[error("merge {index}, `{}`, is not two pieces with a space between", Shown(merge))]
    Merge {
        /// Its place in `tokenizer.ggml.merges`.
        index: usize,
        /// The entry.
        merge: String,
    },
    /// A special token outside the vocabulary.
    #[error("`{key}` is {id}, but the vocabulary has {tokens} tokens")]
    Special {
        /// The key of the metadata.
        key: &'static str,
        /// Its value.
        id: u32,
        /// How many tokens there are.
        tokens: usize,
    },
    /// The tokeniser's library refuses what the file says.
    #[error("the vocabulary and its merges do not fit together: {}", Shown(message))]
    Build {
        /// Its words.
        message: String,
    },
}

/// How a family of models cuts text into pieces before merging.
struct Family {
    pre_tokeniser: PreTokenizerWrapper,
    /// A piece that is a token as a whole is not merged from its letters.
    ignore_merges: bool,
    /// Whether a text begins with the beginning token when the file does not say.
    adds_beginning: bool,
}

/// The tokeniser of a model.
pub struct Tokens {
    tokenizer: Tokenizer,
    beginning: Option<u32>,
    end_ids: BTreeSet<u32>,
    vocabulary: usize,
}

impl Tokens {
    /// Builds the tokeniser that a file describes under `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// A [`TokensError`] that names the key or the entry that cannot be used.
    pub fn from_gguf(file: &File) -> Result<Self, TokensError> {
        let model = file.required_str("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(TokensError::Model { model: model.to_owned() });
        }
        let pre = file.optional_str("tokenizer.ggml.pre")?.unwrap_or("default");
        let family = family(pre)?;
        let tokens = file.required_strings("tokenizer.ggml.tokens")?;
        let types = file.optional_i32s("tokenizer.ggml.token_type")?.unwrap_or_default();
        if !types.is_empty() && types.len() != tokens.len() {
            return Err(TokensError::Types { tokens: tokens.len(), types: types.len() });
        }
        let merges = file.required_strings("tokenizer.ggml.merges")?;
        let mut tokenizer = Tokenizer::new(bpe(tokens, merges, family.ignore_merges)?);
        tokenizer.with_pre_tokenizer(Some(family.pre_tokeniser));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        let of_type = |wanted: i32| {
            let chosen = tokens.iter().zip(types).filter(move |&(_, kind)| *kind == wanted);
            chosen.map(move |(token, _)| AddedToken::from(token.clone(), wanted == CONTROL))
        };
        tokenizer.add_special_tokens(of_type(CONTROL).collect::<Vec<_>>()).map_err(refused)?;
        tokenizer.add_tokens(of_type(USER_DEFINED).collect::<Vec<_>>()).map_err(refused)?;
        let special = |key: &'static str| match file.optional_u32(key)? {
            Some(id) if id as usize >= tokens.len() => {
                Err(TokensError::Special { key, id, tokens: tokens.len() })
            }
            id => Ok(id),
        };
        let asked = file.optional_bool("tokenizer.ggml.add_bos_token")?;
        let beginning = special("tokenizer.ggml.bos_token_id")?
            .filter(|_| asked.unwrap_or(family.adds_beginning));
        let mut end_ids = BTreeSet::new();
        for key in ENDS {
            end_ids.extend(special(key)?);
        }
        Ok(Self { tokenizer, beginning, end_ids, vocabulary: tokens.len() })
    }

    /// The ids of a text. Special tokens are recognised where they are written out; bytes that
    /// the vocabulary does not have are dropped, as llama.cpp does.
    ///
    /// # Errors
    /// [`TokensError::Build`] when the library cannot cut the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(refused)?;
        Ok(self.beginning.into_iter().chain(encoding.get_ids().iter().copied()).collect())
    }

    /// The text of some ids, special tokens written out. Ids that are not there add nothing, and
    /// bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        // The only error of the library's decoder is an id without a token, which it skips.
        self.tokenizer.decode(ids, false).unwrap_or_default()
    }

    /// The text of one token, or `None` when there is no such id.
    pub fn text(&self, id: u32) -> Option<String> {
        ((id as usize) < self.vocabulary).then(|| self.decode(&[id]))
    }

    /// The tokens that end a text.
    pub fn end_of_text(&self) -> &BTreeSet<u32> {
        &self.end_ids
    }
}

fn refused(error: tokenizers::Error) -> TokensError {
    TokensError::Build { message: error.to_string() }
}

fn bpe(tokens: &[String], merges: &[String], ignore_merges: bool) -> Result<BPE, TokensError> {
    let halves = |(index, merge): (usize, &String)| {
        // A piece may itself be a space in old files, so the first character never parts.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let space = merge[first..].find(' ').map(|space| first + space);
        space
            .map(|space| (merge[..space].to_owned(), merge[space + 1..].to_owned()))
            .ok_or_else(|| TokensError::Merge { index, merge: merge.clone() })
    };
    let merges = merges.iter().enumerate().map(halves).collect::<Result<Vec<_>, _>>()?;
    // Of tokens with one text the first id stands.
    let mut vocabulary = Vocab::default();
    for (token, id) in tokens.iter().zip(0..) {
        vocabulary.entry(token.clone()).or_insert(id);
    }
    BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(refused)
}

fn family(pre: &str) -> Result<Family, TokensError> {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    let words = || ByteLevel::new(false, true, true);
    let plain =
        |pre_tokeniser| Family { pre_tokeniser, ignore_merges: false, adds_beginning: false };
    Ok(match pre {
        "gpt-2" | "default" => plain(words().into()),
        "smollm" => plain(Sequence::new(vec![Digits::new(true).into(), words().into()]).into()),
        "llama-bpe" => {
            let pattern = SplitPattern::Regex(LLAMA_3.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            let bytes = ByteLevel::new(false, true, false);
            let pieces = vec![split.map_err(refused)?.into(), bytes.into()];
            Family {
                pre_tokeniser: Sequence::new(pieces).into(),
                ignore_merges: true,
                adds_beginning: true,
            }
        }
        _ => return Err(TokensError::Pre { pre: pre.to_owned() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tiny() -> Tokens {
        Tokens::from_gguf(&File::from_bytes(fixtures::TINY.to_vec()).unwrap()).unwrap()
    }

    #[test]
    fn words_are_merged_and_specials_are_found_where_they_are_written() {
        let tokens = tiny();
        let ids = tokens.encode("to the<|endoftext|> the").unwrap();
        let texts: Vec<String> = ids.iter().map(|id| tokens.text(*id).unwrap()).collect();
        assert_eq!(texts, ["t", "o", " the", "<|endoftext|>", " the"]);
        assert_eq!(ids[3], 0);
        assert_eq!(tokens.end_of_text(), &BTreeSet::from([0]));
        assert_eq!(tokens.text(512), None);
    }

    #[test]
    fn every_family_cuts_digits_its_own_way() {
        let pieces = |pre: &str| {
            let tokens: Vec<String> = "0123456789 Ġ".chars().map(String::from).collect();
            let merges = ["1 2".to_owned(), "12 3".to_owned(), "123 4".to_owned()];
            let merged = ["12", "123", "1234"].map(str::to_owned);
            let vocabulary: Vec<String> = tokens.into_iter().chain(merged).collect();
            let mut tokenizer = Tokenizer::new(bpe(&vocabulary, &merges, false).unwrap());
            tokenizer.with_pre_tokenizer(Some(family(pre).unwrap().pre_tokeniser));
            tokenizer.encode("1234", false).unwrap().get_tokens().to_vec()
        };
        assert_eq!(pieces("gpt-2"), ["1234"]);
        assert_eq!(pieces("smollm"), ["1", "2", "3", "4"]);
        assert_eq!(pieces("llama-bpe"), ["123", "4"]);
    }

    #[test]
    fn bytes_that_the_vocabulary_lacks_are_dropped() {
        let vocabulary = ["a", "b"].map(str::to_owned);
        let mut tokenizer = Tokenizer::new(bpe(&vocabulary, &[], false).unwrap());
        tokenizer.with_pre_tokenizer(Some(family("gpt-2").unwrap().pre_tokeniser));
        assert_eq!(tokenizer.encode_fast("a\u{1}b", false).unwrap().get_ids(), [0, 1]);
    }

    #[test]
    fn defects_are_named() {
        assert_eq!(
            family("qwen2").err().unwrap().to_string(),
            "pre-tokeniser `qwen2` is not supported: smollm, gpt-2, default and llama-bpe are"
        );
        let vocabulary = ["a".to_owned()];
        assert_eq!(
            bpe(&vocabulary, &["ab".to_owned()], false).err().unwrap().to_string(),
            "merge 0, `ab`, is not two pieces with a space between"
        );
        let lost = bpe(&vocabulary, &["a c".to_owned()], false).err().unwrap().to_string();
        assert!(lost.starts_with("the vocabulary and its merges do not fit together"), "{lost}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".{0,60}") {
            // The tiny vocabulary has every byte.
            let tokens = tiny();
            let ids = tokens.encode(&text).unwrap();
            prop_assert_eq!(tokens.decode(&ids), text);
        }
    }
}
