//! A socket in the file system for the owner's own commands. Nothing that comes over the network reaches it: it has a
//! router of its own, its file is for this user alone, and who connects must be this user or root.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;

use super::listener::serve_connection;
use crate::lifecycle::{Role, Supervisor};

/// Longest path that the kernel takes as the name of a socket.
const LONGEST_NAME: usize = 100;

/// A bound control socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Owner of the file, and so of this process.
    uid: u32,
}

/// A path that the kernel takes as the name of a socket, however long `path` is, as long as the file is kept open.
///
/// # Errors
/// When its folder cannot be opened.
pub fn reachable_path(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if path.as_os_str().len() <= LONGEST_NAME {
        return Ok((path.to_owned(), None));
    }
    let folder = File::open(folder)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name), Some(folder)))
}

impl ControlSocket {
    /// Binds the socket. Whoever calls this owns the database beside it: a file that is there is left over.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (name, _folder) = reachable_path(path)?;
        let listener = UnixListener::bind(name)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let uid = fs::symlink_metadata(path)?.uid();
        Ok(Self { listener, path: path.to_owned(), uid })
    }

    /// Serves `router` until the supervisor stops.
    pub fn serve(self, supervisor: &Supervisor, router: Router) {
        let service = TowerToHyperService::new(router);
        let (stopping, tasks) = (supervisor.stopping().clone(), supervisor.clone());
        supervisor.spawn("control socket", Role::Helper, async move {
            loop {
                let accepted = tokio::select! {
                    () = stopping.cancelled() => return Ok::<(), io::Error>(()),
                    accepted = self.listener.accept() => accepted,
                };
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "a command was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                // The file's mode says it already; between its making and its mode there was a moment.
                let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == self.uid || peer.uid() == 0);
                if !allowed {
                    tracing::warn!("a command of another user was refused");
                    continue;
                }
                let (service, stopping) = (service.clone(), stopping.clone());
                drop(tasks.spawn_request("command", serve_connection(stream, service, stopping)));
            }
        });
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start does it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn a_socket_of_any_length_is_reached_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a-folder-with-a-rather-long-name".repeat(6));
        fs::create_dir(&deep).unwrap();
        for path in [folder.path().join("short"), deep.join("memory.db.control")] {
            fs::write(&path, "left over").unwrap();
            let socket = ControlSocket::bind(&path).unwrap();
            let (supervisor, name) = (Supervisor::new(), path.clone());
            socket.serve(&supervisor, Router::new());
            let answer = tokio::task::spawn_blocking(move || {
                let (name, _folder) = reachable_path(&name).unwrap();
                let mut stream = std::os::unix::net::UnixStream::connect(name).unwrap();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            });
            assert!(answer.await.unwrap().contains("404"));
            supervisor.stop(crate::lifecycle::ExitReason::Finished);
            let gone = async {
                while path.exists() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the file goes with the socket");
        }
    }
}
