//! `healthcheck`: what the container's health check runs.

use std::time::Duration;

use super::{Failure, client, runtime, say};
use crate::config::{self, Purpose, Sources, without_secrets};

const LONGEST: Duration = Duration::from_secs(5);

pub(super) fn run(sources: &Sources) -> Result<u8, Failure> {
    // Without warnings: it runs every few seconds.
    let settings = config::load(sources, Purpose::Command)?;
    let base = match &settings.client.url {
        Some(url) => url.trim_end_matches("/mcp").to_owned(),
        None => format!("http://{}", settings.http.local_address()),
    };
    let (ready, sentence) = runtime()?.block_on(ask(&format!("{base}/health/ready")));
    say(&format!("{sentence}\n"))?;
    Ok(u8::from(!ready))
}

async fn ask(url: &str) -> (bool, String) {
    let answer = async {
        let client = client::plain().timeout(LONGEST).build()?;
        let response = client.get(url).send().await?;
        let ready = response.status().is_success();
        let report = client::bounded_text(response).await?;
        Ok::<_, anyhow::Error>((ready, serde_json::from_str::<serde_json::Value>(&report)?))
    };
    match answer.await {
        Ok((true, _)) => (true, "ready".to_owned()),
        Ok((false, report)) => {
            let unmet: Vec<String> = report["checks"]
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, check)| check["ok"] == false)
                .map(|(name, check)| {
                    format!("{name}: {}", check["detail"].as_str().unwrap_or_default())
                })
                .collect();
            (false, format!("not ready: {}", unmet.join("; ")))
        }
        Err(error) => (
            false,
            format!(
                "no answer from {}: {}",
                without_secrets(url),
                error.root_cause()
            ),
        ),
    }
}
