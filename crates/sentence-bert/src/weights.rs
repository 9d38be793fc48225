//! Safetensors files: the header is read once, then tensors or single rows by their position.
//!
//! The word embeddings are half of a small model, and a text needs few of their rows, so they stay in the file. The file is
//! read, never mapped, because truncating a mapped file would end the process.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::file::invalid_data;

/// Maximum size of a header in bytes; larger ones are refused.
const MAX_HEADER: u64 = 16 * 1024 * 1024;
/// The only entry of a header that is not a tensor.
const METADATA: &str = "__metadata__";
/// A tensor that every model of the family has, in some files with a prefix.
pub(crate) const WORDS: &str = "embeddings.word_embeddings.weight";

/// An open safetensors file.
#[derive(Debug)]
pub(crate) struct Weights {
    file: File,
    tensors: HashMap<String, TensorSpan>,
    /// Prefix of all names, `bert.` in some files.
    prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum NumberType {
    F32,
    F16,
    BF16,
}

impl NumberType {
    fn byte_size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

#[derive(Debug, Clone)]
struct TensorSpan {
    kind: NumberType,
    shape: Vec<usize>,
    start: u64,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The header of a file.
struct Header {
    metadata: Option<serde_json::Value>,
    entries: BTreeMap<String, Entry>,
    /// Position of the first number, to which the positions of entries are relative.
    end: u64,
}

impl Header {
    fn read_from(file: &File) -> io::Result<Self> {
        let no_header = |_| invalid_data("no safetensors file");
        let mut size = [0; 8];
        file.read_exact_at(&mut size, 0).map_err(no_header)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err(invalid_data("no safetensors file"));
        }
        let text = read_bytes(file, 8, size).map_err(no_header)?;
        let mut all: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(invalid_data)?;
        let metadata = all.remove(METADATA);
        let entry = |(name, entry)| Ok((name, serde_json::from_value(entry)?));
        let entries = all
            .into_iter()
            .map(entry)
            .collect::<serde_json::Result<_>>()
            .map_err(invalid_data)?;
        Ok(Self {
            metadata,
            entries,
            end: size + 8,
        })
    }

    /// Returns the name of the word embeddings.
    fn find_words(&self) -> io::Result<&String> {
        let names = self.entries.keys().filter(|name| name.ends_with(WORDS));
        names
            .min_by_key(|name| name.len())
            .ok_or_else(|| invalid_data(format!("there is no tensor {WORDS}")))
    }
}

/// Reads `length` bytes at a position of the file.
fn read_bytes(file: &File, position: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(invalid_data)?];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes)
}

/// The rows of a matrix, which stay in the file.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    span: TensorSpan,
    pub(crate) count: usize,
    width: usize,
}

impl Weights {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let header = Header::read_from(&file)?;
        let mut tensors = HashMap::new();
        for (name, entry) in header.entries {
            let kind = match entry.dtype.as_str() {
                "F32" => NumberType::F32,
                "F16" => NumberType::F16,
                "BF16" => NumberType::BF16,
                // For example, the position numbers in some files.
                _ => continue,
            };
            let (start, end) = entry.data_offsets;
            let bytes = entry
                .shape
                .iter()
                .try_fold(kind.byte_size(), |bytes, side| bytes.checked_mul(*side));
            if end.checked_sub(start) != bytes.map(|bytes| bytes as u64)
                || length.checked_sub(header.end).is_none_or(|data| end > data)
            {
                return Err(invalid_data(format!(
                    "tensor {name} extends beyond the end of the file"
                )));
            }
            tensors.insert(
                name,
                TensorSpan {
                    kind,
                    shape: entry.shape,
                    start: header.end + start,
                },
            );
        }
        Ok(Self {
            file,
            tensors,
            prefix: String::new(),
        })
    }

    /// Applies the prefix of the tensor whose name ends with `anchor` to all names.
    pub(crate) fn with_prefix_of(mut self, anchor: &str) -> io::Result<Self> {
        let prefixes = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_suffix(anchor));
        let shortest = prefixes.min_by_key(|prefix| prefix.len());
        let missing = || {
            invalid_data(format!(
                "not a model of the BERT family: the tensor {anchor} is missing"
            ))
        };
        self.prefix = shortest.ok_or_else(missing)?.to_owned();
        Ok(self)
    }

    fn find_span(&self, name: &str, shape: &[usize]) -> io::Result<&TensorSpan> {
        let named = |name: &str| self.tensors.get(&format!("{}{name}", self.prefix));
        // Old files use TensorFlow's names for the parts of a normalization.
        let old = || match name.rsplit_once('.')? {
            (norm, "weight") => named(&format!("{norm}.gamma")),
            (norm, "bias") => named(&format!("{norm}.beta")),
            _ => None,
        };
        let span = named(name)
            .or_else(old)
            .ok_or_else(|| invalid_data(format!("there is no tensor {name}")))?;
        if span.shape != shape {
            let found = &span.shape;
            return Err(invalid_data(format!(
                "tensor {name} is {found:?}, the configuration says {shape:?}"
            )));
        }
        Ok(span)
    }

    /// Reads a whole tensor.
    pub(crate) fn read_tensor(&self, name: &str, shape: &[usize]) -> io::Result<Vec<f32>> {
        let span = self.find_span(name, shape)?;
        let mut numbers = Vec::new();
        self.read_numbers(span, 0, shape.iter().product(), &mut numbers)?;
        Ok(numbers)
    }

    /// Locates the rows of a matrix.
    pub(crate) fn find_rows(&self, name: &str, count: usize, width: usize) -> io::Result<Rows> {
        Ok(Rows {
            span: self.find_span(name, &[count, width])?.clone(),
            count,
            width,
        })
    }

    /// Appends one row to `to`.
    pub(crate) fn append_row(
        &self,
        rows: &Rows,
        index: usize,
        to: &mut Vec<f32>,
    ) -> io::Result<()> {
        self.read_numbers(&rows.span, index * rows.width, rows.width, to)
    }

    fn read_numbers(
        &self,
        span: &TensorSpan,
        first: usize,
        count: usize,
        to: &mut Vec<f32>,
    ) -> io::Result<()> {
        let size = span.kind.byte_size();
        let bytes = read_bytes(
            &self.file,
            span.start + (first * size) as u64,
            (count * size) as u64,
        )?;
        match span.kind {
            NumberType::F32 => to.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|four| f32::from_le_bytes(*four)),
            ),
            NumberType::F16 => to.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|two| f16::from_le_bytes(*two).to_f32()),
            ),
            NumberType::BF16 => to.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|two| bf16::from_le_bytes(*two).to_f32()),
            ),
        }
        Ok(())
    }
}

