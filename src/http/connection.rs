//! One connection: the activity of its peer, its time limits, and its eviction if there are too many.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lingering::Lingering;

/// Maximum time for the head of a request, from the connection or from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum idle time between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Maximum time in which a peer reads no byte of an answer.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Maximum time for a peer to read an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum time to complete the head of a request while the service stops.
const HEAD_GRACE: Duration = Duration::from_secs(1);
/// Maximum time between two checks of a connection.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of buffered bytes per direction, and maximum size of a head.
const BUFFER: usize = 64 * 1024;

/// The address of the client; an extension of each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for a request.
    Waiting {
        /// Whether bytes of a head arrived.
        head_begun: bool,
    },
    /// Handling a request. The handler limits its own time.
    Working,
    /// Sending an answer.
    Answering,
}

#[derive(Debug)]
struct Progress {
    phase: Phase,
    /// Start of the phase, or of the head.
    since: Instant,
    /// Time of the last byte in either direction.
    last_byte: Instant,
    /// The time since which the peer reads nothing.
    write_stalled: Option<Instant>,
    /// Whether the handler waits for more of the body.
    awaits_body: bool,
    answered_any: bool,
    /// Whether a request was answered before all of its body was read.
    left_body_unread: bool,
}

impl Progress {
    /// Returns the deadline of the peer; none while the service is working.
    fn deadline(&self) -> Option<Instant> {
        let stalled = self.write_stalled.map(|since| since + WRITE_STALL);
        let phase = match self.phase {
            Phase::Waiting { head_begun } if head_begun || !self.answered_any => {
                Some(self.since + HEAD_TIMEOUT)
            }
            Phase::Waiting { .. } => Some(self.since + IDLE_TIMEOUT),
            Phase::Working => None,
            Phase::Answering => Some(self.since + ANSWER_TIMEOUT),
        };
        stalled.into_iter().chain(phase).min()
    }
}

/// The activity of a connection, shared by its stream, its requests and the table.
#[derive(Debug)]
pub(super) struct Activity {
    progress: Mutex<Progress>,
    /// Cancelled if the connection must be closed.
    evicted: CancellationToken,
    is_local: bool,
}

