//! Finds the service for other processes on this machine, and verifies that it belongs to the user.
//!
//! Any process may listen on a port, so a token is sent to an address only if the user named it (`MEMORY_URL`).
//! Otherwise requests go through a Unix socket of this user: its file and its directory must belong to this user or
//! root, which authenticates every connection.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::{Failure, UNAVAILABLE, http_client};
use crate::config::{Database, Settings, TrustError, User, without_secrets};
use crate::http::reachable_path;
use crate::store::sqlite;

/// Maximum wait for the answer of an unverified service.
const LONGEST_GREETING: Duration = Duration::from_millis(500);

/// A service to which the user's token may be sent.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The URL of requests.
    pub(super) url: String,
    /// The address for display, without secrets.
    pub(super) shown: String,
    pub(super) token: Option<String>,
    /// The Unix socket to connect to instead of the address.
    socket: Option<PathBuf>,
    /// Whether it is a `stdio` process, whose own token is in the lock file.
    serves_one_client: bool,
    /// Keeps the directory open through which a long path is reached.
    _directory: Option<Arc<File>>,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        (&self.url, &self.token, &self.socket) == (&other.url, &other.token, &other.socket)
    }
}

impl Endpoint {
    /// Creates an endpoint for an address that the user named, or for a listener of this process.
    pub(super) fn named(url: &str, token: Option<String>) -> Self {
        Self {
            url: url.to_owned(),
            shown: without_secrets(url),
            token,
            socket: None,
            serves_one_client: false,
            _directory: None,
        }
    }

    fn local(name: PathBuf, directory: Option<File>, shown: String, token: Option<String>) -> Self {
        let url = "http://localhost/mcp".to_owned();
        let _directory = directory.map(Arc::new);
        Self {
            url,
            shown,
            token,
            socket: Some(name),
            serves_one_client: false,
            _directory,
        }
    }

    /// Returns whether it is a Unix socket of this user rather than a network address.
    pub(super) fn is_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns whether it is a `stdio` process rather than the service, which listens on the port for every client with
    /// a token.
    pub(super) fn serves_one_client(&self) -> bool {
        self.serves_one_client
    }

    /// Returns a client for this endpoint alone. It follows no redirects, which could lead to any host.
    pub(super) fn client_builder(&self) -> reqwest::ClientBuilder {
        match &self.socket {
            Some(socket) => http_client::socket_client(socket),
            None => http_client::plain_client(),
        }
    }
}

/// The reason why there is no endpoint although a service seems to be running.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiscoveryError {
    /// The process that has the database open has no socket, at least at present.
    #[error(
        "process {pid} has the database {} open, but takes no requests at the socket {}. If it is being started or stopped, \
         try again. If it runs in a container, set MEMORY_URL to its address, such as http://127.0.0.1:8765/mcp; if it is \
         an earlier version, restart it",
        database.display(),
        socket.display()
    )]
    Silent {
        pid: String,
        database: PathBuf,
        socket: PathBuf,
    },
    /// The socket or lock file belongs to another user.
    #[error("{} is not trusted: {reason}. Remove it, or set MEMORY_URL to the address of your service", path.display())]
    Distrusted { path: PathBuf, reason: String },
    /// A token is set, and an unverified process listens at the address of the service.
    #[error(
        "a program answers at {address} but has not proven to be your memory service, so it was not sent your token. If it \
         is your service (in a container, or of another user), set MEMORY_URL={address}/mcp; otherwise remove MEMORY_TOKEN \
         to open the database directly"
    )]
    Unproven { address: String },
}

impl From<DiscoveryError> for Failure {
    fn from(error: DiscoveryError) -> Self {
        Self {
            code: UNAVAILABLE,
            error: error.into(),
        }
    }
}

/// Finds the service that `MEMORY_URL` names, or else the service of this user on this machine.
pub(super) async fn find_service(settings: &Settings) -> Result<Option<Endpoint>, DiscoveryError> {
    let own = settings
        .client
        .token
        .as_ref()
        .map(|token| token.expose_secret().to_owned());
    if let Some(url) = &settings.client.url {
        return Ok(Some(Endpoint::named(url, own)));
    }
    match &settings.database {
        Database::Sqlite { path } => find_owner(settings, path, own).await,
        Database::Postgres(_) => match find_socket(settings).await? {
            Some((name, directory, path)) => Ok(Some(Endpoint::local(
                name,
                directory,
                describe_socket(&path),
                own,
            ))),
            None if own.is_some() => refuse_stranger(settings).await.map(|()| None),
            None => Ok(None),
        },
    }
}

