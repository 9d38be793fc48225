//! Safetensors files: the header is read once, then tensors or single rows by their position.
//!
//! The word embeddings are half of a small model, and a text needs few of their rows, so they stay in the file. The file is
//! read, never mapped, because truncating a mapped file would end the process.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::file::invalid_data;

/// End of the name of the tensor with the scales of a matrix of 8-bit numbers: one 32-bit number per row.
pub(crate) const SCALES: &str = ".scales";
/// Maximum size of a header in bytes; larger ones are refused.
const MAX_HEADER: u64 = 16 * 1024 * 1024;
/// The only entry of a header that is not a tensor.
pub(crate) const METADATA: &str = "__metadata__";
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberType {
    F32,
    F16,
    BF16,
    /// Multiplied by the scale of its row.
    I8,
}

impl NumberType {
    /// Returns the type of this name. Other types, for example of position numbers, are not read.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::BF16),
            "I8" => Some(Self::I8),
            _ => None,
        }
    }

    pub(crate) fn byte_size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::I8 => 1,
        }
    }

    /// Appends the numbers in `bytes` to `to`, without their scales.
    pub(crate) fn decode_numbers(self, bytes: &[u8], to: &mut Vec<f32>) {
        let (fours, twos) = (bytes.as_chunks().0, bytes.as_chunks().0);
        match self {
            Self::F32 => to.extend(fours.iter().map(|four| f32::from_le_bytes(*four))),
            Self::F16 => to.extend(twos.iter().map(|two| f16::from_le_bytes(*two).to_f32())),
            Self::BF16 => to.extend(twos.iter().map(|two| bf16::from_le_bytes(*two).to_f32())),
            Self::I8 => to.extend(bytes.iter().map(|byte| f32::from(byte.cast_signed()))),
        }
    }
}

#[derive(Debug, Clone)]
struct TensorSpan {
    kind: NumberType,
    shape: Vec<usize>,
    start: u64,
}

/// A tensor in the header of a file.
#[derive(Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) data_offsets: (u64, u64),
}

/// The header of a file.
pub(crate) struct Header {
    pub(crate) metadata: Option<serde_json::Value>,
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Position of the first number, to which the positions of entries are relative.
    pub(crate) end: u64,
}

impl Header {
    pub(crate) fn read_from(file: &File) -> io::Result<Self> {
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
    pub(crate) fn find_words(&self) -> io::Result<&String> {
        let names = self.entries.keys().filter(|name| name.ends_with(WORDS));
        names
            .min_by_key(|name| name.len())
            .ok_or_else(|| invalid_data(format!("there is no tensor {WORDS}")))
    }
}

/// Reads `length` bytes at a position of the file.
pub(crate) fn read_bytes(file: &File, position: u64, length: u64) -> io::Result<Vec<u8>> {
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
    /// Scale of each row, if the numbers have 8 bits.
    scales: Option<Vec<f32>>,
}

impl Weights {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let header = Header::read_from(&file)?;
        let mut tensors = HashMap::new();
        for (name, entry) in header.entries {
            let Some(kind) = NumberType::of_name(&entry.dtype) else {
                continue;
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
        if let Some(scales) = self.read_scales(name, span)? {
            let width = numbers.len() / scales.len().max(1);
            for (row, scale) in numbers.chunks_mut(width.max(1)).zip(scales) {
                multiply_row(row, scale);
            }
        }
        Ok(numbers)
    }

    /// Reads the scale of each row of a tensor with 8-bit numbers. Other tensors have none.
    fn read_scales(&self, name: &str, span: &TensorSpan) -> io::Result<Option<Vec<f32>>> {
        if span.kind != NumberType::I8 {
            return Ok(None);
        }
        let rows = span.shape.first().copied().unwrap_or(1);
        let of_scales = self.find_span(&format!("{name}{SCALES}"), &[rows])?;
        if of_scales.kind != NumberType::F32 {
            return Err(invalid_data(format!(
                "tensor {name}{SCALES}: expected numbers of type F32"
            )));
        }
        let mut scales = Vec::with_capacity(rows);
        self.read_numbers(of_scales, 0, rows, &mut scales)?;
        Ok(Some(scales))
    }

    /// Locates the rows of a matrix.
    pub(crate) fn find_rows(&self, name: &str, count: usize, width: usize) -> io::Result<Rows> {
        let span = self.find_span(name, &[count, width])?;
        Ok(Rows {
            scales: self.read_scales(name, span)?,
            span: span.clone(),
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
        let start = to.len();
        self.read_numbers(&rows.span, index * rows.width, rows.width, to)?;
        if let Some(scales) = &rows.scales {
            multiply_row(&mut to[start..], scales[index]);
        }
        Ok(())
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
        span.kind.decode_numbers(&bytes, to);
        Ok(())
    }
}

fn multiply_row(row: &mut [f32], scale: f32) {
    row.iter_mut().for_each(|number| *number *= scale);
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
