//! `serve`: the service.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::announcement;
use super::open_store::{OpenedStore, create_store};
use super::output::{print_result, with_causes};
use super::service::{self, Service};
use super::{CONFIGURATION, Failure, INTERNAL, UNAVAILABLE, start_logging, start_runtime};
use crate::config::{Auth, LogFormat, Purpose, Settings, Sources, is_transient, reachable};
use crate::domain::SystemClock;
use crate::engine::Engine;
use crate::http::{Authenticator, Listener, OAuth};
use crate::lifecycle::{
    self, ExitReason, Notifier, ProbeError, Readiness, Sentinel, Supervisor, Watchdog,
};
use crate::telemetry::{Stream, Telemetry};

/// Maximum wait for the first answer of our own router.
const FIRST_PROBE: Duration = Duration::from_secs(10);
/// Maximum wait for the database before the service reports readiness without it, so that a client that waited for
/// the start can use the database at once if it is up. Connections wait for the same time to be accepted.
const FIRST_CONNECTION: Duration = Duration::from_secs(3);

/// Maximum wait for the log before the greeting.
const LAST_LINES: Duration = Duration::from_secs(1);

pub(super) fn run(sources: &Sources, switches: &service::Switches) -> Result<u8, Failure> {
    let (supervisor, notifier, readiness) =
        (Supervisor::new(), Notifier::from_env(), Readiness::new());
    // Before anything else, because process 1 ignores signals without a handler.
    let sentinel =
        Sentinel::start(&supervisor, &notifier, &readiness).map_err(Failure::internal)?;
    let (settings, telemetry) = start_logging(sources, Purpose::Service, Stream::Stdout)
        .inspect_err(|failure| {
            let first = failure
                .error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            notifier.status(&format!("Not started, exit code {}: {first}", failure.code));
        })?;
    sentinel.before_exit(telemetry.flusher());
    announcement::announce_settings(&settings);
    supervisor.set_drain_budget(settings.http.drain_timeout);
    let runtime = start_runtime()?;
    let reason = runtime
        .block_on(serve_requests(
            &settings,
            &telemetry,
            (&supervisor, &notifier, &readiness),
            switches,
        ))
        .inspect_err(|failure| {
            tracing::error!(
                error = with_causes(&failure.error),
                code = failure.code,
                "not started"
            );
            notifier.status(&format!(
                "Not started, exit code {}: {}",
                failure.code, failure.error
            ));
        })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    tracing::info!(reason = %reason, "ended");
    Ok(reason.exit_code())
}

async fn serve_requests(
    settings: &Settings,
    telemetry: &Telemetry,
    (supervisor, notifier, readiness): (&Supervisor, &Notifier, &Readiness),
    switches: &service::Switches,
) -> Result<ExitReason, Failure> {
    let local = create_store(settings)?;
    if local.embedded.is_some() {
        // The embedded database is a file of this machine: if it is not usable, a person must act.
        local.store.prepare().await?;
    }
    let listen = settings.http.listen;
    let listener = Listener::bind(listen)
        .await
        .with_context(|| {
            format!("cannot listen on {listen} (MEMORY_LISTEN): is another program, or another instance, using it?")
        })
        .map_err(|error| Failure { code: bind_code(&error), error })?;
    let database = readiness.condition("database", "connecting");
    let oauth = create_oauth(settings, supervisor)?;
    let authenticator = |engine: &Arc<Engine>| {
        Ok(Authenticator::new(&settings.auth)
            .with_directory(Arc::clone(engine))
            .with_oauth(oauth))
    };
    let Service {
        address,
        probe,
        listener,
    } = service::start_service(
        settings,
        &local,
        authenticator,
        listener,
        (supervisor, readiness, database),
        switches,
    )
    .await?;
    announce_address(&local, address)?;
    let watchdog = Watchdog::new(supervisor, notifier, readiness, probe);
    match watchdog.prove(FIRST_PROBE).await {
        Ok(()) => {
            tokio::select! {
                () = readiness.met() => {}
                () = tokio::time::sleep(FIRST_CONNECTION) => {}
                () = supervisor.stopping().cancelled() => {}
            }
            if supervisor.stopping().is_cancelled() {
                return Ok(wait_for_end(&local, (supervisor, notifier, readiness)).await);
            }
            listener.start_accepting(supervisor);
            readiness.headline(&format!("Serving on {}", address));
            notifier.ready(&readiness.sentence());
            watchdog.start();
            tracing::info!(url = format!("http://{}/mcp", address), "serving");
            if wants_greeting(settings) {
                // After earlier log lines, which another thread writes.
                telemetry.flush_within(LAST_LINES);
                // The service works even if this cannot be printed.
                let _ = print_result(&format_greeting(settings, address));
            }
        }
        // `run` below ends the process in order.
        Err(ProbeError::Stopping) => {}
        Err(error) => {
            return Err(Failure::new(INTERNAL, error));
        }
    }
    Ok(wait_for_end(&local, (supervisor, notifier, readiness)).await)
}

