//! `stdio`: MCP on standard input and output, for clients that can only start a process.
//!
//! It always forwards over HTTP. To the service that `MEMORY_URL` names, else through its Unix socket to the one that
//! serves this database for this user; where there is none, this process serves the database itself, on a free loopback port and behind a
//! token of its own, and tells others through the lock file. So any number of clients share one database, and when
//! the process that serves it ends, the next one takes over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{Mutex, Semaphore, mpsc};

use super::discovery::{self, DiscoveryError, Endpoint};
use super::{Failure, local, runtime, service, start};
use crate::config::{Auth, Credential, Purpose, Settings, Sources, sha256};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::fresh_token;
use crate::http::{Gate, Listener};
use crate::lifecycle::{self, ExitReason, Notifier, Readiness, Role, Sentinel, Supervisor};
use crate::store::StoreError;
use crate::telemetry::Stream;

/// Requests under way at once; further lines wait unread.
const MAX_REQUESTS: usize = 64;
/// How long a request waits for a service that is being restarted.
const LONGEST_ABSENCE: Duration = Duration::from_secs(20);
/// Between two looks for the service.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(sources: &Sources) -> Result<u8, Failure> {
    let (supervisor, notifier, readiness) = (Supervisor::new(), Notifier::to(None, None), Readiness::new());
    let sentinel = Sentinel::start(&supervisor, &notifier, &readiness).map_err(Failure::internal)?;
    let (settings, telemetry) = start(sources, Purpose::Command, Stream::Stderr)?;
    sentinel.before_exit(telemetry.flusher());
    supervisor.set_drain_budget(settings.http.drain_timeout);
    let runtime = runtime()?;
    let reason = runtime.block_on(bridge(settings, &supervisor, &notifier, &readiness))?;
    // Standard input cannot be given up while a read waits in the kernel.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(reason.exit_code())
}

async fn bridge(
    settings: Settings,
    supervisor: &Supervisor,
    notifier: &Notifier,
    readiness: &Readiness,
) -> Result<ExitReason, Failure> {
    let (answers, mut waiting) = mpsc::channel::<String>(MAX_REQUESTS);
    let drain = settings.http.drain_timeout;
    let bridge = Arc::new(Bridge {
        upstream: Mutex::new(None),
        version: std::sync::Mutex::new(None),
        settings,
        supervisor: supervisor.clone(),
        readiness: readiness.clone(),
    });
    // Finding the service now lets a wrong setup fail before the first request.
    bridge.upstream(None).await.map_err(|error| Failure { code: super::UNAVAILABLE, error })?;
    supervisor.spawn("writer", Role::Helper, async move {
        let mut out = tokio::io::stdout();
        while let Some(line) = waiting.recv().await {
            out.write_all(line.as_bytes()).await?;
            out.write_all(b"\n").await?;
            out.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    });
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    let (requests, ending) = (supervisor.clone(), supervisor.clone());
    supervisor.spawn("reader", Role::Helper, async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let (bridge, answers) = (Arc::clone(&bridge), answers.clone());
            let opening = line.contains("\"initialize\"");
            let request = requests.spawn_request("request", async move {
                for answer in bridge.forward(&line).await {
                    if answers.send(answer).await.is_err() {
                        break;
                    }
                }
                drop(place);
            });
            if opening {
                // What follows needs the version that is negotiated here.
                let _ = request.await;
            }
        }
        // The client has closed our input: answer what it still waits for, then end.
        let all = u32::try_from(MAX_REQUESTS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(drain, places.acquire_many(all)).await;
        ending.stop(ExitReason::Finished);
        Ok::<(), std::io::Error>(())
    });
    Ok(lifecycle::run(supervisor, notifier, readiness).await)
}

/// A service and the client that reaches it.
#[derive(Clone)]
struct Upstream {
    endpoint: Endpoint,
    client: reqwest::Client,
}

impl Upstream {
    fn new(endpoint: Endpoint) -> Result<Self, Failure> {
        // No idle connections: one that died with the service would cost the next request its answer.
        let client = endpoint.client().pool_max_idle_per_host(0).build().map_err(Failure::internal)?;
        Ok(Self { endpoint, client })
    }
}

struct Bridge {
    upstream: Mutex<Option<Upstream>>,
    version: std::sync::Mutex<Option<String>>,
    settings: Settings,
    supervisor: Supervisor,
    readiness: Readiness,
}

impl Bridge {
    /// The service to talk to; `failed` is the one that just did not answer.
    async fn upstream(&self, failed: Option<&Upstream>) -> anyhow::Result<Upstream> {
        let mut current = self.upstream.lock().await;
        if let Some(known) =
            current.as_ref().filter(|known| failed.map(|failed| &failed.endpoint) != Some(&known.endpoint))
        {
            return Ok(known.clone());
        }
        let found = Upstream::new(self.find().await?).map_err(|failure| failure.error)?;
        tracing::info!(url = found.endpoint.shown, "forwarding to the service");
        *current = Some(found.clone());
        Ok(found)
    }