impl Activity {
    fn new(is_local: bool) -> Arc<Self> {
        let now = Instant::now();
        let progress = Progress {
            phase: Phase::Waiting { head_begun: false },
            since: now,
            last_byte: now,
            write_stalled: None,
            awaits_body: false,
            answered_any: false,
            left_body_unread: false,
        };
        Arc::new(Self {
            progress: Mutex::new(progress),
            evicted: CancellationToken::new(),
            is_local,
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut progress = self.progress();
        progress.answered_any |= phase == Phase::Answering;
        (progress.phase, progress.since, progress.awaits_body) = (phase, Instant::now(), false);
    }

    fn has_read(&self) {
        let mut progress = self.progress();
        let now = Instant::now();
        progress.last_byte = now;
        if progress.phase == (Phase::Waiting { head_begun: false }) {
            progress.phase = Phase::Waiting { head_begun: true };
            // The time for the first head starts with the connection.
            if progress.answered_any {
                progress.since = now;
            }
        }
    }

    fn has_written(&self) {
        let mut progress = self.progress();
        let now = Instant::now();
        (progress.last_byte, progress.write_stalled) = (now, None);
        // The end of an answer is still being sent when its body is handed over, so the idle time begins later.
        if progress.phase == (Phase::Waiting { head_begun: false }) && progress.answered_any {
            progress.since = now;
        }
    }

    fn cannot_write(&self) {
        self.progress()
            .write_stalled
            .get_or_insert_with(Instant::now);
    }

    /// Waits until the peer has used up its time, or the connection must be closed.
    async fn given_up(&self) -> &'static str {
        loop {
            let now = Instant::now();
            let deadline = self.progress().deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return "its peer took too long";
            }
            let look = deadline.map_or(now + LOOK_EVERY, |deadline| deadline.min(now + LOOK_EVERY));
            tokio::select! {
                () = self.evicted.cancelled() => return "others needed its place",
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }
}

/// The open connections. Connections of this machine have a reserved share, so that the health check and the owner can
/// always connect.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    capacity: usize,
    reserved: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Activity>>,
}

impl ConnectionTable {
    /// Creates a table for a number of connections, some of which are reserved for this machine.
    pub(super) fn new(capacity: usize, reserved: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            reserved,
            open: Mutex::default(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a place for a new connection. If there is none, closes the connection that has waited longest for its
    /// peer; `None` if all of them wait for the service.
    pub(super) fn admit(self: &Arc<Self>, is_local: bool) -> Option<Place> {
        let mut open = self.open();
        let foreign = open
            .connections
            .values()
            .filter(|activity| !activity.is_local)
            .count();
        let is_full = open.connections.len() >= self.capacity;
        if is_full || !is_local && foreign >= self.capacity - self.reserved {
            // Connections from outside never close connections of this machine.
            evict(&mut open, |activity| is_local || !activity.is_local)?;
        }
        let (id, activity) = (open.next, Activity::new(is_local));
        open.next += 1;
        open.connections.insert(id, Arc::clone(&activity));
        Some(Place {
            table: Arc::clone(self),
            id,
            activity,
        })
    }

    /// Closes the connection that has waited longest for its peer, for example if file descriptors run out.
    pub(super) fn evict_longest_idle(&self) {
        evict(&mut self.open(), |_| true);
    }
}

fn evict(open: &mut Open, may_go: impl Fn(&Activity) -> bool) -> Option<()> {
    let idle_since = |activity: &Arc<Activity>| {
        let progress = activity.progress();
        (progress.phase != Phase::Working || progress.awaits_body).then_some(progress.last_byte)
    };
    let candidates = open
        .connections
        .iter()
        .filter(|(_, activity)| may_go(activity));
    let (id, _) = candidates
        .filter_map(|(id, activity)| Some((*id, idle_since(activity)?)))
        .min_by_key(|(_, at)| *at)?;
    open.connections.remove(&id)?.evicted.cancel();
    Some(())
}

/// The place of a connection, released when dropped.
#[derive(Debug)]
pub(super) struct Place {
    table: Arc<ConnectionTable>,
    id: u64,
    activity: Arc<Activity>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.open().connections.remove(&self.id);
    }
}

/// Serves the requests of one connection. A connection without a place is not counted.
pub(super) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: TowerToHyperService<Router>,
    stopping: CancellationToken,
    peer: Option<Peer>,
    place: Option<Place>,
) {
    let activity = place
        .as_ref()
        .map_or_else(|| Activity::new(true), |place| Arc::clone(&place.activity));
    let mut http = http1::Builder::new();
    // Only the times of the activity apply.
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT + LOOK_EVERY)
        .max_buf_size(BUFFER);
    let mark = Arc::clone(&activity);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        mark.enter(Phase::Working);
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let activity = Arc::clone(&mark);
        let request = request.map(|body| WatchedRequestBody {
            body,
            has_ended: false,
            activity: Arc::clone(&activity),
        });
        let answer = service.call(request);
        async move {
            let response: Response = answer.await?;
            activity.enter(Phase::Answering);
            Ok::<_, Infallible>(response.map(|body| WatchedBody { body, activity }))
        }
    });
    let stream = WatchedStream {
        stream,
        activity: Arc::clone(&activity),
        lingering: None,
    };
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        why = activity.given_up() => return tracing::debug!("a connection was closed: {why}"),
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection.as_mut() => served,
                // An incomplete head does not count as a request, so the drain does not wait for it.
                () = tokio::time::sleep(HEAD_GRACE) => {
                    if matches!(activity.progress().phase, Phase::Waiting { .. }) {
                        return;
                    }
                    tokio::select! {
                        served = connection => served,
                        why = activity.given_up() => return tracing::debug!("a connection was closed: {why}"),
                    }
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a connection ended early"
        );
    }
}

/// A stream that records when bytes pass in either direction, and when they cannot.
struct WatchedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    lingering: Option<Lingering>,
}

impl<S> WatchedStream<S> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(_)) => self.activity.has_written(),
            Poll::Pending => self.activity.cannot_write(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.has_read();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            stream,
            activity,
            lingering,
        } = &mut *self;
        let lingering = match lingering {
            Some(lingering) => lingering,
            None => {
                // The peer sees the end of the answer while its remaining data is still read.
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                if !activity.progress().left_body_unread {
                    return Poll::Ready(Ok(()));
                }
                lingering.insert(Lingering::begin())
            }
        };
        lingering.poll_discard(Pin::new(stream), context).map(Ok)
    }
}

/// The body of an answer, which marks the end of the answer when it is dropped.
struct WatchedBody {
    body: Body,
    activity: Arc<Activity>,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.activity.enter(Phase::Waiting { head_begun: false });
    }
}

impl HttpBody for WatchedBody {
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

/// The body of a request, which records when the service waits for its peer.
struct WatchedRequestBody {
    body: Incoming,
    has_ended: bool,
    activity: Arc<Activity>,
}

impl Drop for WatchedRequestBody {
    fn drop(&mut self) {
        if !self.has_ended && !self.body.is_end_stream() {
            self.activity.progress().left_body_unread = true;
        }
    }
}

impl HttpBody for WatchedRequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.activity.progress().awaits_body = frame.is_pending();
        self.has_ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::lingering;
    use super::*;

