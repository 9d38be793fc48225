//! The HTTP interface of the running service: access, refusals, and the texts that a model reads first.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use crate::process::{Client, Server, Setup, Wire, get};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
/// Maximum size of the tool descriptions that a model reads before its first call.
const MOST_BYTES_OF_TOOLS: usize = 14_000;
const MOST_TOKENS_OF_TOOLS: usize = 4_000;

async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.expect("an answer").status().as_u16()
}

/// Sends a raw request and returns status and text; the answer closes the connection.
async fn raw(server: &Server, request: &str) -> String {
    let mut wire = Wire::connect(server).await;
    wire.write(request).await;
    wire.read_to_end().await
}

fn listing(headers: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{headers}\r\n{LIST}",
        LIST.len()
    )
}

#[tokio::test]
async fn hosts_and_origins_are_checked() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let own = server.authority().to_owned();
    let refused = "HTTP/1.1 403 Forbidden";
    for (headers, expected) in [
        (format!("Host: {own}\r\n"), "HTTP/1.1 200 OK"),
        ("Host: localhost\r\n".to_owned(), "HTTP/1.1 200 OK"),
        ("Host: LOCALHOST:8765\r\n".to_owned(), "HTTP/1.1 200 OK"),
        ("Host: [::1]:8765\r\n".to_owned(), "HTTP/1.1 200 OK"),
        ("Host: rebound.example\r\n".to_owned(), refused),
        ("Host: localhost.rebound.example\r\n".to_owned(), refused),
        ("Host: 127.0.0.1.rebound.example:80\r\n".to_owned(), refused),
        (String::new(), "HTTP/1.1 400"),
        (
            format!("Host: {own}\r\nOrigin: https://evil.example\r\n"),
            refused,
        ),
        // Requests from web pages are refused, even from pages of this machine.
        (
            format!("Host: {own}\r\nOrigin: http://localhost:3000\r\n"),
            refused,
        ),
        (format!("Host: {own}\r\nOrigin: null\r\n"), refused),
    ] {
        let answer = raw(&server, &listing(&headers)).await;
        assert!(answer.starts_with(expected), "{headers:?}: {answer}");
        assert_eq!(
            answer.contains("\"tools\""),
            expected.contains("200"),
            "{headers:?}"
        );
    }
    server.stop().await;

    let setup = Setup::new()
        .env("MEMORY_ALLOWED_HOSTS", "memory.example.org")
        .env("MEMORY_ALLOWED_ORIGINS", "https://app.example.org");
    let server = setup.serve().await;
    for (headers, expected) in [
        (
            "Host: memory.example.org\r\nOrigin: https://app.example.org\r\n",
            "HTTP/1.1 200 OK",
        ),
        (
            "Host: memory.example.org\r\nOrigin: http://app.example.org\r\n",
            refused,
        ),
        (
            "Host: memory.example.org\r\nOrigin: https://app.example.org.evil.example\r\n",
            refused,
        ),
        // The configured list replaces the default.
        ("Host: localhost\r\n", refused),
    ] {
        let answer = raw(&server, &listing(headers)).await;
        assert!(answer.starts_with(expected), "{headers:?}: {answer}");
    }
    // Container engines and load balancers check health under any host name.
    assert_eq!(get(&server.url("/health/live")).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let setup = Setup::new().env("MEMORY_MAX_BODY_BYTES", "4096");
    let server = setup.serve().await;
    let client = server.client();
    let fits = json!({ "items": [{ "content": "x".repeat(3000) }] });
    assert_eq!(client.call("remember", fits).await["created"], 1);
    let large = "x".repeat(5000);
    assert_eq!(status(client.post(large.clone())).await, 413);
    // Without a length in the head.
    let parts = futures_util::stream::iter(vec![large; 3]).map(Ok::<_, std::io::Error>);
    assert_eq!(
        status(client.post(reqwest::Body::wrap_stream(parts))).await,
        413
    );
    assert_eq!(client.call("status", json!({})).await["memories"], 1);
    server.stop().await;
}