/// Copies the weights in `from` to `to`, and stores the word embeddings, which are half of a small model, with 16
/// instead of 32 bits. Embeddings then differ by less than 1e-4. Everything else is copied unchanged.
///
/// # Errors
/// Fails if `from` is not a safetensors file of the BERT family, or if `to` cannot be written.
pub fn compact_weights(from: &Path, to: &Path) -> io::Result<()> {
    let file = File::open(from)?;
    let header = Header::read_from(&file)?;
    let words = header.find_words()?;
    let mut tensors: Vec<(&String, &Entry)> = header.entries.iter().collect();
    tensors.sort_by_key(|(_, entry)| entry.data_offsets);
    let text = write_compact_header(&header, &tensors, words)?;
    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    for (name, entry) in tensors {
        let (first, last) = entry.data_offsets;
        let bytes = read_bytes(&file, header.end + first, last - first)?;
        if name == words && entry.dtype == "F32" {
            for four in bytes.as_chunks().0 {
                out.write_all(&f16::from_f32(f32::from_le_bytes(*four)).to_le_bytes())?;
            }
        } else {
            out.write_all(&bytes)?;
        }
    }
    out.flush()
}

/// Returns the JSON header of a compact copy, padded to a multiple of 8 bytes as the format requires.
fn write_compact_header(
    header: &Header,
    tensors: &[(&String, &Entry)],
    words: &String,
) -> io::Result<String> {
    let mut entries = Vec::new();
    let mut end = 0;
    for (name, entry) in tensors {
        let (first, last) = entry.data_offsets;
        let mut length = last
            .checked_sub(first)
            .ok_or_else(|| invalid_data(format!("tensor {name} ends before it begins")))?;
        let mut dtype = entry.dtype.as_str();
        if *name == words && dtype == "F32" {
            (dtype, length) = ("F16", length / 2);
        }
        let entry = serde_json::to_string(&Entry {
            dtype: dtype.to_owned(),
            shape: entry.shape.clone(),
            data_offsets: (end, end + length),
        })?;
        entries.push(format!("{}:{entry}", serde_json::to_string(name)?));
        end += length;
    }
    if let Some(metadata) = &header.metadata {
        entries.push(format!("{METADATA:?}:{metadata}"));
    }
    let mut text = format!("{{{}}}", entries.join(","));
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn tensors_and_rows_are_read() {
        let header = r#"{"__metadata__":{"format":"pt"},"bert.embeddings.word_embeddings.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
        let data: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let file = file(header, &data);
        let name = "embeddings.word_embeddings.weight";
        let weights = Weights::open(file.path())
            .unwrap()
            .with_prefix_of(name)
            .unwrap();
        assert_eq!(
            weights.read_tensor(name, &[2, 2]).unwrap(),
            [1.0, 2.0, 3.0, 4.0]
        );
        let rows = weights.find_rows(name, 2, 2).unwrap();
        let mut row = Vec::new();
        weights.append_row(&rows, 1, &mut row).unwrap();
        assert_eq!(row, [3.0, 4.0]);
        assert!(weights.read_tensor(name, &[4]).is_err());
        assert!(weights.read_tensor("pooler", &[4]).is_err());
    }

    #[test]
    fn damaged_files_are_refused() {
        let outside = r#"{"embeddings.word_embeddings.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
        let wrong = r#"{"embeddings.word_embeddings.weight":{"dtype":"F32","shape":[9,9],"data_offsets":[0,16]}}"#;
        for (header, data) in [("no json", 0), (outside, 15), (wrong, 16)] {
            assert!(
                Weights::open(file(header, &vec![0; data]).path()).is_err(),
                "{header}"
            );
        }
        assert!(
            Weights::open(file("{}", &[]).path())
                .unwrap()
                .with_prefix_of("weight")
                .is_err()
        );
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(Weights::open(empty.path()).is_err());
    }
}
