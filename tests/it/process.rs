//! The real program as a user or systemd runs it: a clean environment, its log, its signals, a notify socket, and a
//! small MCP client.
//!
//! Every wait ends with a condition, or fails after [`PATIENCE`] with the log of the program.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Maximum wait for any condition; long, because many tests share the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A home folder and an environment in which the program may be started several times.
pub(crate) struct Setup {
    home: Arc<TempDir>,
    env: BTreeMap<OsString, OsString>,
}

impl Setup {
    /// Uses a free port and otherwise the defaults.
    pub(crate) fn new() -> Self {
        let setup = Self {
            home: Arc::new(tempfile::tempdir().expect("a temporary folder")),
            env: BTreeMap::new(),
        };
        // Only tests of fetching may fetch a model.
        setup
            .env("MEMORY_LISTEN", "127.0.0.1:0")
            .env("MEMORY_EMBEDDER", "none")
            // Nothing listens there, so no test asks the public hub.
            .env("HF_ENDPOINT", "http://127.0.0.1:1")
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// Returns a path in the home folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file to the home folder.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Writes a file to the user's configuration directory.
    pub(crate) fn config_file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.file(&format!(".config/cognitive-memory-mcp/{name}"), text)
    }

    /// Returns the path of the embedded database.
    pub(crate) fn database(&self) -> PathBuf {
        self.path("share/cognitive-memory-mcp/memory.db")
    }

    /// Returns the program with these arguments, without the environment of the tests.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrapped(&[], args)
    }

    /// Returns the program as started by another program.
    pub(crate) fn wrapped(&self, wrapper: &[&str], args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_cognitive-memory-mcp");
        let mut line = wrapper
            .iter()
            .copied()
            .chain([program])
            .chain(args.iter().copied());
        let mut command = Command::new(line.next().expect("a program"));
        command
            .args(line)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.path("share"))
            .envs(&self.env)
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args))
    }

    /// Starts `serve` without waiting for it.
    pub(crate) fn start(&self) -> Server {
        let mut server = Server::start(self.command(&["serve"]));
        server.home = Some(Arc::clone(&self.home));
        server
    }

    /// Starts `serve` and waits until it serves.
    pub(crate) async fn serve(&self) -> Server {
        let mut server = self.start();
        server.serving().await;
        server
    }
}

/// The output and exit code of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let end = Instant::now() + PATIENCE;
        // Read concurrently, because a pipe holds at most 64 KiB.
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "{command:?} does not end: {} {}",
                    said(stdout),
                    said(stderr)
                );
            }
            std::thread::sleep(LOOK_EVERY);
        };
        Self {
            code: status.code(),
            stdout: said(stdout),
            stderr: said(stderr),
        }
    }
}

/// Reads a pipe to its end on a separate thread.
fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("a pipe");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes)
            .expect("what it says can be read");
        bytes
    })
}

fn said(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8(reader.join().expect("a reader")).expect("text")
}

/// Waits until `look` returns a value.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Lines of a running program.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn read(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                lines
                    .0
                    .lock()
                    .expect("no panic")
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().expect("no panic").join("\n")
    }

    /// Returns the lines that are JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.0
            .lock()
            .expect("no panic")
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// A running process, killed when dropped.
pub(crate) struct Server {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    base: String,
    /// The service ends when its database is deleted, so the folder must live as long.
    home: Option<Arc<TempDir>>,
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![
            stdout.read(child.stdout.take().expect("a pipe")),
            stderr.read(child.stderr.take().expect("a pipe")),
        ];
        Self {
            child,
            readers,
            stdout,
            stderr,
            base: String::new(),
            home: None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        format!("{}\n{}", self.stdout.text(), self.stderr.text())
    }

    /// Waits for the log line with the address of the service.
    pub(crate) async fn serving(&mut self) {
        let line = self.logged("serving").await;
        let url = line["url"].as_str().expect("an address");
        self.base = url.strip_suffix("/mcp").expect("the endpoint").to_owned();
    }

    /// Waits for a line with this message.
    pub(crate) async fn logged(&mut self, message: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self
                .stdout
                .json()
                .into_iter()
                .find(|line| line["message"] == message)
            {
                return line;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(
                ended.is_none(),
                "it ended with {ended:?} before it said {message:?}:\n{}",
                self.log()
            );
            assert!(
                Instant::now() < end,
                "it never said {message:?}:\n{}",
                self.log()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        assert!(!self.base.is_empty(), "it does not serve yet");
        format!("{}{path}", self.base)
    }

    /// Returns host and port.
    pub(crate) fn authority(&self) -> &str {
        self.base.strip_prefix("http://").expect("an address")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.url("/mcp"))
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for the end of the process and of its log.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        status
    }

    /// Kills the process, as a power failure would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().expect("a child");
        self.ended().await;
    }

    /// Stops the process in order.
    pub(crate) async fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.log()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .expect("a shell");
    assert!(status.success(), "kill -{name} {pid}");
}