    /// The service that is there, or else this process, which then becomes it.
    async fn find(&self) -> anyhow::Result<Endpoint> {
        let end = tokio::time::Instant::now() + LONGEST_ABSENCE;
        loop {
            let error = match discovery::find(&self.settings).await {
                Ok(Some(endpoint)) => return Ok(endpoint),
                Ok(None) => match self.serve_ourselves().await {
                    Ok(endpoint) => return Ok(endpoint),
                    // Another process was faster, and has yet to say where it listens.
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
        let local = local::store(&self.settings)?;
        match local.store.prepare().await {
            Ok(()) => {}
            Err(error @ StoreError::InUse { .. }) => return Err(StartError::InUse(error)),
            // The keeper goes on trying, and tools say what is wrong.
            Err(StoreError::Unavailable { .. }) => {}
            Err(error) => return Err(StartError::Other(error.into())),
        }
        let token = fresh_token().map_err(Failure::internal)?;
        let credential = Credential {
            name: "stdio".to_owned(),
            project: DEFAULT_PROJECT.to_owned(),
            reads: Vec::new(),
            sha256: sha256(&token),
        };
        let gate = |_: &_| Ok(Gate::new(&Auth::Tokens(vec![credential])));
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(address).await.map_err(Failure::internal)?;
        let database = self.readiness.condition("database", "connecting");
        let parts = (&self.supervisor, &self.readiness, database);
        let service =
            service::start(&self.settings, &local, gate, listener, parts, &service::Switches::default()).await?;
        service.door.open(&self.supervisor);
        let url = format!("http://{}/mcp", service.address);
        if let Some(embedded) = &local.embedded {
            embedded.announce(&format!("{url}#{token}")).map_err(Failure::from)?;
        }
        Ok(Endpoint::named(&url, Some(token)))
    }

    /// Sends one line; the answers are lines too. A line that is no request has none.
    async fn forward(&self, line: &str) -> Vec<String> {
        if line.trim().is_empty() {
            return Vec::new();
        }
        let message: Value = match serde_json::from_str(line) {
            Ok(message) => message,
            Err(error) => return vec![fault(&Value::Null, -32700, &format!("this line is not JSON: {error}"))],
        };
        match self.send(&message, line).await {
            Ok(answers) => {
                self.learn_version(&message, &answers);
                answers
            }
            Err(error) => match message.get("id") {
                Some(id) => vec![fault(id, -32000, &format!("{error:#}"))],
                None => Vec::new(),
            },
        }
    }

    async fn send(&self, message: &Value, line: &str) -> anyhow::Result<Vec<String>> {
        let end = tokio::time::Instant::now() + LONGEST_ABSENCE;
        let mut failed = None;
        loop {
            let upstream = self.upstream(failed.as_ref()).await?;
            let mut request =
                upstream.client.post(&upstream.endpoint.url).headers(self.headers(message)).body(line.to_owned());
            if let Some(token) = &upstream.endpoint.token {
                request = request.bearer_auth(token);
            }
            match request.timeout(self.settings.http.request_timeout + Duration::from_secs(10)).send().await {
                Ok(response) => return read(response).await,
                // Nothing was sent, or sending it again does no harm: the process that served may have ended meanwhile.
                Err(error)
                    if (error.is_connect()
                        || (error.is_request() && !error.is_timeout() && is_repeatable(message)))
                        && tokio::time::Instant::now() < end =>
                {
                    failed = Some(upstream);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    return Err(error.without_url()).context(
                        "the memory service was lost during the request, which may or may not have been carried out",
                    );
                }
            }
        }
    }

    /// The headers of Streamable HTTP, which repeat parts of the body from revision 2026-07-28 on.
    fn headers(&self, message: &Value) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let params = &message["params"];
        let negotiated = self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let version =
            params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str().map(str::to_owned).or(negotiated);
        let name = params["name"].as_str().or_else(|| params["uri"].as_str()).or_else(|| params["taskId"].as_str());
        let method = message["method"].as_str();
        let pairs = [("mcp-protocol-version", version.as_deref()), ("mcp-method", method), ("mcp-name", name)];
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
            .find_map(|answer| answer["result"]["protocolVersion"].as_str().map(str::to_owned));
        *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = version;
    }
}

/// Whether a request may be carried out twice: it changes nothing, or the second time finds what the first one did.
fn is_repeatable(message: &Value) -> bool {
    if message["method"] != "tools/call" {
        return true;
    }
    let arguments = &message["params"]["arguments"];
    match message["params"]["name"].as_str().unwrap_or_default() {
        "recall" | "get" | "explore" | "status" | "forget" | "link" => true,
        // What is equal is stored once; a turn without a number could be said twice.
        "remember" => {
            arguments["idempotency_key"].is_string()
                || arguments["items"].as_array().is_some_and(|items| {
                    items.iter().all(|item| item["kind"] != "dialogue" || item["turn"].is_number())
                })
        }
        _ => false,
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

/// The JSON-RPC messages of an answer, one a line.
async fn read(response: reqwest::Response) -> anyhow::Result<Vec<String>> {
    let status = response.status();
    let events = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/event-stream"));
    let body = response.text().await.context("the answer broke off")?;
    if events {
        let data = body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        return Ok(data.filter(|data| !data.is_empty()).map(str::to_owned).collect());
    }
    if body.trim().is_empty() && status.is_success() {
        return Ok(Vec::new());
    }
    match serde_json::from_str::<Value>(&body) {
        Ok(answer) if answer.get("jsonrpc").is_some() => Ok(vec![answer.to_string()]),
        Ok(answer) if answer["error"].is_string() => {
            anyhow::bail!("the memory service answered {status}: {}", answer["error"].as_str().unwrap_or_default())
        }
        _ => anyhow::bail!("the memory service answered {status}: {}", body.chars().take(200).collect::<String>()),
    }
}

fn fault(id: &Value, code: i64, message: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string()
}
