//! Compact copies of a model's files.
//!
//! A file is copied in portions of at most [`PORTION`] bytes, so that a large model needs little memory. Numbers are rounded the
//! same way on every machine: a copy always has the same hash.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::f16;

use super::file::invalid_data;
use super::weights::{Entry, Header, METADATA, NumberType, SCALES, read_bytes};

/// Maximum number of bytes that are read at once.
const PORTION: u64 = 1 << 20;

/// The precision of a compact copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Word embeddings, which are half of a small model, have 16 bits instead of 32. Embeddings of texts then differ by less
    /// than 1e-4.
    Bits16,
    /// Word embeddings and the matrices of all layers have 8 bits and a scale per row. The cosine of an embedding to
    /// that of the original is about 0.999.
    Bits8,
}

/// How a tensor is stored in the copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    Unchanged,
    Half,
    ScaledBytes,
}

/// A tensor of the original.
struct Source<'a> {
    name: &'a str,
    entry: &'a Entry,
    storage: Storage,
}

/// Copies the weights in `from` to `to` with less precision. Norms, biases and positions are copied unchanged.
///
/// # Errors
/// Fails if `from` is not a safetensors file of the BERT family or has numbers that are not finite, or if `to` cannot be
/// written.
pub fn compact_weights(from: &Path, to: &Path, precision: Precision) -> io::Result<()> {
    let file = File::open(from)?;
    let header = Header::read_from(&file)?;
    let sources = plan_storage(&header, precision)?;
    let text = write_header(&header, &sources)?;
    let mut out = BufWriter::new(File::create(to)?);
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())?;
    for source in &sources {
        let copied = copy_tensor(&file, header.end, source, &mut out);
        copied.map_err(|error| {
            io::Error::new(error.kind(), format!("tensor {}: {error}", source.name))
        })?;
    }
    out.flush()
}

/// Chooses the storage of each tensor, in the order of the file.
fn plan_storage(header: &Header, precision: Precision) -> io::Result<Vec<Source<'_>>> {
    let words = header.find_words()?;
    let mut sources = Vec::new();
    for (name, entry) in &header.entries {
        let is_matrix = entry.shape.len() == 2 && name.ends_with(".weight");
        let storage = match (precision, NumberType::of_name(&entry.dtype)) {
            (_, None | Some(NumberType::I8)) => Storage::Unchanged,
            (Precision::Bits16, Some(NumberType::F32)) if name == words => Storage::Half,
            (Precision::Bits8, Some(_)) if name == words => Storage::ScaledBytes,
            (Precision::Bits8, Some(_)) if is_matrix && name.contains(".layer.") => {
                Storage::ScaledBytes
            }
            _ => Storage::Unchanged,
        };
        check_size(name, entry)?;
        sources.push(Source {
            name,
            entry,
            storage,
        });
    }
    sources.sort_by_key(|source| source.entry.data_offsets);
    Ok(sources)
}

fn check_size(name: &str, entry: &Entry) -> io::Result<()> {
    let (first, last) = entry.data_offsets;
    let length = last
        .checked_sub(first)
        .ok_or_else(|| invalid_data(format!("tensor {name} ends before it begins")))?;
    let Some(kind) = NumberType::of_name(&entry.dtype) else {
        return Ok(());
    };
    let bytes =
        (entry.shape.iter()).try_fold(kind.byte_size(), |bytes, side| bytes.checked_mul(*side));
    if bytes.map(|bytes| bytes as u64) != Some(length) {
        return Err(invalid_data(format!(
            "tensor {name} has {length} bytes, which do not fit its shape {:?}",
            entry.shape
        )));
    }
    Ok(())
}

