//! `stdio`: MCP on standard input and output, for clients that can only start a process.
//!
//! Always forwards over HTTP: to the service that `MEMORY_URL` names, otherwise through its Unix socket to the service
//! of this database and user. If there is none, this process serves the database itself, on a free loopback port and
//! with its own token, and publishes the address in the lock file. Any number of clients can thus share one database,
//! and when the process that serves it ends, the next one takes over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, BufReader, Interest};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::discovery::{self, DiscoveryError, Endpoint};
use super::open_store::create_store;
use super::output::with_causes;
use super::{Failure, UNAVAILABLE, http_client, service, start_logging, start_runtime};
use crate::config::{Auth, Credential, Purpose, Settings, Sources, sha256};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::fresh_token;
use crate::http::{Authenticator, Listener};
use crate::lifecycle::{self, ExitReason, Notifier, Readiness, Role, Sentinel, Supervisor};
use crate::store::StoreError;
use crate::telemetry::Stream;

mod message;

use message::{INVALID_REQUEST, Line, Message, SERVICE_ERROR};

/// Maximum number of concurrent requests; further lines wait unread.
const MAX_REQUESTS: usize = 64;
/// Maximum total bytes of concurrent requests; a longer single line is still read if the service accepts it.
const MAX_REQUEST_BYTES: usize = 32 * 1024 * 1024;
/// Answers up to this size in bytes are always read at once;
const SMALL_ANSWER: usize = 1024 * 1024;
/// this is the maximum number of concurrent larger ones.
const LARGE_ANSWERS: usize = 2;
/// Maximum time for running requests once the process must stop.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
/// Maximum time for the client to read the answers after that.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Maximum time that a request waits for a service that is being restarted.
const LONGEST_ABSENCE: Duration = Duration::from_secs(20);
/// Pause between two attempts to find the service.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(sources: &Sources) -> Result<u8, Failure> {
    let (supervisor, notifier, readiness) = (
        Supervisor::new(),
        Notifier::to(None, None),
        Readiness::new(),
    );
    let sentinel =
        Sentinel::start(&supervisor, &notifier, &readiness).map_err(Failure::internal)?;
    let (settings, telemetry) = start_logging(sources, Purpose::Command, Stream::Stderr)?;
    sentinel.before_exit(telemetry.flusher());
    supervisor.set_drain_budget(settings.http.drain_timeout);
    let runtime = start_runtime()?;
    let reason = runtime.block_on(run_bridge(settings, &supervisor, &notifier, &readiness))?;
    // A read of standard input that waits in the kernel cannot be cancelled.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(reason.exit_code())
}

async fn run_bridge(
    settings: Settings,
    supervisor: &Supervisor,
    notifier: &Notifier,
    readiness: &Readiness,
) -> Result<ExitReason, Failure> {
    let drain = settings.http.drain_timeout;
    let longest_line = settings.http.max_body_bytes;
    let bridge = Arc::new(Bridge {
        upstream: Mutex::new(None),
        version: std::sync::Mutex::new(None),
        settings,
        supervisor: supervisor.clone(),
        readiness: readiness.clone(),
        large_answers: Arc::new(Semaphore::new(LARGE_ANSWERS)),
    });
    // Finding the service now reports a wrong setup before the first request.
    tokio::select! {
        found = bridge.upstream(None) => drop(found.map_err(|error| Failure { code: UNAVAILABLE, error })?),
        () = supervisor.stopping().cancelled() => return Ok(lifecycle::run(supervisor, notifier, readiness).await),
    }
    let (answers, waiting) = mpsc::channel::<String>(1);
    supervisor.spawn(
        "writer",
        Role::Helper,
        write_answers(waiting, supervisor.clone()),
    );
    supervisor.spawn("output", Role::Helper, watch_output(supervisor.clone()));
    supervisor.spawn("reader", Role::Helper, async move {
        read_requests(&bridge, answers, (longest_line, drain)).await;
        // The client has closed its end, or the process was already asked to stop.
        bridge.supervisor.stop(ExitReason::Finished);
        Ok::<(), std::io::Error>(())
    });
    Ok(lifecycle::run(supervisor, notifier, readiness).await)
}