    /// Connects to a router whose answer has this size. Returns the other end, and a task that ends with the
    /// connection.
    #[expect(clippy::disallowed_methods, reason = "a test has no supervisor")]
    fn connect(answer: usize) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let pieces = move || {
            let full = std::iter::repeat_n(32 * 1024, answer / (32 * 1024));
            full.chain([answer % (32 * 1024)])
                .map(|size| Ok::<_, Infallible>("x".repeat(size)))
        };
        let answer = move || async move { Body::from_stream(futures_util::stream::iter(pieces())) };
        let router = Router::new().fallback(answer);
        let service = TowerToHyperService::new(router);
        let serving = serve_connection(theirs, service, CancellationToken::new(), None, None);
        (ours, tokio::spawn(serving))
    }

    /// Returns the number of seconds after which the connection was closed.
    async fn closed_after(serving: tokio::task::JoinHandle<()>, start: Instant) -> u64 {
        serving.await.unwrap();
        start.elapsed().as_secs()
    }

    /// Sends a POST with a body of this size that is never read, and returns the answer.
    async fn upload(size: usize) -> (String, tokio::task::JoinHandle<()>) {
        let (mut ours, serving) = connect(5);
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        );
        ours.write_all(head.as_bytes()).await.unwrap();
        let mut rest = size;
        while rest > 0
            && ours
                .write_all(&[b'x'; 1024][..rest.min(1024)])
                .await
                .is_ok()
        {
            rest -= rest.min(1024);
        }
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        assert_eq!(
            rest > 0,
            size > lingering::MAX_BYTES,
            "{rest} bytes were not taken"
        );
        (answer, serving)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_still_sending_sees_the_answer() {
        for size in [100, 4 * 1024 * 1024, 2 * lingering::MAX_BYTES] {
            let (answer, serving) = upload(size).await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("xxxxx"),
                "{size}: {answer}"
            );
            serving.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_sending_is_not_waited_for() {
        let (start, (mut ours, serving)) = (Instant::now(), connect(1));
        ours.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
            .await
            .unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(
            closed_after(serving, start).await,
            lingering::TIMEOUT.as_secs()
        );
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn the_first_head_has_ten_seconds() {
        for begun in [&b""[..], b"GET / HT"] {
            let (start, (mut ours, serving)) = (Instant::now(), connect(1));
            ours.write_all(begun).await.unwrap();
            assert_eq!(closed_after(serving, start).await, 10, "{begun:?}");
        }
        // Slowly arriving bytes do not extend the limit.
        let (start, (mut ours, serving)) = (Instant::now(), connect(1));
        while ours.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        assert!(closed_after(serving, start).await <= 11);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_and_a_begun_head_is_not() {
        for (begun, expected) in [(&b""[..], 75), (b"GET", 10)] {
            let (mut ours, serving) = connect(1);
            ours.write_all(REQUEST).await.unwrap();
            let mut answer = [0; 12];
            ours.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            let start = Instant::now();
            ours.write_all(begun).await.unwrap();
            assert_eq!(closed_after(serving, start).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_the_connection() {
        let (start, (mut ours, serving)) = (Instant::now(), connect(1_000_000));
        ours.write_all(REQUEST).await.unwrap();
        let seconds = closed_after(serving, start).await;
        assert!((30..=36).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_slowly_has_an_end_too() {
        let (start, (mut ours, serving)) = (Instant::now(), connect(10_000_000));
        ours.write_all(REQUEST).await.unwrap();
        let mut buffer = [0; 1024];
        while ours.read(&mut buffer).await.is_ok_and(|read| read > 0) && !serving.is_finished() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let seconds = closed_after(serving, start).await;
        assert!((300..=306).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_waited_longest_gives_way() {
        let table = ConnectionTable::new(4, 1);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(table.admit(false).expect("room"));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let is_evicted = |place: &Place| place.activity.evicted.is_cancelled();
        // The first one is working, so the second has waited longest.
        places[0].activity.enter(Phase::Working);
        places.push(table.admit(false).expect("room"));
        assert_eq!(
            places.iter().map(is_evicted).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        // The reserved share is for this machine.
        let local = table.admit(true).expect("the reserved share");
        for place in &places {
            place.activity.enter(Phase::Working);
        }
        assert!(
            table.admit(false).is_none(),
            "all of them work, and the local one is not theirs to push out"
        );
        assert!(!is_evicted(&local));
        assert!(table.admit(true).is_some());
        assert!(is_evicted(&local), "full, and nothing else waits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_with_its_connection() {
        let table = ConnectionTable::new(1, 0);
        for _ in 0..3 {
            let place = table.admit(false).expect("room");
            place.activity.enter(Phase::Working);
            assert!(table.admit(false).is_none());
        }
    }
}
