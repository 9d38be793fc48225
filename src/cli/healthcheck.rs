//! `healthcheck`: reads the readiness of the service of this user. The container's health check runs it.
//!
//! Any program may listen on the service's port, so the request goes to the service's Unix socket, or to the address
//! that the user named (`MEMORY_URL`). An answer counts only if it is a readiness report.

use std::time::Duration;

use serde_json::{Map, Value};

use super::discovery::{self, Endpoint};
use super::output::print_result;
use super::{Failure, http_client, start_runtime};
use crate::config::{self, Database, Purpose, Settings, Sources};
use crate::store::sqlite;

const LONGEST: Duration = Duration::from_secs(5);
/// Maximum size of a readiness report in bytes.
const LARGEST_REPORT: usize = 1024 * 1024;

pub(super) fn run(sources: &Sources) -> Result<u8, Failure> {
    // Without warnings: it runs every few seconds.
    let settings = config::load(sources, Purpose::Command)?;
    let verdict = start_runtime()?.block_on(check_service(&settings));
    let (code, sentence) = match verdict {
        Ok(()) => (0, "ready".to_owned()),
        Err(sentence) => (1, sentence),
    };
    print_result(&format!("{sentence}\n"))?;
    Ok(code)
}

/// Fails with a sentence that states why the service is not ready.
async fn check_service(settings: &Settings) -> Result<(), String> {
    let endpoint = match discovery::find_service(settings).await {
        Ok(Some(endpoint)) => endpoint,
        Ok(None) => return Err(describe_absence(settings)),
        Err(error) => return Err(error.to_string()),
    };
    if endpoint.serves_one_client() {
        return Err(
            "the service is not running: a `stdio` process has the database open".to_owned(),
        );
    }
    let url = format!("{}/health/ready", endpoint.url.trim_end_matches("/mcp"));
    let (succeeded, body) = fetch_report(&endpoint, &url).await.map_err(|error| {
        format!(
            "no answer from {}: {}",
            shown_address(&endpoint),
            error.root_cause()
        )
    })?;
    judge_report(succeeded, &body).unwrap_or_else(|| {
        Err(format!(
            "the answer from {} is not a readiness report",
            shown_address(&endpoint)
        ))
    })
}

fn describe_absence(settings: &Settings) -> String {
    if let Database::Sqlite { path } = &settings.database
        && let Some(owner) = sqlite::owner(path)
    {
        return format!("no answer yet: process {} is being started", owner.pid);
    }
    format!(
        "no answer: no service of this user listens at {}. Start it; if it runs in a container or as another user, set \
         MEMORY_URL=http://{}/mcp",
        discovery::shown_sockets(settings),
        settings.http.local_address()
    )
}

fn shown_address(endpoint: &Endpoint) -> String {
    match endpoint.is_socket() {
        true => endpoint.shown.clone(),
        false => format!("{}/health/ready", endpoint.shown.trim_end_matches("/mcp")),
    }
}

async fn fetch_report(endpoint: &Endpoint, url: &str) -> anyhow::Result<(bool, String)> {
    let client = endpoint.client_builder().timeout(LONGEST).build()?;
    let response = client.get(url).send().await?;
    let succeeded = response.status().is_success();
    let mut body = http_client::Body::new(response);
    if !body.read_up_to(LARGEST_REPORT).await? {
        anyhow::bail!(
            "the answer is larger than {} MiB",
            LARGEST_REPORT / 1024 / 1024
        );
    }
    Ok((succeeded, body.into_text()))
}

/// Returns the verdict of a readiness report, `None` if the text is not a report.
fn judge_report(succeeded: bool, text: &str) -> Option<Result<(), String>> {
    let report: Value = serde_json::from_str(text).ok()?;
    let checks = report["checks"]
        .as_object()
        .filter(|checks| !checks.is_empty())?;
    match report["status"].as_str()? {
        "ready" if succeeded => Some(Ok(())),
        "not_ready" => Some(Err(format!("not ready: {}", describe_unmet(checks)))),
        "stopping" => Some(Err("not ready: the service is stopping".to_owned())),
        _ => None,
    }
}

fn describe_unmet(checks: &Map<String, Value>) -> String {
    let unmet = checks.iter().filter(|(_, check)| check["ok"] == false);
    let described: Vec<String> = unmet
        .map(|(name, check)| format!("{name}: {}", check["detail"].as_str().unwrap_or_default()))
        .collect();
    described.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_readiness_report_is_believed() {
        let ready = r#"{"status":"ready","checks":{"database":{"ok":true,"detail":"open"}}}"#;
        assert_eq!(judge_report(true, ready), Some(Ok(())));
        assert_eq!(
            judge_report(false, ready),
            None,
            "the status code contradicts it"
        );
        for text in [
            "",
            "ready",
            "{}",
            "[]",
            "<html>",
            r#"{"status":"ready"}"#,
            r#"{"status":"ready","checks":{}}"#,
        ] {
            assert_eq!(judge_report(true, text), None, "{text}");
        }
        let unmet = r#"{"status":"not_ready","checks":{"a":{"ok":true,"detail":"x"},"b":{"ok":false,"detail":"y"}}}"#;
        assert_eq!(
            judge_report(false, unmet),
            Some(Err("not ready: b: y".to_owned()))
        );
    }
}
