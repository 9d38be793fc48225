//! The Unix socket of the service, for MCP requests of other processes on this machine and for commands of the owner:
//! the serving and the requesting side.
//!
//! To add an operation, add a route in [`commands`] that takes the command of a use case and returns its answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Failure, UNAVAILABLE, discovery, http_client, option_name};
use crate::config::{Database, Settings};
use crate::domain::Scope;
use crate::engine::{Call, Engine, EngineError, ReviewCommand, ReviewReport, TokenCommand};
use crate::http::ControlSocket;
use crate::lifecycle::Supervisor;
use crate::store::StoreError;

/// Name of the actor in the history.
const ACTOR: &str = "owner";
/// Maximum wait for the service.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request of the command line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReviewRequest {
    pub(super) project: String,
    pub(super) command: ReviewCommand,
}

/// The reason why a command failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) advice: String,
}

impl Refusal {
    pub(super) fn new(error: &EngineError) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            advice: error.advice().to_owned(),
        }
    }
}

/// Serves MCP requests, and commands if the database is a file that only this process can open. The service also works
/// without the socket, so that a failure is only logged.
pub(super) async fn serve_socket(
    settings: &Settings,
    supervisor: &Supervisor,
    engine: &Arc<Engine>,
    requests: Router,
) {
    let router = match &settings.database {
        Database::Sqlite { .. } => requests.merge(owner_commands(engine)),
        Database::Postgres(_) => requests,
    };
    let mut failures = Vec::new();
    for path in discovery::socket_paths(settings) {
        let bound = match discovery::prepare_directory(settings, &path) {
            Ok(()) => ControlSocket::bind(&path).await,
            Err(error) => Err(error),
        };
        match bound {
            Ok(socket) => {
                tracing::debug!(path = %path.display(), "listening on a socket for this user");
                socket.serve(supervisor, router);
                return;
            }
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    let failures = failures.join("; ");
    match &settings.database {
        Database::Sqlite { .. } => tracing::warn!(
            failures,
            "cannot create a socket; `stdio` and other commands work only while the service is stopped, or with MEMORY_URL"
        ),
        Database::Postgres(_) => {
            tracing::info!(
                failures,
                "cannot create a socket; commands of this machine open the database themselves"
            );
        }
    }
}

/// Routes for commands that only the owner may run.
fn owner_commands(engine: &Arc<Engine>) -> Router {
    Router::new()
        .route("/review", post(handle_review))
        .route("/token", post(handle_token))
        .route("/reindex", post(handle_reindex))
        .with_state(Arc::clone(engine))
}

async fn handle_review(
    State(engine): State<Arc<Engine>>,
    Json(request): Json<ReviewRequest>,
) -> Response {
    to_response(carry_out(&engine, request).await)
}

async fn handle_token(
    State(engine): State<Arc<Engine>>,
    Json(command): Json<TokenCommand>,
) -> Response {
    to_response(engine.token(command).await)
}

async fn handle_reindex(State(engine): State<Arc<Engine>>) -> Response {
    to_response(engine.reindex().await)
}

fn to_response(result: Result<impl Serialize, EngineError>) -> Response {
    match result {
        Ok(report) => Json(report).into_response(),
        Err(error) => (
            StatusCode::CONFLICT,
            Json(json!({ "error": Refusal::new(&error) })),
        )
            .into_response(),
    }
}

/// Executes a command of the owner.
pub(super) async fn carry_out(
    engine: &Engine,
    request: ReviewRequest,
) -> Result<ReviewReport, EngineError> {
    engine
        .administer(
            &Call::new(Scope::new(request.project, ACTOR)),
            request.command,
        )
        .await
}

/// Returns the error of a refused command for a person.
pub(super) fn describe_refusal(error: &EngineError) -> anyhow::Error {
    let Refusal { message, .. } = Refusal::new(error);
    anyhow::anyhow!(option_name::in_words_of_command("review", &message, &[]))
}

/// Explains that the process with the open database could not create the socket, or runs where this one cannot reach
/// it.
pub(super) fn unreachable_socket(in_use: StoreError, settings: &Settings) -> Failure {
    let error = anyhow::Error::from(in_use).context(format!(
        "the process that has the database open takes no commands at {}: run this command where it runs (in its \
         container: `podman exec`), as its user, or stop it first",
        discovery::shown_sockets(settings)
    ));
    Failure::new(UNAVAILABLE, error)
}

/// The answer of the service to a command.
pub(super) type Answer<T> = Result<T, Refusal>;

/// Sends a command to the service of this database. Returns `None` if no process listens at any of its sockets.
pub(super) async fn send_command<T: DeserializeOwned>(
    settings: &Settings,
    operation: &str,
    command: &impl Serialize,
) -> anyhow::Result<Option<Answer<T>>> {
    // The directory stays open while the name is used.
    let Some((name, _directory, _)) = discovery::find_socket(settings).await? else {
        return Ok(None);
    };
    let client = http_client::socket_client(&name)
        .timeout(PATIENCE)
        .build()?;
    let response = client
        .post(format!("http://localhost/{operation}"))
        .json(command)
        .send()
        .await;
    let response = response.context("the service did not answer on its control socket")?;
    let done = response.status().is_success();
    let answer = http_client::bounded_text(response).await?;
    let answer: Value =
        serde_json::from_str(&answer).context("the service's answer cannot be read")?;
    if done {
        return Ok(Some(Ok(
            serde_json::from_value(answer).context("the service's answer cannot be read")?
        )));
    }
    let refusal: Refusal =
        serde_json::from_value(answer["error"].clone()).context("the service refused")?;
    Ok(Some(Err(refusal)))
}
