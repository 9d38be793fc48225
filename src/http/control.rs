//! The owner's way into a running service: a Unix socket beside the embedded database, which only this process can
//! write to. Whoever may open the database's file may command the service, nobody else.
//!
//! To add an operation: a route in [`control_router`], taking the command of a use case and answering with its answer.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::UnixListener;

use super::listener::serve_connection;
use crate::engine::{Engine, EngineError, TokenCommand};
use crate::lifecycle::{Role, Supervisor};

/// Where the socket of the database at `path` lies.
#[must_use]
pub fn control_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sock");
    PathBuf::from(name)
}

/// A bound socket, removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl ControlSocket {
    /// Binds the socket. The caller holds the lock of the database: what is there is left over from a process that
    /// has ended.
    ///
    /// # Errors
    /// When the folder cannot be written, or the path is too long for a socket.
    pub fn bind(path: PathBuf) -> std::io::Result<Self> {
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let owner = fs::metadata(&path)?.uid();
        Ok(Self { listener, path, owner })
    }

    /// Serves `router` until the supervisor stops.
    pub fn serve(self, supervisor: &Supervisor, router: Router) {
        let (stopping, tasks) = (supervisor.stopping().clone(), supervisor.clone());
        supervisor.spawn("control", Role::Helper, async move {
            loop {
                let stream = tokio::select! {
                    () = stopping.cancelled() => return Ok::<(), std::io::Error>(()),
                    accepted = self.listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => {
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            continue;
                        }
                    },
                };
                // Between bind and chmod somebody else could have connected.
                if !stream.peer_cred().is_ok_and(|peer| peer.uid() == self.owner || peer.uid() == 0) {
                    continue;
                }
                let (router, stopping) = (router.clone(), stopping.clone());
                drop(tasks.spawn_request("control", serve_connection(stream, router, stopping)));
            }
        });
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What can be commanded.
pub fn control_router(engine: Arc<Engine>) -> Router {
    Router::new().route("/token", post(token)).with_state(engine)
}

async fn token(State(engine): State<Arc<Engine>>, Json(command): Json<TokenCommand>) -> Response {
    match engine.token(command).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &EngineError) -> Response {
    let body = json!({ "error": { "code": error.code(), "message": error.to_string(), "advice": error.advice() } });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}
