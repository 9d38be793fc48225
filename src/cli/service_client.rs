//! Access to the memory for the commands for people: the running service over MCP, found in the same way as by `stdio`;
//! without a service, the database itself, through the same tool layer in this process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::discovery::{self, Endpoint};
use super::open_store::create_store;
use super::terminal::entries;
use super::{
    CONFIGURATION, Failure, INTERNAL, UNAVAILABLE, USAGE, fail, http_client, option_name, service,
};
use crate::config::{Database, Settings, is_credential_name};
use crate::domain::Scope;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::engine::Engine;
use crate::mcp::Identity;
use crate::store::Store;

/// Media types that an MCP client accepts.
const ACCEPTED: &str = "application/json, text/event-stream";

/// The location of the tools.
pub(super) enum Memory {
    /// In a service.
    Service(ServiceClient),
    /// In this process.
    Here(Box<Here>),
}

pub(super) struct ServiceClient {
    client: reqwest::Client,
    endpoint: Endpoint,
    /// The project that the owner selected; otherwise the token determines it.
    project: Option<String>,
}

pub(super) struct Here {
    engine: Arc<Engine>,
    store: Arc<dyn Store>,
    router: Router,
    host: String,
    scope: Arc<Scope>,
}

/// The answer of a tool.
#[derive(Debug)]
pub(super) struct ToolAnswer {
    /// The text for a model.
    pub(super) text: String,
    pub(super) structured: Value,
}

/// The reason why a tool failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    /// The stable code of the error.
    pub(super) code: String,
    message: String,
}

impl Memory {
    /// Opens the memory in a project; by default, in that of the token or in `default`.
    pub(super) async fn open(settings: &Settings, project: Option<&str>) -> Result<Self, Failure> {
        if let Some(project) = project.filter(|project| !is_credential_name(project)) {
            fail!(
                USAGE,
                "--project: expected a name of letters, digits, `-`, `_` and `.`, got {project:?}"
            );
        }
        match (ServiceClient::find(settings).await?, project) {
            (Some(service), Some(project)) => Ok(Self::Service(service.in_project(project).await?)),
            (Some(service), None) => Ok(Self::Service(service)),
            (None, project) => Ok(Self::Here(Box::new(Here::open(settings, project).await?))),
        }
    }

    /// Calls a tool and returns its structured answer.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Failure> {
        Ok(self.ask(tool, arguments).await?.structured)
    }

    /// Calls a tool.
    pub(super) async fn ask(&self, tool: &str, arguments: Value) -> Result<ToolAnswer, Failure> {
        match self {
            Self::Service(service) => service.ask(tool, arguments).await,
            Self::Here(here) => here.ask(tool, arguments).await,
        }
    }

    /// Opens the memory for a caller that must not wait: without a service, only a database that exists and needs no
    /// migration. Returns `None` if nothing is stored yet.
    pub(super) async fn open_without_waiting(
        settings: &Settings,
        project: Option<&str>,
    ) -> Result<Option<Self>, Failure> {
        if ServiceClient::find(settings).await?.is_none() {
            if matches!(&settings.database, Database::Sqlite { path } if !path.exists()) {
                return Ok(None);
            }
            let pending = create_store(settings)?.store.pending_migrations().await?;
            if !pending.is_empty() {
                fail!(
                    UNAVAILABLE,
                    "the database needs migrations, which `serve` and `migrate` apply"
                );
            }
        }
        Ok(Some(Self::open(settings, project).await?))
    }

    /// Returns the text of a prompt.
    pub(super) async fn read_prompt(
        &self,
        prompt: &str,
        arguments: Value,
    ) -> Result<String, Failure> {
        let request = rpc_request("prompts/get", prompt, arguments);
        let reply = match self {
            Self::Service(service) => service.post(request).await?,
            Self::Here(here) => here.post(request).await?,
        };
        let answer = reply.read_result()?;
        let text = answer["messages"][0]["content"]["text"].as_str();
        Ok(text.unwrap_or_default().to_owned())
    }

    /// Writes pending notes and closes the store.
    pub(super) async fn close(self) {
        if let Self::Here(here) = self {
            // Losing a usage record loses no memory.
            let _ = here.engine.flush_recall_notes().await;
            here.store.close().await;
        }
    }
}

impl ServiceClient {
    /// Finds the service that `MEMORY_URL` names, or this user's service on this machine.
    pub(super) async fn find(settings: &Settings) -> Result<Option<Self>, Failure> {
        discovery::find_service(settings)
            .await?
            .map(|endpoint| Self::at(settings, endpoint))
            .transpose()
    }

