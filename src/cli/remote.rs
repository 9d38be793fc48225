//! The memory as the commands for people reach it: the running service over MCP, found as `stdio` finds it; where
//! there is none, the database itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::discovery::{self, Endpoint};
use super::{Failure, INTERNAL, UNAVAILABLE, USAGE, local};
use crate::config::Settings;
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::{Scope, SystemClock};
use crate::engine::{Call, Engine, EngineError};
use crate::store::Store;

/// Where the tools are.
pub(super) enum Memory {
    /// In a service.
    Service(Service),
    /// In this process.
    Here(Box<Here>),
}

pub(super) struct Service {
    client: reqwest::Client,
    endpoint: Endpoint,
}

pub(super) struct Here {
    engine: Engine,
    store: Arc<dyn Store>,
    call: Call,
}

impl Memory {
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        if let Some(service) = Service::find(settings).await? {
            return Ok(Self::Service(service));
        }
        let local = local::store(settings)?;
        local.store.prepare().await?;
        let engine = Engine::new(Arc::clone(&local.store), local.analyzer, Arc::new(SystemClock));
        let call = Call::new(Scope::new(DEFAULT_PROJECT, "cli"));
        Ok(Self::Here(Box::new(Here { engine, store: local.store, call })))
    }

    /// Calls a tool and gives its structured answer.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Failure> {
        match self {
            Self::Service(service) => service.call(tool, arguments).await,
            Self::Here(here) => here.call(tool, arguments).await,
        }
    }

    /// Writes what is still to be written.
    pub(super) async fn close(self) {
        if let Self::Here(here) = self {
            // Losing a note of a recall is no loss of memory.
            let _ = here.engine.flush_recall_notes().await;
            here.store.close().await;
        }
    }
}

impl Service {
    /// The service that `MEMORY_URL` names, or this user's service on this machine.
    pub(super) async fn find(settings: &Settings) -> Result<Option<Self>, Failure> {
        discovery::find(settings).await?.map(|endpoint| Self::at(settings, endpoint)).transpose()
    }

    /// The service at an endpoint that is known.
    pub(super) fn at(settings: &Settings, endpoint: Endpoint) -> Result<Self, Failure> {
        let timeout = settings.http.request_timeout + Duration::from_secs(10);
        let client = endpoint.client().timeout(timeout).build().map_err(Failure::internal)?;
        Ok(Self { client, endpoint })
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> &str {
        &self.endpoint.shown
    }

    /// Calls a tool and gives its structured answer.
    pub(super) async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Failure> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": tool, "arguments": arguments } });
        let mut request = self
            .client
            .post(&self.endpoint.url)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Some(token) = &self.endpoint.token {
            request = request.bearer_auth(token);
        }
        let unreachable = |error: reqwest::Error| Failure {
            code: UNAVAILABLE,
            error: anyhow::Error::from(error.without_url())
                .context(format!("the service at {} did not answer", self.endpoint.shown)),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = super::client::bounded_text(response).await;
        let text =
            text.with_context(|| format!("the service at {} gave no answer that can be read", self.endpoint.shown));
        let text = text.map_err(|error| Failure { code: UNAVAILABLE, error })?;
        let answer: Value = serde_json::from_str(&text)
            .with_context(|| {
                format!("the service at {} answered {status}, but not as an MCP server does", self.endpoint.shown)
            })
            .map_err(|error| Failure { code: UNAVAILABLE, error })?;
        if let Some(error) = answer["error"].as_str() {
            let hint = match status.as_u16() {
                401 | 403 => "; set MEMORY_TOKEN, or MEMORY_TOKEN_FILE, to a token of this service",
                _ => "",
            };
            let error = anyhow::anyhow!("the service at {} answered {status}: {error}{hint}", self.endpoint.shown);
            return Err(Failure { code: UNAVAILABLE, error });
        }
        if let Some(message) = answer["error"]["message"].as_str() {
            return Err(Failure { code: INTERNAL, error: anyhow::anyhow!("{message}") });
        }
        let result = &answer["result"];
        if result["isError"] == true {
            let text = result["content"][0]["text"].as_str().unwrap_or("the tool failed").to_owned();
            return Err(Failure { code: USAGE, error: anyhow::anyhow!(text) });
        }
        Ok(result["structuredContent"].clone())
    }
}

impl Here {
    async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Failure> {
        let Self { engine, call, .. } = self;
        match tool {
            "remember" => answer(engine.remember(call, read(arguments)?).await),
            "recall" => answer(engine.recall(call, read(arguments)?).await),
            "get" => answer(engine.get(call, read(arguments)?).await),
            "forget" => answer(engine.forget(call, read(arguments)?).await),
            "status" => answer(engine.status(call, read(arguments)?).await),
            _ => Err(Failure::internal(anyhow::anyhow!("no command calls {tool}"))),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(arguments: Value) -> Result<T, Failure> {
    serde_json::from_value(arguments).map_err(|error| Failure { code: USAGE, error: error.into() })
}

fn answer(output: Result<impl serde::Serialize, EngineError>) -> Result<Value, Failure> {
    match output {
        Ok(output) => serde_json::to_value(output).map_err(Failure::internal),
        Err(EngineError::Store(error)) if !matches!(error, crate::store::StoreError::NotFound { .. }) => {
            Err(error.into())
        }
        Err(error) => Err(Failure { code: USAGE, error: anyhow::anyhow!("{error}") }),
    }
}