#[tokio::test]
async fn nothing_waits_for_ever() {
    let setup = Setup::new().env("MEMORY_REQUEST_TIMEOUT", "1");
    let server = setup.serve().await;
    let client = server.client();
    client.remember("something").await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(setup.database());
    let mut other = options.connect().await.expect("the database");
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .expect("the lock");
    let start = Instant::now();
    let mut slow = Wire::connect(&server).await;
    slow.write(&format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: 100\r\n\r\n{{",
        server.authority()
    ))
    .await;
    let answer = client
        .try_call("remember", json!({ "items": [{ "content": "too late" }] }))
        .await
        .expect("an answer");
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert_eq!(
        answer["result"]["structuredContent"]["error"]["code"], "timeout",
        "{answer}"
    );
    // Reads are not blocked by a client that writes.
    assert_eq!(client.call("status", json!({})).await["memories"], 1);
    sqlx::raw_sql("COMMIT")
        .execute(&mut other)
        .await
        .expect("the end of the lock");
    other.close().await.expect("closed");
    client.remember("in time").await;
    let answer = slow.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn figures_for_a_monitor() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    client.remember("counted").await;
    client.remember("counted, too").await;
    let refused = client
        .try_call("remember", json!({ "items": [] }))
        .await
        .expect("an answer");
    assert_eq!(
        refused["result"]["structuredContent"]["error"]["code"], "invalid_argument",
        "{refused}"
    );
    let (code, headers, text) = get(&server.url("/metrics")).await;
    assert_eq!(code, 200);
    assert_eq!(
        headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    for line in [
        "cognitive_memory_ready 1",
        "cognitive_memory_check{check=\"database\"} 1",
        "cognitive_memory_index_backlog 2",
        "cognitive_memory_tool_calls_total{tool=\"remember\",outcome=\"ok\"} 2",
        "cognitive_memory_tool_calls_total{tool=\"remember\",outcome=\"invalid_argument\"} 1",
        "cognitive_memory_tool_call_duration_seconds_count{tool=\"remember\"} 3",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line} expected: {text}"
        );
    }
}

#[tokio::test]
async fn other_paths_methods_and_sessions() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    let (code, headers, text) = get(&server.url("/sse")).await;
    assert_eq!(code, 404);
    assert_eq!(headers["content-type"], "application/json");
    let text: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        text["error"],
        "unknown path; MCP is at /mcp, health at /health/live and /health/ready, metrics at /metrics"
    );

    for method in ["GET", "DELETE", "PUT", "PATCH"] {
        let request = format!(
            "{method} /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: text/event-stream\r\n\r\n"
        );
        let answer = raw(&server, &request).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
        assert!(
            answer.to_lowercase().contains("allow: post"),
            "{method}: {answer}"
        );
    }
    // A client with a session of an earlier process continues, whatever protocol revision it uses.
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let request = client
            .post(LIST)
            .header("mcp-session-id", "of-an-earlier-life")
            .header("mcp-protocol-version", version);
        assert_eq!(status(request).await, 200, "{version}");
        let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } });
        let answer = client
            .try_request("initialize", params)
            .await
            .expect("an answer");
        assert_eq!(answer["result"]["protocolVersion"], version);
        assert_eq!(
            answer["result"]["serverInfo"]["name"],
            "cognitive-memory-mcp"
        );
        assert!(
            answer["result"]["instructions"]
                .as_str()
                .is_some_and(|text| text.contains("recall"))
        );
        let done = client.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(status(done).await, 202);
    }
    server.stop().await;
}