/// A client of one MCP endpoint.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(url: String) -> Self {
        let http = plain_client().timeout(PATIENCE).build().expect("a client");
        Self {
            http,
            url,
            token: None,
        }
    }

    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Returns a request with the usual headers, which the caller may change.
    pub(crate) fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let mut request = self
            .http
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request
    }

    /// Sends a JSON-RPC request and returns the whole answer.
    pub(crate) async fn try_request(&self, method: &str, params: Value) -> reqwest::Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.post(body.to_string())
            .send()
            .await?
            .error_for_status()?
            .json()
            .await
    }

    /// Calls a tool and returns the whole answer, or the reason why there is none.
    pub(crate) async fn try_call(&self, tool: &str, arguments: Value) -> reqwest::Result<Value> {
        self.try_request(
            "tools/call",
            json!({ "name": tool, "arguments": arguments }),
        )
        .await
    }

    /// Calls a tool that must succeed and returns its structured content.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let answer = self.try_call(tool, arguments).await.expect("an answer");
        assert_eq!(answer["result"]["isError"], false, "{answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// Stores a note and returns its ID.
    pub(crate) async fn remember(&self, content: &str) -> String {
        let stored = self
            .call("remember", json!({ "items": [{ "content": content }] }))
            .await;
        stored["memories"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    }
}

/// Sends GET without an MCP client. Returns status, headers and text.
pub(crate) async fn get(url: &str) -> (u16, reqwest::header::HeaderMap, String) {
    let client = plain_client().timeout(PATIENCE).build().expect("a client");
    let response = client.get(url).send().await.expect("an answer");
    (
        response.status().as_u16(),
        response.headers().clone(),
        response.text().await.expect("text"),
    )
}

/// Replaces conmon and systemd: collects the lines that conmon relays, with their times, and those that it would drop.
pub(crate) struct Systemd {
    folder: TempDir,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    relayed: Vec<(Instant, String)>,
    dropped: Vec<String>,
}

/// Returns whether conmon 2.1 relays the line.
fn is_relayed(line: &str) -> bool {
    const WHOLE: [&str; 5] = [
        "READY=1",
        "STOPPING=1",
        "RELOADING=1",
        "WATCHDOG=1",
        "WATCHDOG=trigger",
    ];
    const BEGINNING: [&str; 4] = ["STATUS=", "ERRNO=", "BUSERROR=", "MONOTONIC_USEC="];
    WHOLE.contains(&line)
        || BEGINNING
            .iter()
            .any(|beginning| line.starts_with(beginning))
}

impl Systemd {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        let heard = Arc::<Mutex<Heard>>::default();
        let weak = Arc::downgrade(&heard);
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a timeout");
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            // Until the test ends.
            while let Some(heard) = weak.upgrade() {
                drop(heard);
                let Ok(length) = socket.recv(&mut buffer) else {
                    continue;
                };
                let (now, text) = (
                    Instant::now(),
                    String::from_utf8_lossy(&buffer[..length]).into_owned(),
                );
                let Some(heard) = weak.upgrade() else { return };
                let mut heard = heard.lock().expect("no panic");
                for line in text.lines() {
                    if is_relayed(line) {
                        heard.relayed.push((now, line.to_owned()));
                    } else {
                        heard.dropped.push(line.to_owned());
                    }
                }
            }
        });
        Self { folder, heard }
    }

    /// Returns a setup that sends its notifications here.
    pub(crate) fn setup(&self) -> Setup {
        Setup::new().env("NOTIFY_SOCKET", self.folder.path().join("notify"))
    }

    /// Returns every line with its time.
    pub(crate) fn lines(&self) -> Vec<(Instant, String)> {
        let heard = self.heard.lock().expect("no panic");
        assert!(
            heard.dropped.is_empty(),
            "conmon would drop {:?}",
            heard.dropped
        );
        heard.relayed.clone()
    }

    /// Returns the times of this line.
    pub(crate) fn times(&self, line: &str) -> Vec<Instant> {
        self.lines()
            .into_iter()
            .filter(|(_, heard)| heard == line)
            .map(|(at, _)| at)
            .collect()
    }

    /// Returns the latest status.
    pub(crate) fn status(&self) -> String {
        let lines = self.lines();
        lines
            .iter()
            .rev()
            .find_map(|(_, line)| line.strip_prefix("STATUS="))
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) async fn heard(&self, line: &str) -> Instant {
        eventually(line, || self.times(line).first().copied()).await
    }
}

/// A connection for data that no client library would send.
pub(crate) struct Wire {
    stream: tokio::net::TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(server: &Server) -> Self {
        let stream = tokio::net::TcpStream::connect(server.authority())
            .await
            .expect("a connection");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        use tokio::io::AsyncWriteExt;
        self.stream
            .write_all(text.as_bytes())
            .await
            .expect("an open connection");
    }

    /// Reads until this text arrives.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        self.read(text, |read| read.contains(text)).await
    }

    /// Reads until the peer closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        self.read("the end", |_| false).await
    }

    async fn read(&mut self, what: &str, enough: impl Fn(&str) -> bool) -> String {
        use tokio::io::AsyncReadExt;
        loop {
            let read = String::from_utf8_lossy(&self.read).into_owned();
            if enough(&read) {
                return read;
            }
            let more = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            match more.unwrap_or_else(|_| panic!("never: {what}; only {read:?}")) {
                Ok(0) | Err(_) => return read,
                Ok(_) => {}
            }
        }
    }
}

/// Connections on this machine need no certificates, but reqwest needs a TLS configuration.
fn plain_client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}