/// Returns the JSON header of the copy, padded to a multiple of 8 bytes as the format requires.
fn write_header(header: &Header, sources: &[Source<'_>]) -> io::Result<String> {
    let mut entries = Vec::new();
    let mut end = 0;
    let mut add_entry = |name: &str, dtype: &str, shape: &[usize], length: u64| {
        let entry = serde_json::to_string(&Entry {
            dtype: dtype.to_owned(),
            shape: shape.to_vec(),
            data_offsets: (end, end + length),
        })?;
        entries.push(format!("{}:{entry}", serde_json::to_string(name)?));
        end += length;
        io::Result::Ok(())
    };
    for Source {
        name,
        entry,
        storage,
    } in sources
    {
        let (first, last) = entry.data_offsets;
        let length = last - first;
        match storage {
            Storage::Unchanged => add_entry(name, &entry.dtype, &entry.shape, length)?,
            Storage::Half => add_entry(name, "F16", &entry.shape, length / 2)?,
            Storage::ScaledBytes => {
                let rows = entry.shape[0];
                let number = NumberType::of_name(&entry.dtype).map_or(1, NumberType::byte_size);
                add_entry(name, "I8", &entry.shape, length / number as u64)?;
                add_entry(&format!("{name}{SCALES}"), "F32", &[rows], 4 * rows as u64)?;
            }
        }
    }
    if let Some(metadata) = &header.metadata {
        entries.push(format!("{METADATA:?}:{metadata}"));
    }
    let mut text = format!("{{{}}}", entries.join(","));
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    Ok(text)
}

fn copy_tensor(
    file: &File,
    data_start: u64,
    source: &Source<'_>,
    out: &mut impl Write,
) -> io::Result<()> {
    let (mut position, last) = source.entry.data_offsets;
    let row_bytes = match source.storage {
        Storage::ScaledBytes => (last - position) / source.entry.shape[0].max(1) as u64,
        _ => 4,
    };
    let portion = (PORTION / row_bytes.max(1)).max(1) * row_bytes.max(1);
    let mut scales = Vec::new();
    while position < last {
        let length = portion.min(last - position);
        let bytes = read_bytes(file, data_start + position, length)?;
        match source.storage {
            Storage::Unchanged => out.write_all(&bytes)?,
            Storage::Half => {
                for four in bytes.as_chunks().0 {
                    out.write_all(&f16::from_f32(f32::from_le_bytes(*four)).to_le_bytes())?;
                }
            }
            Storage::ScaledBytes => {
                for row in bytes.chunks(row_bytes as usize) {
                    scales.push(write_scaled_row(row, &source.entry.dtype, out)?);
                }
            }
        }
        position += length;
    }
    for scale in scales {
        out.write_all(&scale.to_le_bytes())?;
    }
    Ok(())
}

/// Writes a row with 8 bits per number and returns its scale: the largest number becomes 127.
fn write_scaled_row(row: &[u8], dtype: &str, out: &mut impl Write) -> io::Result<f32> {
    let mut numbers = Vec::new();
    if let Some(kind) = NumberType::of_name(dtype) {
        kind.decode_numbers(row, &mut numbers);
    }
    if !numbers.iter().all(|number| number.is_finite()) {
        return Err(invalid_data("has a number that is not finite"));
    }
    let largest = numbers
        .iter()
        .fold(0.0, |most: f32, number| most.max(number.abs()));
    let scale = largest / 127.0;
    let to_byte = |number: &f32| match scale > 0.0 {
        true => (number / scale).round() as i8,
        false => 0,
    };
    let bytes: Vec<u8> = numbers
        .iter()
        .map(|number| to_byte(number).cast_unsigned())
        .collect();
    out.write_all(&bytes)?;
    Ok(scale)
}

/// Copies a JSON file without the white space between its tokens, half of a published `tokenizer.json`.
///
/// # Errors
/// Fails if `from` is not JSON, or if `to` cannot be written.
pub fn compact_json(from: &Path, to: &Path) -> io::Result<()> {
    let text = std::fs::read(from)?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&text).map_err(invalid_data)?;
    let mut compact = Vec::with_capacity(text.len());
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in text {
        if in_string || !byte.is_ascii_whitespace() {
            compact.push(byte);
        }
        in_string ^= byte == b'"' && !is_escaped;
        is_escaped = in_string && byte == b'\\' && !is_escaped;
    }
    std::fs::write(to, compact)
}

#[cfg(test)]
mod tests {
    use super::super::weights::{WORDS, Weights};
    use super::*;

    /// Writes a file with tensors of 32-bit numbers.
    fn write_file(tensors: &[(&str, [usize; 2], Vec<f32>)]) -> tempfile::NamedTempFile {
        let mut entries = vec![r#""__metadata__":{"format":"pt"}"#.to_owned()];
        let mut data: Vec<u8> = Vec::new();
        for (name, shape, numbers) in tensors {
            let start = data.len();
            data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            entries.push(format!(
                r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
                data.len()
            ));
        }
        let header = format!("{{{}}}", entries.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.into_bytes());
        bytes.extend(data);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn make_numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|number| ((number * 7_919) % 2_001) as f32 / 1_000.0 - 1.0)
            .collect()
    }

