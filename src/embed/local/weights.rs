//! Reading a safetensors file: the header once, then each tensor, or single rows of one, by their place in the file.
//!
//! The word embeddings are half of a small model, and a text needs some dozen rows of them: reading those from the
//! file, which the system keeps in its cache, costs less than a tenth of a millisecond and no memory of ours. This is
//! what a memory map would do, without code that the compiler cannot check.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;

/// A larger header is no header.
const MAX_HEADER: u64 = 16 * 1024 * 1024;

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

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
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
        let mut size = [0; 8];
        file.read_exact_at(&mut size, 0)?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER || size + 8 > length {
            return Err(damaged("no safetensors file"));
        }
        let mut header = vec![0; usize::try_from(size).map_err(damaged)?];
        file.read_exact_at(&mut header, 8)?;
        let mut entries: HashMap<String, serde_json::Value> = serde_json::from_slice(&header).map_err(damaged)?;
        entries.remove("__metadata__");
        let mut tensors = HashMap::new();
        for (name, entry) in entries {
            let entry: Entry = serde_json::from_value(entry).map_err(damaged)?;
            let kind = match entry.dtype.as_str() {
                "F32" => Type::F32,
                "F16" => Type::F16,
                "BF16" => Type::BF16,
                // Such as the position numbers that some files carry.
                _ => continue,
            };
            let (start, end) = entry.data_offsets;
            let bytes = entry.shape.iter().try_fold(kind.size(), |bytes, side| bytes.checked_mul(*side));
            if end.checked_sub(start) != bytes.map(|bytes| bytes as u64) || size + 8 + end > length {
                return Err(damaged(format!("tensor {name} does not lie inside of the file")));
            }
            tensors.insert(name, Place { kind, shape: entry.shape, start: size + 8 + start });
        }
        Ok(Self { file, tensors, prefix: String::new() })
    }

    /// Names are from here on those behind whatever stands before `anchor`.
    pub(super) fn behind_prefix_of(mut self, anchor: &str) -> io::Result<Self> {
        let prefixes = self.tensors.keys().filter_map(|name| name.strip_suffix(anchor));
        let shortest = prefixes.min_by_key(|prefix| prefix.len());
        let missing = || damaged(format!("no model of the BERT family: there is no tensor {anchor}"));
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
        let place = named(name).or_else(old).ok_or_else(|| damaged(format!("there is no tensor {name}")))?;
        if place.shape != shape {
            let found = &place.shape;
            return Err(damaged(format!("tensor {name} is {found:?}, the configuration says {shape:?}")));
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
        Ok(Rows { place: self.place(name, &[count, width])?.clone(), count, width })
    }

    /// Appends one row to `to`.
    pub(super) fn row(&self, rows: &Rows, index: usize, to: &mut Vec<f32>) -> io::Result<()> {
        self.read(&rows.place, index * rows.width, rows.width, to)
    }

    fn read(&self, place: &Place, first: usize, count: usize, to: &mut Vec<f32>) -> io::Result<()> {
        const PORTION: usize = 64 * 1024;
        let size = place.kind.size();
        let mut bytes = vec![0; count.min(PORTION) * size];
        to.reserve(count);
        let mut done = 0;
        while done < count {
            let portion = &mut bytes[..(count - done).min(PORTION) * size];
            self.file.read_exact_at(portion, place.start + ((first + done) * size) as u64)?;
            match place.kind {
                Type::F32 => to.extend(portion.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four))),
                Type::F16 => to.extend(portion.as_chunks::<2>().0.iter().map(|two| half(u16::from_le_bytes(*two)))),
                Type::BF16 => to.extend(
                    portion
                        .as_chunks::<2>()
                        .0
                        .iter()
                        .map(|two| f32::from_bits(u32::from(u16::from_le_bytes(*two)) << 16)),
                ),
            }
            done += portion.len() / size;
        }
        Ok(())
    }
}

/// An IEEE number of 16 bits.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2.0_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_numbers() {
        let known = [(0x0000, 0.0), (0x3c00, 1.0), (0xc000, -2.0), (0x3555, 0.333_251_95), (0x0001, 5.960_464_5e-8)];
        for (bits, number) in known {
            assert_eq!(half(bits), number);
        }
        assert!(half(0x7e00).is_nan() && half(0x7c00).is_infinite());
    }

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
        let data: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let file = file(header, &data);
        let name = "embeddings.word_embeddings.weight";
        let weights = Weights::open(file.path()).unwrap().behind_prefix_of(name).unwrap();
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
            assert!(Weights::open(file(header, &vec![0; data]).path()).is_err(), "{header}");
        }
        assert!(Weights::open(file("{}", &[]).path()).unwrap().behind_prefix_of("weight").is_err());
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(Weights::open(empty.path()).is_err());
    }
}
