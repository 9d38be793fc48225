//! Accepts connections and serves them under the supervisor, so that a drain knows of each of them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use listenfd::ListenFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Role, Supervisor};

/// Connections at once; further ones wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may take to send the head of a request, and be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The same for a head that was begun when the service is asked to stop.
const HEAD_GRACE: Duration = Duration::from_secs(1);
/// A loop that has not come round for so long is stuck.
const MAX_AGE: Duration = Duration::from_secs(30);

/// Bound sockets: the one of the configured address, and those that a systemd socket unit handed over.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address` (port 0 takes a free one) and takes the sockets of `LISTEN_FDS`. In a container both are of use:
    /// the handed-over socket is the host's, the own one serves the health check inside. Outside, a handed-over socket
    /// may have the very address, which then is not bound again.
    ///
    /// # Errors
    /// When the address is taken or not ours, or what was handed over is no listening TCP socket.
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

    /// Where the probe and clients of this machine find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until the supervisor stops, then lets running requests end.
    pub fn serve(self, supervisor: &Supervisor, router: Router) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let service = TowerToHyperService::new(router);
        for socket in self.sockets {
            accept(socket, supervisor, &connections, service.clone());
        }
    }
}

fn accept(
    socket: TcpListener,
    supervisor: &Supervisor,
    connections: &Arc<Semaphore>,
    service: TowerToHyperService<Router>,
) {
    let heartbeat = supervisor.heartbeat("listener", Role::Essential, MAX_AGE);
    let connections = Arc::clone(connections);
    let (stopping, tasks) = (supervisor.stopping().clone(), supervisor.clone());
    supervisor.spawn("listener", Role::Essential, async move {
        loop {
            heartbeat.beat();
            let place = heartbeat.idle(Arc::clone(&connections).acquire_owned()).await?;
            let accepted = tokio::select! {
                () = stopping.cancelled() => return Ok::<(), tokio::sync::AcquireError>(()),
                accepted = heartbeat.idle(socket.accept()) => accepted,
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
            // Small answers must not wait for the peer's acknowledgement of earlier ones.
            let _ = stream.set_nodelay(true);
            let (service, stopping) = (service.clone(), stopping.clone());
            drop(tasks.spawn_request("connection", async move {
                serve_connection(stream, service, stopping).await;
                drop(place);
            }));
        }
    });
}

/// Serves the requests of one connection.
pub(super) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: TowerToHyperService<Router>,
    stopping: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // Held by every request from its head to the end of its answer.
    let under_way = Arc::new(());
    let mark = Arc::downgrade(&under_way);
    let service = service_fn(move |request| {
        let (answer, held) = (service.call(request), under_way.clone());
        async move {
            let response: Response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| HeldBody { body, _held: held }))
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection.as_mut() => served,
                // A head that was begun and is not completed is no request yet: nobody needs to wait for it.
                () = tokio::time::sleep(HEAD_GRACE) => {
                    // One is the service's own.
                    if mark.strong_count() <= 1 {
                        return;
                    }
                    connection.await
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
    }
}

/// The body of an answer, which marks its request as under way as long as it exists.
struct HeldBody {
    body: Body,
    _held: Arc<()>,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