/// Waits for the end of the service and of its work.
async fn wait_for_end(
    local: &OpenedStore,
    (supervisor, notifier, readiness): (&Supervisor, &Notifier, &Readiness),
) -> ExitReason {
    let reason = lifecycle::run(supervisor, notifier, readiness).await;
    local.store.close().await;
    reason
}

/// Returns the exit code of a failed bind. An address in use and missing file descriptors may become available; a
/// person must correct any other fault.
fn bind_code(error: &anyhow::Error) -> u8 {
    let passes = |error: &std::io::Error| {
        error.kind() == std::io::ErrorKind::AddrInUse || is_transient(error)
    };
    if error.downcast_ref().is_some_and(passes) {
        UNAVAILABLE
    } else {
        CONFIGURATION
    }
}

/// Publishes the address in the lock file of the embedded database, where `stdio` processes find it.
fn announce_address(local: &OpenedStore, address: SocketAddr) -> Result<(), Failure> {
    if let Some(embedded) = &local.embedded {
        embedded.announce(&format!("http://{}/mcp", reachable(address)))?;
    }
    Ok(())
}

fn create_oauth(settings: &Settings, supervisor: &Supervisor) -> Result<Option<OAuth>, Failure> {
    let Some(oauth) = settings.oauth.clone() else {
        return Ok(None);
    };
    OAuth::new(oauth, Arc::new(SystemClock), supervisor).map(Some).map_err(|error| Failure {
        code: CONFIGURATION,
        error: anyhow::Error::from(error)
            .context("no HTTPS client for MEMORY_OAUTH_ISSUER can be created; install root certificates (ca-certificates)"),
    })
}

fn wants_greeting(settings: &Settings) -> bool {
    match settings.log.format {
        LogFormat::Pretty => true,
        LogFormat::Auto => std::io::stdout().is_terminal(),
        LogFormat::Json => false,
    }
}

/// Returns first steps for a person who started the service on a terminal.
fn format_greeting(settings: &Settings, address: SocketAddr) -> String {
    let url = format!("http://{}/mcp", reachable(address));
    let (header, token) = match settings.auth {
        Auth::None => ("", ""),
        Auth::Tokens(_) => (
            " --header \"Authorization: Bearer TOKEN\"",
            "  Create a token:\n      cognitive-memory-mcp token create NAME\n",
        ),
    };
    format!(
        "\n  Memory is served at {url}\n  Data: {}\n\n{token}  Connect Claude Code:\n      claude mcp add --transport http \
         memory {url}{header}\n  Connect another client:\n      cognitive-memory-mcp connect --url {url}\n  Try it in another \
         terminal:\n      cognitive-memory-mcp remember I prefer tea to coffee\n      cognitive-memory-mcp recall what do I \
         prefer to drink\n\n  Stop with Ctrl-C.\n\n",
        settings.database
    )
}
