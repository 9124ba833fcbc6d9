//! One hostile file a defect, made from a small valid one; truncation at every byte; mutations.

use super::*;
use proptest::prelude::*;

/// Builds files field by field, so that each can be wrong.
#[derive(Clone)]
struct Builder {
    magic: [u8; 4],
    version: u32,
    tensor_count: Option<u64>,
    entry_count: Option<u64>,
    /// Key, type id, bytes.
    entries: Vec<(Vec<u8>, u32, Vec<u8>)>,
    /// Name, dimensions, type id, offset.
    tensors: Vec<(Vec<u8>, Vec<u64>, u32, u64)>,
    data_bytes: usize,
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

fn array(id: u32, count: u64, bytes: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat()
}

impl Builder {
    fn valid() -> Self {
        let names = [string(b"a"), string(b"b")].concat();
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            entry_count: None,
            entries: vec![
                (b"general.architecture".to_vec(), 8, string(b"llama")),
                (b"llama.block_count".to_vec(), 4, 2_u32.to_le_bytes().to_vec()),
                (b"tokenizer.ggml.tokens".to_vec(), 9, array(8, 2, &names)),
                (b"tokenizer.ggml.scores".to_vec(), 9, array(6, 1, &1.5_f32.to_le_bytes())),
                (b"flag".to_vec(), 7, vec![1]),
            ],
            tensors: vec![
                (b"token_embd.weight".to_vec(), vec![32, 3], 8, 0),
                (b"output_norm.weight".to_vec(), vec![5], 0, 128),
            ],
            data_bytes: 128 + 20,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.entry_count.unwrap_or(self.entries.len() as u64).to_le_bytes());
        for (key, id, value) in &self.entries {
            out.extend(string(key));
            out.extend(id.to_le_bytes());
            out.extend(value);
        }
        for (name, dimensions, id, offset) in &self.tensors {
            out.extend(string(name));
            out.extend((dimensions.len() as u32).to_le_bytes());
            dimensions.iter().for_each(|dimension| out.extend(dimension.to_le_bytes()));
            out.extend(id.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend((0..self.data_bytes).map(|i| i as u8));
        out
    }

    fn alignment(value: u32) -> Self {
        let mut builder = Self::valid();
        let entry = (b"general.alignment".to_vec(), 4, value.to_le_bytes().to_vec());
        builder.entries.push(entry);
        builder
    }
}

/// What the reader says of a valid file with one change.
fn refused(change: impl FnOnce(&mut Builder)) -> String {
    let mut builder = Builder::valid();
    change(&mut builder);
    File::from_bytes(builder.bytes()).unwrap_err().to_string()
}

#[test]
fn a_valid_file_reads_back() {
    let file = File::from_bytes(Builder::valid().bytes()).unwrap();
    assert_eq!((file.version(), file.alignment(), file.tensors().len()), (3, 32, 2));
    assert_eq!(file.required_str("general.architecture").unwrap(), "llama");
    assert_eq!(file.required_strings("tokenizer.ggml.tokens").unwrap(), ["a", "b"]);
    assert_eq!(file.required_f32s("tokenizer.ggml.scores").unwrap(), [1.5]);
    assert!(file.required_bool("flag").unwrap());
    let norm = file.tensor("output_norm.weight").unwrap();
    let expected: Vec<u8> = (128..148).collect();
    assert_eq!(file.bytes(norm), expected);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = Builder::valid().bytes();
    for length in 0..bytes.len() {
        let error = File::from_bytes(bytes[..length].to_vec());
        assert!(error.is_err(), "a file cut at byte {length} of {} was accepted", bytes.len());
    }
}

#[test]
fn header_defects_are_named() {
    assert_eq!(
        refused(|b| b.magic = *b"GGML"),
        "not a GGUF file: it starts with [47, 47, 4d, 4c], not `GGUF`"
    );
    assert_eq!(
        refused(|b| b.version = 3_u32.swap_bytes()),
        "GGUF version 50331648 is 3 in the other byte order: convert the model to little endian"
    );
    for version in [0, 1, 4] {
        assert_eq!(
            refused(|b| b.version = version),
            format!("GGUF version {version} is not supported: 2 and 3 are, little endian")
        );
    }
    for count in [1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        let tensors = refused(|b| b.tensor_count = Some(count));
        assert!(tensors.starts_with(&format!("tensor count is {count}, but")), "{tensors}");
        let entries = refused(|b| b.entry_count = Some(count));
        assert!(entries.starts_with(&format!("metadata count is {count}, but")), "{entries}");
    }
}

#[test]
fn metadata_defects_are_named() {
    assert_eq!(
        refused(|b| b.entries[0].0 = vec![0xff, 0xfe]),
        "metadata key at byte 32 is not UTF-8"
    );
    assert_eq!(
        refused(|b| b.entries[1].1 = 13),
        "metadata `llama.block_count` has the unknown type 13"
    );
    assert_eq!(
        refused(|b| b.entries[4].2 = vec![2]),
        "metadata `flag` is a boolean of value 2: 0 and 1 are allowed"
    );
    assert_eq!(
        refused(|b| b.entries[2].2 = array(9, 1, &array(4, 0, &[]))),
        "metadata `tokenizer.ggml.tokens` is an array of arrays, which no model file needs"
    );
    assert_eq!(
        refused(|b| b.entries[1].0 = b"general.architecture".to_vec()),
        "metadata `general.architecture` stands twice in the file"
    );
    for (element, count) in [(8, 1_u64 << 31), (6, 1 << 32), (0, 1 << 63), (12, u64::MAX)] {
        let error = refused(|b| b.entries[2].2 = array(element, count, &[]));
        let start = format!("the length of metadata `tokenizer.ggml.tokens` is {count}, but the ");
        assert!(error.starts_with(&start), "{error}");
    }
    for length in [1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        let error = refused(|b| b.entries[0].2 = u64::to_le_bytes(length).to_vec());
        let start = format!("the length of metadata `general.architecture` is {length}, but");
        assert!(error.starts_with(&start), "{error}");
    }
    for length in [1 << 31, u64::MAX] {
        let error = refused(|b| b.entries[2].2 = array(8, 1, &u64::to_le_bytes(length)));
        let start = format!("the length of metadata `tokenizer.ggml.tokens` is {length}, but");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn alignment_defects_are_named() {
    for value in [0, 1, 4, 48, 1 << 17, u32::MAX] {
        let error = File::from_bytes(Builder::alignment(value).bytes()).unwrap_err().to_string();
        let expected =
            format!("general.alignment is {value}: a power of two from 8 to 65536 is needed");
        assert_eq!(error, expected);
    }
    assert!(File::from_bytes(Builder::alignment(32).bytes()).is_ok());
    let wrong = refused(|b| b.entries.push((b"general.alignment".to_vec(), 10, vec![0; 8])));
    assert_eq!(wrong, "metadata `general.alignment` is uint64, uint32 is needed");
}

#[test]
fn tensor_defects_are_named() {
    let huge = 1_u64 << 32;
    let name = "token_embd.weight";
    for (dims, expected) in [
        (vec![], "has 0 dimensions: 1 to 4 are allowed".to_owned()),
        (vec![32; 5], "has 5 dimensions: 1 to 4 are allowed".to_owned()),
        (vec![32, 0], "has a dimension of 0: [32, 0]".to_owned()),
        (vec![huge; 2], format!("of [{huge}, {huge}] has more bytes than 64 bits count")),
        (vec![33, 3], "has rows of 33 values, Q8_0 needs a multiple of 32".to_owned()),
    ] {
        assert_eq!(refused(|b| b.tensors[0].1 = dims), format!("tensor `{name}` {expected}"));
    }
    for (kind, expected) in [(16, "16 (IQ2_XXS)"), (999, "999 (unknown)")] {
        let expected = format!("tensor `{name}` has type {expected}, which is not supported");
        assert_eq!(refused(|b| b.tensors[0].2 = kind), expected);
    }
    for (index, name, offset, end) in [(0, name, 32, 0), (1, "output_norm.weight", 96, 128)] {
        let expected =
            format!("tensor `{name}` is at offset {offset}, the tensors before it end at {end}");
        assert_eq!(refused(|b| b.tensors[index].3 = offset), expected);
    }
    assert_eq!(
        refused(|b| b.tensors[1].0 = name.as_bytes().to_vec()),
        format!("tensor `{name}` stands twice in the file")
    );
}

#[test]
fn data_defects_are_named() {
    let error = refused(|b| b.tensors[1].1 = vec![1 << 31]);
    let expected = "tensor `output_norm.weight` needs 8589934592 bytes at offset";
    assert!(error.starts_with(expected), "{error}");
    let error = refused(|b| b.data_bytes += 64);
    assert!(error.starts_with("64 bytes follow the last tensor, which ends at "), "{error}");
    let mut padded = Builder::valid();
    padded.data_bytes = padded.data_bytes.next_multiple_of(32);
    assert!(File::from_bytes(padded.bytes()).is_ok());
}

#[test]
fn missing_keys_and_wrong_types_are_named() {
    let file = File::from_bytes(Builder::valid().bytes()).unwrap();
    let message = |error: Error| error.to_string();
    assert_eq!(file.required_u32("x").map_err(message).unwrap_err(), "metadata `x` is missing");
    assert_eq!(
        file.required_f32("llama.block_count").map_err(message).unwrap_err(),
        "metadata `llama.block_count` is uint32, float32 is needed"
    );
    assert_eq!(file.tensor("x").map_err(message).unwrap_err(), "tensor `x` is missing");
    assert_eq!(file.optional_str("x").unwrap(), None);
    let error = File::open(Path::new("no/such/file.gguf")).unwrap_err().to_string();
    assert!(error.starts_with("cannot open no/such/file.gguf: "), "{error}");
}

proptest! {
    #[test]
    fn mutated_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = Builder::valid().bytes();
        for (index, byte) in &changes {
            let index = index.index(bytes.len());
            bytes[index] = *byte;
        }
        if let Ok(file) = File::from_bytes(bytes) {
            for tensor in file.tensors() {
                prop_assert_eq!(file.bytes(tensor).len() as u64, tensor.size_bytes);
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = File::from_bytes([b"GGUF\x03\0\0\0".to_vec(), bytes].concat());
    }
}