    /// Creates a client for a known endpoint.
    pub(super) fn at(settings: &Settings, endpoint: Endpoint) -> Result<Self, Failure> {
        let timeout = settings.http.request_timeout + Duration::from_secs(10);
        let client = endpoint
            .client_builder()
            .timeout(timeout)
            .build()
            .map_err(Failure::internal)?;
        Ok(Self {
            client,
            endpoint,
            project: None,
        })
    }

    /// Returns the service for one project. Its owner may select any; over the network the token determines it.
    async fn in_project(mut self, project: &str) -> Result<Self, Failure> {
        self.project = self.endpoint.is_socket().then(|| project.to_owned());
        let status = self.call("status", json!({})).await?;
        let actual = status["project"].as_str().unwrap_or_default();
        if actual == project {
            return Ok(self);
        }
        fail!(
            USAGE,
            "the service at {} uses project {actual:?}, which the token decides; to use project {project:?}, set \
             MEMORY_TOKEN to a token for it (`cognitive-memory-mcp token create NAME --project {project}`)",
            self.endpoint.shown
        )
    }

    /// Returns the location for display.
    pub(super) fn place(&self) -> &str {
        &self.endpoint.shown
    }

    /// Calls a tool and returns its structured answer.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Failure> {
        Ok(self.ask(tool, arguments).await?.structured)
    }

    async fn ask(&self, tool: &str, arguments: Value) -> Result<ToolAnswer, Failure> {
        let request = rpc_request("tools/call", tool, arguments);
        self.post(request).await?.read_tool_answer(tool)
    }

    async fn post(&self, body: String) -> Result<Reply, Failure> {
        let mut request = self
            .client
            .post(&self.endpoint.url)
            .header(header::ACCEPT, ACCEPTED)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(token) = &self.endpoint.token {
            request = request.bearer_auth(token);
        }
        if let Some(project) = &self.project {
            request = request.header(service::PROJECT_HEADER, project);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.describe_unreachable(error))?;
        let status = response.status().as_u16();
        let text = http_client::bounded_text(response).await;
        let text = text.with_context(|| {
            format!(
                "the answer of the service at {} cannot be read",
                self.endpoint.shown
            )
        });
        let text = text.map_err(|error| Failure::new(UNAVAILABLE, error))?;
        Ok(Reply {
            place: format!("the service at {}", self.endpoint.shown),
            status,
            text,
        })
    }

    fn describe_unreachable(&self, error: reqwest::Error) -> Failure {
        let place = &self.endpoint.shown;
        let error = if error.is_connect() {
            anyhow!("No service at {place}. Start it with: cognitive-memory-mcp serve")
        } else if error.is_timeout() {
            anyhow!("the service at {place} did not answer in time")
        } else {
            anyhow::Error::from(error.without_url())
                .context(format!("the service at {place} did not answer"))
        };
        Failure::new(UNAVAILABLE, error)
    }
}

impl Here {
    async fn open(settings: &Settings, project: Option<&str>) -> Result<Self, Failure> {
        let local = create_store(settings)?;
        local.store.prepare().await?;
        let (engine, router) = service::without_listener(settings, &local);
        let scope = Arc::new(Scope::new(
            project.unwrap_or(DEFAULT_PROJECT),
            service::OWNER,
        ));
        let host = settings
            .http
            .allowed_hosts
            .first()
            .cloned()
            .unwrap_or_else(|| "localhost".to_owned());
        Ok(Self {
            engine,
            store: local.store,
            router,
            host,
            scope,
        })
    }

    async fn ask(&self, tool: &str, arguments: Value) -> Result<ToolAnswer, Failure> {
        let request = rpc_request("tools/call", tool, arguments);
        self.post(request).await?.read_tool_answer(tool)
    }

