//! Accepts connections and serves them under the supervisor, so that a drain knows of each of them.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Role, Supervisor};

/// Connections at once; further ones wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may take to send the head of a request, and be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A loop that has not come round for so long is stuck.
const MAX_AGE: Duration = Duration::from_secs(30);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await? })
    }

    /// Where clients find it.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves `router` until the supervisor stops, then lets running requests end.
    pub fn serve(self, supervisor: &Supervisor, router: Router) {
        let heartbeat = supervisor.heartbeat("listener", Role::Essential, MAX_AGE);
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let service = TowerToHyperService::new(router);
        let (stopping, tasks) = (supervisor.stopping().clone(), supervisor.clone());
        supervisor.spawn("listener", Role::Essential, async move {
            loop {
                heartbeat.beat();
                let place = heartbeat.idle(Arc::clone(&connections).acquire_owned()).await?;
                let accepted = tokio::select! {
                    () = stopping.cancelled() => return Ok::<(), tokio::sync::AcquireError>(()),
                    accepted = heartbeat.idle(self.socket.accept()) => accepted,
                };
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, or a peer that left: neither is a reason to stop, nor to spin.
                        tracing::warn!(error = &error as &dyn std::error::Error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (service, stopping) = (service.clone(), stopping.clone());
                drop(tasks.spawn_request("connection", async move {
                    serve_connection(stream, service, stopping).await;
                    drop(place);
                }));
            }
        });
    }
}

async fn serve_connection(stream: TcpStream, service: TowerToHyperService<Router>, stopping: CancellationToken) {
    // Small answers must not wait for the peer's acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
    }
}