/// Writes answers until the client stops reading or there are no more.
async fn write_answers(
    mut waiting: mpsc::Receiver<String>,
    supervisor: Supervisor,
) -> Result<(), std::io::Error> {
    let mut out = tokio::io::stdout();
    let stopped = async {
        supervisor.stopping().cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::pin!(stopped);
    while let Some(mut line) = waiting.recv().await {
        line.push('\n');
        let write = async {
            out.write_all(line.as_bytes()).await?;
            out.flush().await
        };
        let written = tokio::select! {
            written = write => written,
            // The client no longer reads, but has not closed its end.
            () = &mut stopped => return Ok(()),
        };
        if let Err(error) = written {
            tracing::info!(%error, "the client no longer reads answers");
            supervisor.stop(ExitReason::Finished);
            return Ok(());
        }
    }
    Ok(())
}

/// Stops the process when the client has closed standard output, even if standard input remains open.
#[expect(
    deprecated,
    reason = "the replacement is unsafe; the standard output is open as long as the process"
)]
async fn watch_output(supervisor: Supervisor) -> Result<(), std::io::Error> {
    // A file cannot be watched, and is never closed by another process.
    let Ok(output) = AsyncFd::with_interest(std::io::stdout(), Interest::ERROR) else {
        return Ok(());
    };
    loop {
        let mut state = tokio::select! {
            () = supervisor.stopping().cancelled() => return Ok(()),
            state = output.ready(Interest::ERROR) => state?,
        };
        if state.ready().is_error() {
            tracing::info!("the client has closed the standard output");
            supervisor.stop(ExitReason::Finished);
            return Ok(());
        }
        state.clear_ready();
    }
}

/// Forwards requests until the input ends or the process is asked to stop. Then waits for running requests: for `drain`
/// if the client has only closed its end.
async fn read_requests(
    bridge: &Arc<Bridge>,
    answers: mpsc::Sender<String>,
    (longest_line, drain): (usize, Duration),
) {
    let stopping = bridge.supervisor.stopping();
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    let most_bytes = u32::try_from(MAX_REQUEST_BYTES.max(longest_line)).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(most_bytes as usize));
    let mut input = BufReader::new(tokio::io::stdin());
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            let line = message::next_line(&mut input, longest_line).await;
            let line = line
                .inspect_err(|error| tracing::warn!(%error, "the standard input cannot be read"))
                .ok()??;
            let bytes = if let Line::Bytes(bytes) = &line {
                bytes.len()
            } else {
                0
            };
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(most_bytes);
            let room = Arc::clone(&room).acquire_many_owned(bytes).await.ok()?;
            Some((line, place, room))
        };
        let next = tokio::select! {
            () = stopping.cancelled() => return,
            next = next => next,
        };
        let Some((line, place, room)) = next else {
            break;
        };
        let is_opening =
            matches!(&line, Line::Bytes(bytes) if contains_bytes(bytes, b"\"initialize\""));
        let (bridge, answers) = (Arc::clone(bridge), answers.clone());
        let request = bridge
            .supervisor
            .clone()
            .spawn_request("request", async move {
                let answered = bridge.answer_line(line, longest_line).await;
                for line in answered.lines {
                    if answers.send(line).await.is_err() {
                        break;
                    }
                }
                drop((place, room, answered.large));
            });
        if is_opening {
            // Later requests need the version that is negotiated here.
            let _ = request.await;
        }
    }
    let all = u32::try_from(MAX_REQUESTS).unwrap_or(u32::MAX);
    tokio::select! {
        () = stopping.cancelled() => {}
        _ = tokio::time::timeout(drain, places.acquire_many(all)) => {}
    }
}