#[tokio::test]
async fn faults_of_the_protocol_are_json_rpc_errors() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let client = server.client();
    for (body, code, http) in [
        (r#"{"jsonrpc":"2.0","id":1"#, -32700, 400),
        ("no json at all", -32700, 400),
        (r#"{"jsonrpc":"2.0","id":1,"method":"nope"}"#, -32601, 200),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nope","arguments":{}}}"#,
            -32602,
            200,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"recall","arguments":"words"}}"#,
            -32602,
            200,
        ),
    ] {
        let response = client.post(body).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), http, "{body}");
        let text = response.text().await.expect("text");
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{body}: no JSON: {text}"));
        assert_eq!(answer["error"]["code"], code, "{body}: {answer}");
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|message| message.len() > 10),
            "{body}: {answer}"
        );
    }
    let odd = client
        .post(LIST)
        .header("mcp-protocol-version", "1999-01-01")
        .send()
        .await
        .expect("an answer");
    assert_eq!(odd.status().as_u16(), 400);
    let answer: Value = odd.json().await.expect("JSON");
    assert!(
        answer["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("1999-01-01")),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn every_answer_carries_the_id_of_its_request() {
    let setup = Setup::new();
    let mut server = setup.serve().await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "status" } }).to_string();
    let response = server.client().post(call).send().await.expect("an answer");
    let id = response.headers()["x-request-id"]
        .to_str()
        .expect("text")
        .to_owned();
    assert_eq!(
        uuid::Uuid::parse_str(&id).expect("an id").get_version_num(),
        7
    );
    assert_eq!(server.logged("tool call").await["request_id"], id.as_str());
    for path in ["/health/live", "/nowhere", "/mcp"] {
        let other = get(&server.url(path)).await.1["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned();
        assert_ne!(other, id, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn only_holders_of_a_token_get_in() {
    const PLAIN: &str = "plain-token-0123456789";
    const HASHED: &str = "hashed-token-0123456789";
    let setup = Setup::new();
    let hash: String = cognitive_memory_mcp::config::sha256(HASHED)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let file = setup.file(
        "tokens",
        format!("# one a line\nlaptop {PLAIN}\n\ndesktop sha256:{hash} project=work\n"),
    );
    let setup = setup
        .env("MEMORY_TOKENS_FILE", file)
        .env("ENVIRONMENT", "production");
    let setup = setup.env("MEMORY_DATABASE_URL", "sqlite:memory.db");
    let mut server = setup.serve().await;

    let open = |authorization: Option<&str>| {
        let request = server.client().post(LIST);
        match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    };
    let near = format!("Bearer {}", &PLAIN[..PLAIN.len() - 1]);
    let mut bodies = Vec::new();
    for wrong in [
        None,
        Some("Bearer "),
        Some("Basic bGFwdG9wOng="),
        Some(&*near),
        Some("Bearer x"),
        Some(PLAIN),
    ] {
        let response = open(wrong).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 401, "{wrong:?}");
        let challenge = response.headers()["www-authenticate"]
            .to_str()
            .expect("text");
        let told = if wrong.is_some() {
            ", error=\"invalid_token\""
        } else {
            ""
        };
        assert_eq!(
            challenge,
            format!("Bearer realm=\"cognitive-memory-mcp\"{told}")
        );
        assert!(response.headers().contains_key("x-request-id"));
        bodies.push(response.text().await.expect("text"));
    }
    assert!(
        bodies[0].contains("Authorization: Bearer TOKEN"),
        "{}",
        bodies[0]
    );
    assert_eq!(
        bodies[3], bodies[4],
        "the answer does not tell how near a token was"
    );
    // The hash is not accepted as a token.
    assert_eq!(status(open(Some(&format!("Bearer {hash}")))).await, 401);
    assert_eq!(
        status(open(Some(&format!("Bearer sha256:{hash}")))).await,
        401
    );
    assert_eq!(
        status(open(Some(&format!("bearer {PLAIN}")))).await,
        200,
        "the scheme has no case"
    );

    check_projects_of_tokens(&mut server, PLAIN, HASHED).await;
    // Health checks need no token.
    assert_eq!(get(&server.url("/health/live")).await.0, 200);
    assert_eq!(get(&server.url("/health/ready")).await.0, 200);
    let log = server.stop().await;
    for secret in [PLAIN, HASHED, &hash, &near["Bearer ".len()..]] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

async fn check_projects_of_tokens(server: &mut Server, laptop: &str, desktop: &str) {
    let (laptop, desktop) = (
        server.client().with_token(laptop),
        server.client().with_token(desktop),
    );
    let id = laptop.remember("only for the default project").await;
    let foreign = desktop.call("get", json!({ "ids": [id] })).await;
    assert_eq!(
        foreign["missing"],
        json!([id]),
        "projects do not see each other"
    );
    assert_eq!(desktop.call("status", json!({})).await["project"], "work");
    let line = server.logged("tool call").await;
    assert_eq!(
        (&line["actor"], &line["project"]),
        (&json!("laptop"), &json!("default"))
    );
}

#[tokio::test]
async fn what_a_model_reads_first() {
    let setup = Setup::new();
    let server = setup.serve().await;
    let text = server
        .client()
        .post(LIST)
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(
        text.len() <= MOST_BYTES_OF_TOOLS,
        "tools/list has {} bytes",
        text.len()
    );
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    let tools = answer["result"]["tools"].as_array().expect("tools");
    for tool in tools {
        for schema in ["inputSchema", "outputSchema"] {
            assert_eq!(tool[schema]["type"], "object", "{}: {schema}", tool["name"]);
        }
        // A missing hint has the protocol's default, which is never the harmless value by mistake.
        let hints = tool["annotations"].as_object().expect("hints");
        let harmless = hints.get("readOnlyHint") == Some(&Value::Bool(true));
        assert!(
            harmless || hints.contains_key("destructiveHint"),
            "{}",
            tool["name"]
        );
    }
    // Tokenizers need at least three and a half characters of such text per token.
    let tokens = text.len() * 2 / 7;
    assert!(
        tokens <= MOST_TOKENS_OF_TOOLS,
        "tools/list has about {tokens} tokens"
    );
    insta::assert_json_snapshot!("tools", answer["result"]["tools"]);
    let client: Client = server.client();
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let mut hello = client
        .try_request("initialize", params)
        .await
        .expect("an answer");
    hello["result"]["serverInfo"]["version"] = "[version]".into();
    insta::assert_json_snapshot!("initialize", hello["result"]);
    server.stop().await;
}
