//! A safetensors file: the header once, then each tensor, or single rows of one, by their position in the file.
//!
//! The word embeddings are half of a small model, and a text needs some dozen rows of them: these stay in the file. The
//! file is read, never mapped: truncating a mapped file would end the process.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// A larger header is no header.
const MAX_HEADER: u64 = 16 * 1024 * 1024;
/// The one entry of a header that is no tensor.
const METADATA: &str = "__metadata__";
/// What every model of the family has, in some files behind a prefix.
pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";

/// An open safetensors file.
#[derive(Debug)]
pub(super) struct Weights {
    file: File,
    tensors: HashMap<String, Place>,
    /// What stands before the names, `bert.` in some files.
    prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Type {
    F32,
    F16,
    BF16,
}

impl Type {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

#[derive(Debug, Clone)]
struct Place {
    kind: Type,
    shape: Vec<usize>,
    start: u64,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// What a file begins with.
struct Header {
    metadata: Option<serde_json::Value>,
    entries: BTreeMap<String, Entry>,
    /// Where the numbers begin, from which entries count.
    end: u64,
}

impl Header {
    fn read(file: &File) -> io::Result<Self> {
        let no_header = |_| damaged("no safetensors file");
        let mut size = [0; 8];
        file.read_exact_at(&mut size, 0).map_err(no_header)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER {
            return Err(damaged("no safetensors file"));
        }
        let text = read_bytes(file, 8, size).map_err(no_header)?;
        let mut all: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&text).map_err(damaged)?;
        let metadata = all.remove(METADATA);
        let entry = |(name, entry)| Ok((name, serde_json::from_value(entry)?));
        let entries = all
            .into_iter()
            .map(entry)
            .collect::<serde_json::Result<_>>()
            .map_err(damaged)?;
        Ok(Self {
            metadata,
            entries,
            end: size + 8,
        })
    }
}

/// Reads `length` bytes at a position of the file.
fn read_bytes(file: &File, position: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(damaged)?];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes)
}

/// Rows of a matrix, read when they are needed.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    place: Place,
    pub(super) count: usize,
    width: usize,
}

fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