    async fn post(&self, body: String) -> Result<Reply, Failure> {
        let mut request = Request::post("/mcp")
            .header(header::HOST, &self.host)
            .header(header::ACCEPT, ACCEPTED)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(Failure::internal)?;
        request
            .extensions_mut()
            .insert(Identity(Arc::clone(&self.scope)));
        let Ok(response) = self.router.clone().oneshot(request).await;
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| Failure::internal(anyhow!("{error}")))?;
        Ok(Reply {
            place: "this program".to_owned(),
            status,
            text: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    }
}

fn rpc_request(method: &str, name: &str, arguments: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": { "name": name, "arguments": arguments } })
        .to_string()
}

/// An answer over HTTP.
struct Reply {
    /// The program that answered, for messages.
    place: String,
    status: u16,
    text: String,
}

impl Reply {
    /// Returns the result of the request.
    fn read_result(&self) -> Result<Value, Failure> {
        let Self { place, status, .. } = self;
        let mut answer: Value = serde_json::from_str(&self.text)
            .with_context(|| {
                format!("{place} answered with status {status}, but is not an MCP server")
            })
            .map_err(|error| Failure::new(UNAVAILABLE, error))?;
        if let Some(error) = answer["error"].as_str() {
            let hint = match status {
                401 | 403 => "; set MEMORY_TOKEN, or MEMORY_TOKEN_FILE, to a token of this service",
                _ => "",
            };
            fail!(
                UNAVAILABLE,
                "{place} answered with status {status}: {error}{hint}"
            );
        }
        if let Some(message) = answer["error"]["message"].as_str() {
            fail!(INTERNAL, "{message}");
        }
        // Another program may answer with any JSON.
        Ok(take_field(&mut answer, "result"))
    }

    /// Reads the answer of a tool.
    fn read_tool_answer(&self, tool: &str) -> Result<ToolAnswer, Failure> {
        let mut result = self.read_result()?;
        if result["isError"] == true {
            return Err(read_refusal(tool, &result));
        }
        Ok(ToolAnswer {
            text: result["content"][0]["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            structured: take_field(&mut result, "structuredContent"),
        })
    }
}

/// Takes a field out of an object; null if there is none.
fn take_field(value: &mut Value, name: &str) -> Value {
    value.get_mut(name).map(Value::take).unwrap_or_default()
}

/// Reads the refusal of a tool, without the parts that only a model can use.
fn read_refusal(tool: &str, result: &Value) -> Failure {
    let error = &result["structuredContent"]["error"];
    let code = error["code"].as_str().unwrap_or("internal").to_owned();
    let message = error["message"]
        .as_str()
        .or(result["content"][0]["text"].as_str())
        .unwrap_or("the tool failed");
    let problems: Vec<&str> = entries(error, "problems")
        .filter_map(|problem| problem["message"].as_str())
        .collect();
    let message = option_name::in_words_of_command(tool, message, &problems);
    let exit = match code.as_str() {
        "database_unavailable" | "timeout" => UNAVAILABLE,
        "database_setup" => CONFIGURATION,
        "internal" => INTERNAL,
        _ => USAGE,
    };
    Failure {
        code: exit,
        error: Refused { code, message }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, answer: &Value) -> Failure {
        let reply = Reply {
            place: "the service at X".to_owned(),
            status,
            text: answer.to_string(),
        };
        reply.read_tool_answer("remember").expect_err("a failure")
    }

    #[test]
    fn any_json_of_another_program_is_read() {
        for answer in [
            json!(null),
            json!([1]),
            json!("text"),
            json!({ "result": [] }),
        ] {
            let reply = Reply {
                place: "the service at X".to_owned(),
                status: 200,
                text: answer.to_string(),
            };
            let read = reply.read_tool_answer("remember").expect("an answer");
            assert_eq!((read.text.as_str(), read.structured), ("", json!(null)));
        }
    }

    #[test]
    fn errors_of_tools_keep_their_code_and_lose_the_words_for_models() {
        let error = json!({ "code": "invalid_argument", "message": "items[0].kind: expected a kind, got \"x\"",
            "advice": "Correct the argument and call again; nothing was stored." });
        let refused = failure(
            200,
            &json!({ "result": { "isError": true, "structuredContent": { "error": error } } }),
        );
        assert_eq!(
            (refused.code, refused.error.to_string().as_str()),
            (USAGE, "--kind: expected a kind, got \"x\"")
        );
        let error = json!({ "code": "database_unavailable", "message": "no database" });
        let absent = failure(
            200,
            &json!({ "result": { "isError": true, "structuredContent": { "error": error } } }),
        );
        assert_eq!(absent.code, UNAVAILABLE);
    }

    #[test]
    fn a_missing_token_is_a_matter_of_the_setup() {
        let refused = failure(401, &json!({ "error": "no token" }));
        assert_eq!(refused.code, UNAVAILABLE);
        assert!(
            refused.error.to_string().contains("MEMORY_TOKEN"),
            "{}",
            refused.error
        );
    }

    #[test]
    fn an_answer_of_another_program_is_not_read() {
        let reply = Reply {
            place: "the service at X".to_owned(),
            status: 200,
            text: "<html>".to_owned(),
        };
        let refused = reply.read_tool_answer("remember").expect_err("a failure");
        assert!(
            refused.error.to_string().contains("is not an MCP server"),
            "{}",
            refused.error
        );
    }
}