fn contains_bytes(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The answers to a line.
#[derive(Default)]
struct Answered {
    lines: Vec<String>,
    /// Held while a large answer is in memory.
    large: Option<OwnedSemaphorePermit>,
}

impl Answered {
    fn with(lines: Vec<String>) -> Self {
        Self { lines, large: None }
    }
}

/// A service and the client that reaches it.
#[derive(Clone)]
struct Upstream {
    endpoint: Endpoint,
    client: reqwest::Client,
}

impl Upstream {
    fn new(endpoint: Endpoint) -> Result<Self, Failure> {
        // No idle connections: one that broke with the service would lose the answer of the next request.
        let client = endpoint
            .client_builder()
            .pool_max_idle_per_host(0)
            .build()
            .map_err(Failure::internal)?;
        Ok(Self { endpoint, client })
    }
}

struct Bridge {
    upstream: Mutex<Option<Upstream>>,
    version: std::sync::Mutex<Option<String>>,
    settings: Settings,
    supervisor: Supervisor,
    readiness: Readiness,
    large_answers: Arc<Semaphore>,
}

impl Bridge {
    /// Returns the service to use; `failed` is the one that just did not answer.
    async fn upstream(&self, failed: Option<&Upstream>) -> anyhow::Result<Upstream> {
        let mut current = self.upstream.lock().await;
        if let Some(known) = current
            .as_ref()
            .filter(|known| failed.map(|failed| &failed.endpoint) != Some(&known.endpoint))
        {
            return Ok(known.clone());
        }
        let found = Upstream::new(self.find_or_serve().await?).map_err(|failure| failure.error)?;
        tracing::info!(url = found.endpoint.shown, "forwarding to the service");
        *current = Some(found.clone());
        Ok(found)
    }

    /// Returns the running service, or starts serving in this process.
    async fn find_or_serve(&self) -> anyhow::Result<Endpoint> {
        let end = tokio::time::Instant::now() + LONGEST_ABSENCE;
        loop {
            let error = match discovery::find_service(&self.settings).await {
                Ok(Some(endpoint)) => return Ok(endpoint),
                Ok(None) => match self.serve_ourselves().await {
                    Ok(endpoint) => return Ok(endpoint),
                    // Another process was faster and has not announced its address yet.
                    Err(StartError::InUse(error)) => error.into(),
                    Err(StartError::Other(failure)) => return Err(failure.error),
                },
                // A service that starts or ends has its database open longer than its socket.
                Err(error @ DiscoveryError::Silent { .. }) => error.into(),
                Err(error) => return Err(error.into()),
            };
            if tokio::time::Instant::now() >= end {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn serve_ourselves(&self) -> Result<Endpoint, StartError> {
        let local = create_store(&self.settings)?;
        match local.store.prepare().await {
            Ok(()) => {}
            Err(error @ StoreError::InUse { .. }) => return Err(StartError::InUse(error)),
            // The server may return: the service keeps trying to connect, and tools report the error.
            Err(StoreError::Unavailable { .. }) if local.embedded.is_none() => {}
            Err(error) => return Err(StartError::Other(error.into())),
        }
        let token = fresh_token().map_err(Failure::internal)?;
        let credential = Credential {
            name: "stdio".to_owned(),
            project: DEFAULT_PROJECT.to_owned(),
            reads: Vec::new(),
            sha256: sha256(&token),
        };
        let authenticator = |_: &_| Ok(Authenticator::new(&Auth::Tokens(vec![credential])));
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(address).await.map_err(Failure::internal)?;
        let database = self.readiness.condition("database", "connecting");
        let parts = (&self.supervisor, &self.readiness, database);
        let service = service::start_service(
            &self.settings,
            &local,
            authenticator,
            listener,
            parts,
            &service::Switches::default(),
        )
        .await?;
        service.listener.start_accepting(&self.supervisor);
        let url = format!("http://{}/mcp", service.address);
        if let Some(embedded) = &local.embedded {
            embedded
                .announce(&format!("{url}#{token}"))
                .map_err(Failure::from)?;
        }
        Ok(Endpoint::named(&url, Some(token)))
    }

    /// Answers one line; the answers are lines, too.
    async fn answer_line(&self, line: Line, longest_line: usize) -> Answered {
        let bytes = match line {
            Line::Bytes(bytes) => bytes,
            Line::TooLong { id, length } => {
                let text = format!(
                    "this message has {length} bytes; the limit is {longest_line} (MEMORY_MAX_BODY_BYTES). Send fewer items per \
                     call"
                );
                return Answered::with(vec![message::fault(&id, INVALID_REQUEST, &text)]);
            }
        };
        if bytes.trim_ascii().is_empty() {
            return Answered::default();
        }
        let message = match Message::parse_message(bytes) {
            Ok(message) => message,
            Err(fault) => return Answered::with(vec![fault]),
        };
        let stopped = async {
            self.supervisor.stopping().cancelled().await;
            tokio::time::sleep(LAST_REQUESTS).await;
        };
        let sent = tokio::select! {
            sent = self.send_message(&message) => sent,
            () = stopped => Err(anyhow::anyhow!("the connection to the memory service was closed during the request, \
                which may have taken effect")),
        };
        match sent {
            Ok(answered) => {
                self.learn_version(&message.value, &answered.lines);
                answered
            }
            Err(error) => Answered::with(message.faults(SERVICE_ERROR, &with_causes(&error))),
        }
    }

    async fn send_message(&self, message: &Message) -> anyhow::Result<Answered> {
        let end = tokio::time::Instant::now() + LONGEST_ABSENCE;
        let mut failed = None;
        // Whether an earlier attempt may have been executed.
        let mut is_repeated = false;
        loop {
            let upstream = self.upstream(failed.as_ref()).await?;
            let headers = self.request_headers(&message.value);
            let mut request = upstream
                .client
                .post(&upstream.endpoint.url)
                .headers(headers)
                .body(message.text.clone());
            if let Some(token) = &upstream.endpoint.token {
                request = request.bearer_auth(token);
            }
            match request
                .timeout(self.settings.http.request_timeout + Duration::from_secs(10))
                .send()
                .await
            {
                // Another process with its own token may have taken over the socket. Nothing was executed.
                Ok(response)
                    if response.status() == reqwest::StatusCode::UNAUTHORIZED
                        && tokio::time::Instant::now() < end =>
                {
                    if self.upstream(Some(&upstream)).await?.endpoint == upstream.endpoint {
                        return self.read_response(response, message, is_repeated).await;
                    }
                    failed = None;
                }
                Ok(response) => return self.read_response(response, message, is_repeated).await,
                // Nothing was sent, or sending it again is harmless: the process that served may have ended meanwhile.
                Err(error)
                    if (error.is_connect()
                        || (error.is_request()
                            && !error.is_timeout()
                            && message.is_repeatable()))
                        && tokio::time::Instant::now() < end =>
                {
                    is_repeated |= !error.is_connect();
                    failed = Some(upstream);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    return Err(error.without_url()).context(
                        "the connection to the memory service was lost during the request, which may have taken effect",
                    );
                }
            }
        }
    }

    /// Returns the JSON-RPC messages of an answer, one per line.
    async fn read_response(
        &self,
        response: reqwest::Response,
        message: &Message,
        is_repeated: bool,
    ) -> anyhow::Result<Answered> {
        let status = response.status();
        let is_events = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("text/event-stream"));
        // Declared first, so that the memory of the body is free before another large answer is read.
        let mut large = None;
        let mut body = http_client::Body::new(response);
        if !body.read_up_to(SMALL_ANSWER).await? {
            large = Some(Arc::clone(&self.large_answers).acquire_owned().await?);
            if !body.read_up_to(http_client::LARGEST_ANSWER).await? {
                let most = http_client::LARGEST_ANSWER / 1024 / 1024;
                anyhow::bail!(
                    "the answer is larger than {most} MiB, which no memory service sends"
                );
            }
        }
        let body = body.into_text();
        let complete = |answer: Value| {
            message
                .complete(if is_repeated {
                    message.settle_repeated(answer)
                } else {
                    answer
                })
                .to_string()
        };
        if is_events {
            let data = body
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(str::trim);
            let data = data.filter(|data| !data.is_empty());
            let lines = data
                .map(|data| serde_json::from_str(data).map_or_else(|_| data.to_owned(), complete))
                .collect();
            return Ok(Answered { lines, large });
        }
        if body.trim().is_empty() && status.is_success() {
            return Ok(Answered::default());
        }
        let lines = match serde_json::from_str::<Value>(&body) {
            Ok(Value::Array(batch))
                if batch.iter().all(|answer| answer.get("jsonrpc").is_some()) =>
            {
                let batch: Vec<Value> = batch
                    .into_iter()
                    .map(|answer| message.complete(answer))
                    .collect();
                vec![Value::Array(batch).to_string()]
            }
            // The batch was refused as a whole.
            Ok(answer)
                if message.value.is_array()
                    && answer["id"].is_null()
                    && answer.get("error").is_some() =>
            {
                let code = answer["error"]["code"].as_i64().unwrap_or(SERVICE_ERROR);
                message.faults(
                    code,
                    answer["error"]["message"].as_str().unwrap_or_default(),
                )
            }
            Ok(answer) if answer.get("jsonrpc").is_some() => vec![complete(answer)],
            Ok(answer) if answer["error"].is_string() => {
                anyhow::bail!(
                    "the memory service answered {status}: {}",
                    answer["error"].as_str().unwrap_or_default()
                )
            }
            _ => anyhow::bail!(
                "the memory service answered {status}: {}",
                body.chars().take(200).collect::<String>()
            ),
        };
        Ok(Answered { lines, large })
    }

    /// Returns the headers of Streamable HTTP, which repeat parts of the body from revision 2026-07-28 on.
    fn request_headers(&self, message: &Value) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        let params = &message["params"];
        let negotiated = self
            .version
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let version = params["_meta"]["io.modelcontextprotocol/protocolVersion"]
            .as_str()
            .map(str::to_owned)
            .or(negotiated);
        let name = params["name"]
            .as_str()
            .or_else(|| params["uri"].as_str())
            .or_else(|| params["taskId"].as_str());
        let method = message["method"].as_str();
        let pairs = [
            ("mcp-protocol-version", version.as_deref()),
            ("mcp-method", method),
            ("mcp-name", name),
        ];
        for (header, value) in pairs {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok())
                && method != Some("initialize")
            {
                headers.insert(HeaderName::from_static(header), value);
            }
        }
        headers
    }

    fn learn_version(&self, message: &Value, answers: &[String]) {
        if message["method"] != "initialize" {
            return;
        }
        let version = answers
            .iter()
            .filter_map(|answer| serde_json::from_str::<Value>(answer).ok())
            .find_map(|answer| {
                answer["result"]["protocolVersion"]
                    .as_str()
                    .map(str::to_owned)
            });
        *self
            .version
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = version;
    }
}

enum StartError {
    InUse(StoreError),
    Other(Failure),
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}
