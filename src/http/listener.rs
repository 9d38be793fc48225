//! Accepts connections and serves them under the supervisor, so that a drain includes each of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use listenfd::ListenFd;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::connection::{ConnectionTable, Peer, serve_connection};
use super::lingering::turn_away;
use super::rpc_error::{RETRY_SECONDS, RpcError};
use crate::lifecycle::{Role, Supervisor};

/// Maximum number of connections. If there are more, the one that has waited longest for its peer is closed.
pub const MAX_CONNECTIONS: usize = 1024;
/// Number of connections that are reserved for this machine.
const RESERVED_CONNECTIONS: usize = 64;
/// Send buffer of a connection in the kernel, which doubles this value.
const SEND_BUFFER: usize = 128 * 1024;
/// A loop without progress for this time is stuck.
const MAX_AGE: Duration = Duration::from_secs(30);
/// ENFILE and EMFILE.
const NO_DESCRIPTORS: [i32; 2] = [23, 24];
/// Maximum number of connections that are turned away concurrently. Further ones are closed without an answer.
const MAX_TURNED_AWAY: usize = 64;
/// The reason for turning a connection away.
const FULL: &str =
    "every connection of the service is at work: nothing was done, try again in a few seconds";

/// The bound sockets: the one of the configured address, and those that a systemd socket unit passed.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address` (port 0 takes a free one) and takes the sockets of `LISTEN_FDS`. A container needs both: the
    /// passed socket belongs to the host, and the bound one serves the health check inside. Outside of a container, a
    /// passed socket may have the configured address, which is then not bound again.
    ///
    /// # Errors
    /// Fails if the address is in use or not local, or if a passed descriptor is not a listening TCP socket.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let mut inherited = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..inherited.len() {
            if let Some(socket) = inherited.take_tcp_listener(index)? {
                socket.set_nonblocking(true)?;
                sockets.push(TcpListener::from_std(socket)?);
            }
        }
        let has_it = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == address);
        if sockets.iter().any(has_it) {
            return Ok(Self { sockets, address });
        }
        let own = TcpListener::bind(address).await?;
        let address = own.local_addr()?;
        sockets.push(own);
        Ok(Self { sockets, address })
    }

    /// Returns the address for the probe and clients of this machine.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until the supervisor stops, then lets running requests end.
    pub fn serve(self, supervisor: &Supervisor, router: Router) {
        let connections = ConnectionTable::new(MAX_CONNECTIONS, RESERVED_CONNECTIONS);
        let service = TowerToHyperService::new(router);
        for socket in self.sockets {
            accept(socket, supervisor, &connections, service.clone());
        }
    }
}

fn accept(
    socket: TcpListener,
    supervisor: &Supervisor,
    connections: &Arc<ConnectionTable>,
    service: TowerToHyperService<Router>,
) {
    let heartbeat = supervisor.heartbeat("listener", Role::Essential, MAX_AGE);
    let connections = Arc::clone(connections);
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let full: Arc<str> = full_answer().into();
    let (stopping, tasks) = (supervisor.stopping().clone(), supervisor.clone());
    supervisor.spawn("listener", Role::Essential, async move {
        loop {
            heartbeat.beat();
            let accepted = tokio::select! {
                () = stopping.cancelled() => return Ok::<(), std::io::Error>(()),
                accepted = heartbeat.idle(socket.accept()) => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The process is out of file descriptors, or a peer left. Neither is a reason to stop or to spin.
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a connection was not accepted"
                    );
                    if error
                        .raw_os_error()
                        .is_some_and(|code| NO_DESCRIPTORS.contains(&code))
                    {
                        connections.evict_longest_idle();
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = connections.admit(is_local(&stream, peer.ip())) else {
                // All connections are working. If new ones waited in the queue of the kernel instead, they would block
                // the owner.
                if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
                    let answer = Arc::clone(&full);
                    let refusing = async move {
                        turn_away(stream, answer.as_bytes()).await;
                        drop(place);
                    };
                    drop(tasks.spawn_request("refusal", refusing));
                }
                continue;
            };
            // Small answers must not wait for the peer's acknowledgement of earlier ones.
            let _ = stream.set_nodelay(true);
            // By default the kernel lets it grow to some MiB for every peer that does not read.
            let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
            let peer = Peer {
                address: peer.ip().to_canonical(),
            };
            let serving = serve_connection(
                stream,
                service.clone(),
                stopping.clone(),
                Some(peer),
                Some(place),
            );
            drop(tasks.spawn_request("connection", serving));
        }
    });
}

/// Returns the answer for the case that every connection is working.
fn full_answer() -> String {
    let body = RpcError::busy(FULL).to_json().to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {RETRY_SECONDS}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Returns whether the peer is on this machine.
fn is_local(stream: &TcpStream, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer.is_loopback()
        || stream
            .local_addr()
            .is_ok_and(|own| own.ip().to_canonical() == peer)
}
