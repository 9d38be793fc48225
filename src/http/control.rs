//! A socket in the file system for commands of the owner. Network requests cannot reach it: it has its own router,
//! only this user can access its file, and the peer must be this user or root.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};

use super::connection::serve_connection;
use crate::lifecycle::{Role, Supervisor};

/// Maximum length of a path that the kernel accepts as the name of a socket.
const LONGEST_NAME: usize = 100;

/// A bound control socket. Its file is removed with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Owner of the file, and so of this process.
    uid: u32,
    /// Identity of the file.
    file: (u64, u64),
}

/// Returns a path of any length in a form that the kernel accepts for a socket, while the file is kept open.
///
/// # Errors
/// Fails if its folder cannot be opened.
pub fn reachable_path(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if path.as_os_str().len() <= LONGEST_NAME {
        return Ok((path.to_owned(), None));
    }
    let folder = File::open(folder)?;
    Ok((
        PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name),
        Some(folder),
    ))
}

impl ControlSocket {
    /// Binds the socket. An existing socket without a listener is replaced; any other file is kept.
    ///
    /// # Errors
    /// Fails if the file cannot be created, or another file exists.
    pub async fn bind(path: &Path) -> io::Result<Self> {
        let (name, _folder) = reachable_path(path)?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let reason = "a file with this name exists, but it is not a socket: move it away";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
            }
            Ok(_) => match UnixStream::connect(&name).await {
                // Its process ended without removing the socket.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path)?
                }
                _ => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "another process answers there",
                    ));
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(name)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let made = fs::symlink_metadata(path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            uid: made.uid(),
            file: (made.dev(), made.ino()),
        })
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
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a command was not accepted"
                        );
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                // Between the creation of the file and the change of its mode, other users could connect.
                let allowed = stream
                    .peer_cred()
                    .is_ok_and(|peer| peer.uid() == self.uid || peer.uid() == 0);
                if !allowed {
                    tracing::warn!("a command of another user was refused");
                    continue;
                }
                let (service, stopping) = (service.clone(), stopping.clone());
                drop(tasks.spawn_request(
                    "command",
                    serve_connection(stream, service, stopping, None, None),
                ));
            }
        });
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The file may have been replaced. If it cannot be removed, the next start removes it.
        if fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.file)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn a_socket_of_any_length_is_reached_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder
            .path()
            .join("a-folder-with-a-rather-long-name".repeat(6));
        fs::create_dir(&deep).unwrap();
        for path in [folder.path().join("short"), deep.join("memory.db.control")] {
            let (name, _folder) = reachable_path(&path).unwrap();
            drop(std::os::unix::net::UnixListener::bind(name).unwrap());
            assert!(path.exists(), "left over");
            let socket = ControlSocket::bind(&path).await.unwrap();
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
            tokio::time::timeout(Duration::from_secs(10), gone)
                .await
                .expect("the file goes with the socket");
        }
    }

    #[tokio::test]
    async fn what_is_no_left_over_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db.control");
        fs::write(&path, "somebody's notes").unwrap();
        assert_eq!(
            ControlSocket::bind(&path).await.unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's notes");
        fs::remove_file(&path).unwrap();
        let first = ControlSocket::bind(&path).await.unwrap();
        assert_eq!(
            ControlSocket::bind(&path).await.unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        // Another file in its place is not removed.
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let second = ControlSocket::bind(&path).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