/// Finds the process that has the embedded database open.
async fn find_owner(
    settings: &Settings,
    database: &Path,
    own: Option<String>,
) -> Result<Option<Endpoint>, DiscoveryError> {
    let Some(owner) = sqlite::owner(database) else {
        return Ok(None);
    };
    // The process has not announced its address yet. Opening the database now would report that it is in use.
    let Some(announced) = owner.url.clone() else {
        return Ok(None);
    };
    let lock = sqlite::lock_path(database);
    check_owner(settings.user, &lock)?;
    // Another process may have taken over the database and the socket meanwhile, and need another token.
    let is_current = || sqlite::owner(database).as_ref() == Some(&owner);
    let Some((name, directory, _)) = find_socket(settings).await?.filter(|_| is_current()) else {
        let socket = socket_beside(database);
        return Err(DiscoveryError::Silent {
            pid: owner.pid,
            database: database.to_owned(),
            socket,
        });
    };
    Ok(Some(match announced.split_once('#') {
        // A `stdio` accepts every process that can read its lock file.
        Some((url, token)) => {
            let endpoint = Endpoint::local(name, directory, url.to_owned(), Some(token.to_owned()));
            Endpoint {
                serves_one_client: true,
                ..endpoint
            }
        }
        None => Endpoint::local(name, directory, announced, own),
    }))
}

fn describe_socket(socket: &Path) -> String {
    format!("the socket {}", socket.display())
}

fn check_owner(user: User, path: &Path) -> Result<(), DiscoveryError> {
    match user.examine(path) {
        Err(TrustError::Distrusted(reason)) => Err(DiscoveryError::Distrusted {
            path: path.to_owned(),
            reason,
        }),
        _ => Ok(()),
    }
}

/// Checks the owners of a socket and of its directory, who could replace it.
fn check_place(settings: &Settings, socket: &Path) -> Result<(), DiscoveryError> {
    check_owner(settings.user, socket)?;
    match socket
        .parent()
        .filter(|parent| settings.socket_dirs.iter().any(|ours| ours == parent))
    {
        Some(directory) => check_owner(settings.user, directory),
        None => Ok(()),
    }
}

/// Returns the first socket that accepts a connection, under a name to which a client can connect.
pub(super) async fn find_socket(
    settings: &Settings,
) -> Result<Option<(PathBuf, Option<File>, PathBuf)>, DiscoveryError> {
    for path in socket_paths(settings) {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if !metadata.file_type().is_socket() {
            continue;
        }
        check_place(settings, &path)?;
        let Ok((name, directory)) = reachable_path(&path) else {
            continue;
        };
        if tokio::net::UnixStream::connect(&name).await.is_ok() {
            return Ok(Some((name, directory, path)));
        }
    }
    Ok(None)
}

/// Fails if another process answers at the address of the service, and sends no token.
async fn refuse_stranger(settings: &Settings) -> Result<(), DiscoveryError> {
    let address = format!("http://{}", settings.http.local_address());
    let Ok(client) = http_client::plain_client()
        .timeout(LONGEST_GREETING)
        .build()
    else {
        return Ok(());
    };
    match client.get(format!("{address}/health/live")).send().await {
        Ok(_) => Err(DiscoveryError::Unproven { address }),
        Err(_) => Ok(()),
    }
}

// ---- where sockets are -----------------------------------------------------------------------------------------------

/// Formats the possible sockets of the service of this database for a message.
pub(super) fn shown_sockets(settings: &Settings) -> String {
    let shown: Vec<String> = socket_paths(settings)
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(" or ")
}

/// Returns the path of the socket of an embedded database.
fn socket_beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".control");
    PathBuf::from(name)
}

/// Returns the possible sockets of the service of this database, preferred one first. The embedded database has its
/// socket next to it if the file system supports sockets; otherwise a hash of the database is part of the name.
pub(super) fn socket_paths(settings: &Settings) -> Vec<PathBuf> {
    let (first, identity) = match &settings.database {
        Database::Sqlite { path } => (Some(socket_beside(path)), path.display().to_string()),
        Database::Postgres(postgres) => {
            let server = settings.database.server().unwrap_or_default();
            (
                None,
                format!("{server}/{} {}", postgres.name, postgres.user),
            )
        }
    };
    let digest: String = Sha256::digest(identity.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("{}-{digest}.sock", settings.database.backend());
    first
        .into_iter()
        .chain(
            settings
                .socket_dirs
                .iter()
                .map(|directory| directory.join(&name)),
        )
        .collect()
}

/// Creates the directory of a socket for this user alone, if it is missing.
///
/// # Errors
/// Fails if it cannot be created, or if others could replace its files.
pub(super) fn prepare_directory(settings: &Settings, socket: &Path) -> std::io::Result<()> {
    let Some(directory) = socket.parent() else {
        return Ok(());
    };
    let is_ours = settings.socket_dirs.iter().any(|ours| ours == directory);
    if is_ours && !directory.exists() {
        // Only the system creates the runtime directory of a session.
        let runtime = directory
            .parent()
            .filter(|parent| parent.starts_with("/run"));
        let recursive = runtime.is_none();
        DirBuilder::new()
            .recursive(recursive)
            .mode(0o700)
            .create(directory)?;
    }
    if is_ours {
        settings
            .user
            .examine(directory)
            .map_err(std::io::Error::other)?;
    }
    Ok(())
}