impl Weights {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let header = Header::read(&file)?;
        let mut tensors = HashMap::new();
        for (name, entry) in header.entries {
            let kind = match entry.dtype.as_str() {
                "F32" => Type::F32,
                "F16" => Type::F16,
                "BF16" => Type::BF16,
                // Such as the position numbers that some files carry.
                _ => continue,
            };
            let (start, end) = entry.data_offsets;
            let bytes = entry
                .shape
                .iter()
                .try_fold(kind.size(), |bytes, side| bytes.checked_mul(*side));
            if end.checked_sub(start) != bytes.map(|bytes| bytes as u64)
                || length.checked_sub(header.end).is_none_or(|data| end > data)
            {
                return Err(damaged(format!(
                    "tensor {name} extends beyond the end of the file"
                )));
            }
            tensors.insert(
                name,
                Place {
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

    /// Names are from here on those behind whatever stands before `anchor`.
    pub(super) fn behind_prefix_of(mut self, anchor: &str) -> io::Result<Self> {
        let prefixes = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_suffix(anchor));
        let shortest = prefixes.min_by_key(|prefix| prefix.len());
        let missing = || {
            damaged(format!(
                "no model of the BERT family: there is no tensor {anchor}"
            ))
        };
        self.prefix = shortest.ok_or_else(missing)?.to_owned();
        Ok(self)
    }

    fn place(&self, name: &str, shape: &[usize]) -> io::Result<&Place> {
        let named = |name: &str| self.tensors.get(&format!("{}{name}", self.prefix));
        // Old files have TensorFlow's names for the parts of a normalisation.
        let old = || match name.rsplit_once('.')? {
            (norm, "weight") => named(&format!("{norm}.gamma")),
            (norm, "bias") => named(&format!("{norm}.beta")),
            _ => None,
        };
        let place = named(name)
            .or_else(old)
            .ok_or_else(|| damaged(format!("there is no tensor {name}")))?;
        if place.shape != shape {
            let found = &place.shape;
            return Err(damaged(format!(
                "tensor {name} is {found:?}, the configuration says {shape:?}"
            )));
        }
        Ok(place)
    }

    /// A whole tensor.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> io::Result<Vec<f32>> {
        let place = self.place(name, shape)?;
        let mut numbers = Vec::new();
        self.read(place, 0, shape.iter().product(), &mut numbers)?;
        Ok(numbers)
    }

    /// The rows of a matrix, which stay in the file.
    pub(super) fn rows(&self, name: &str, count: usize, width: usize) -> io::Result<Rows> {
        Ok(Rows {
            place: self.place(name, &[count, width])?.clone(),
            count,
            width,
        })
    }

    /// Appends one row to `to`.
    pub(super) fn row(&self, rows: &Rows, index: usize, to: &mut Vec<f32>) -> io::Result<()> {
        self.read(&rows.place, index * rows.width, rows.width, to)
    }

    fn read(&self, place: &Place, first: usize, count: usize, to: &mut Vec<f32>) -> io::Result<()> {
        let size = place.kind.size();
        let bytes = read_bytes(
            &self.file,
            place.start + (first * size) as u64,
            (count * size) as u64,
        )?;
        match place.kind {
            Type::F32 => to.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|four| f32::from_le_bytes(*four)),
            ),
            Type::F16 => to.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|two| f16::from_le_bytes(*two).to_f32()),
            ),
            Type::BF16 => to.extend(
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

/// Writes the file `from` to `to` with the word embeddings in 16-bit numbers instead of 32: these are half of a small
/// model, and what is lost of them comes back as some 1e-5 of a vector's numbers. Everything else is as it was, as are word
/// embeddings that have 16 bits already.
pub(super) fn compact(from: &Path, to: &Path) -> io::Result<()> {
    let file = File::open(from)?;
    let header = Header::read(&file)?;
    let names = header.entries.keys().filter(|name| name.ends_with(WORDS));
    let words = names
        .min_by_key(|name| name.len())
        .ok_or_else(|| damaged(format!("there is no tensor {WORDS}")))?;
    let mut tensors: Vec<(&String, &Entry)> = header.entries.iter().collect();
    tensors.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut text = Vec::new();
    let mut end = 0;
    for (
        name,
        Entry {
            dtype,
            shape,
            data_offsets: (first, last),
        },
    ) in &tensors
    {
        let length = last
            .checked_sub(*first)
            .ok_or_else(|| damaged(format!("tensor {name} ends before it begins")))?;
        let halved = *name == words && dtype == "F32";
        let (dtype, length) = if halved {
            ("F16", length / 2)
        } else {
            (dtype.as_str(), length)
        };
        let entry = Entry {
            dtype: dtype.to_owned(),
            shape: shape.clone(),
            data_offsets: (end, end + length),
        };
        text.push(format!(
            "{}:{}",
            serde_json::to_string(name)?,
            serde_json::to_string(&entry)?
        ));
        end += length;
    }
    text.extend(
        header
            .metadata
            .iter()
            .map(|metadata| format!("{METADATA:?}:{metadata}")),
    );
    let mut text = format!("{{{}}}", text.join(","));
    // The format's numbers begin at a multiple of 8.
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    for (
        name,
        Entry {
            dtype,
            data_offsets: (first, last),
            ..
        },
    ) in tensors
    {
        let bytes = read_bytes(&file, header.end + first, last - first)?;
        if name == words && dtype == "F32" {
            for four in bytes.as_chunks().0 {
                out.write_all(&f16::from_f32(f32::from_le_bytes(*four)).to_le_bytes())?;
            }
        } else {
            out.write_all(&bytes)?;
        }
    }
    out.flush()
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
            .behind_prefix_of(name)
            .unwrap();
        assert_eq!(weights.tensor(name, &[2, 2]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        let rows = weights.rows(name, 2, 2).unwrap();
        let mut row = Vec::new();
        weights.row(&rows, 1, &mut row).unwrap();
        assert_eq!(row, [3.0, 4.0]);
        assert!(weights.tensor(name, &[4]).is_err());
        assert!(weights.tensor("pooler", &[4]).is_err());
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
                .behind_prefix_of("weight")
                .is_err()
        );
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(Weights::open(empty.path()).is_err());
    }
}