    const MATRIX: &str = "encoder.layer.0.output.dense.weight";
    const POSITIONS: &str = "embeddings.position_embeddings.weight";

    #[test]
    fn a_copy_with_8_bits_has_nearly_the_same_numbers() {
        // More than a portion.
        let shape = [3_000, 200];
        let numbers = make_numbers(600_000);
        let file = write_file(&[
            (WORDS, shape, numbers.clone()),
            (MATRIX, [4, 3], make_numbers(12)),
            (POSITIONS, [2, 2], vec![0.1, 0.2, 0.3, 0.4]),
        ]);
        let copy = tempfile::NamedTempFile::new().unwrap();
        compact_weights(file.path(), copy.path(), Precision::Bits8).unwrap();
        assert!(copy.as_file().metadata().unwrap().len() < 620_000);
        let weights = Weights::open(copy.path())
            .unwrap()
            .with_prefix_of(WORDS)
            .unwrap();
        let read = weights.read_tensor(WORDS, &shape).unwrap();
        let farthest = numbers
            .iter()
            .zip(&read)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(farthest > 0.0 && farthest <= 0.5 / 127.0, "{farthest}");
        let rows = weights.find_rows(WORDS, shape[0], shape[1]).unwrap();
        let mut row = vec![7.0];
        weights.append_row(&rows, 2_999, &mut row).unwrap();
        assert_eq!(row[1..], read[read.len() - 200..]);
        assert_eq!(row[0], 7.0);
        assert_eq!(
            weights.read_tensor(POSITIONS, &[2, 2]).unwrap(),
            [0.1, 0.2, 0.3, 0.4]
        );
        assert_eq!(weights.read_tensor(MATRIX, &[4, 3]).unwrap().len(), 12);
    }

    #[test]
    fn a_compact_copy_is_copied_unchanged() {
        let file = write_file(&[
            (WORDS, [2, 3], make_numbers(6)),
            (MATRIX, [1, 3], vec![0.0; 3]),
        ]);
        let (once, twice) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        compact_weights(file.path(), once.path(), Precision::Bits8).unwrap();
        compact_weights(once.path(), twice.path(), Precision::Bits8).unwrap();
        assert_eq!(
            std::fs::read(once.path()).unwrap(),
            std::fs::read(twice.path()).unwrap()
        );
        let weights = Weights::open(twice.path()).unwrap();
        assert_eq!(weights.read_tensor(MATRIX, &[1, 3]).unwrap(), [0.0; 3]);
    }

    #[test]
    fn numbers_that_are_not_finite_and_wrong_sizes_are_refused() {
        let copy = tempfile::NamedTempFile::new().unwrap();
        let refuse = |tensors: &[_]| {
            let file = write_file(tensors);
            compact_weights(file.path(), copy.path(), Precision::Bits8)
                .unwrap_err()
                .to_string()
        };
        let error = refuse(&[(WORDS, [1, 2], vec![1.0, f32::NAN])]);
        assert!(
            error.contains(WORDS) && error.contains("not finite"),
            "{error}"
        );
        let error = refuse(&[(WORDS, [2, 2], vec![1.0])]);
        assert!(error.contains("do not fit its shape"), "{error}");
    }

    #[test]
    fn bytes_without_scales_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let header =
            format!(r#"{{"{WORDS}":{{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]}}}}"#);
        let bytes = [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            &[1; 4],
        ]
        .concat();
        std::fs::write(file.path(), bytes).unwrap();
        let weights = Weights::open(file.path()).unwrap();
        let error = weights.find_rows(WORDS, 2, 2).unwrap_err().to_string();
        assert!(error.contains("weight.scales"), "{error}");
    }

    #[test]
    fn white_space_within_strings_is_kept() {
        let (file, copy) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        let text = "{\n  \"a \\\" b\" : [ \" \\\\\" , 1.50, -2e-3 ],\t\"▁ c\\n\":{ } }\r\n";
        std::fs::write(file.path(), text).unwrap();
        compact_json(file.path(), copy.path()).unwrap();
        let compact = std::fs::read_to_string(copy.path()).unwrap();
        assert_eq!(
            compact,
            "{\"a \\\" b\":[\" \\\\\",1.50,-2e-3],\"▁ c\\n\":{}}"
        );
        std::fs::write(file.path(), "{").unwrap();
        assert!(compact_json(file.path(), copy.path()).is_err());
    }
}
