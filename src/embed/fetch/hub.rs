//! Files from a model hub. Interrupted downloads are continued.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use tokio::io::AsyncWriteExt;

use super::{Expected, Meter, part_of};
use crate::outbound;

/// Maximum wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Maximum wait for the next bytes.
const SILENCE: Duration = Duration::from_secs(30);
/// Maximum number of attempts per file.
const ATTEMPTS: u32 = 4;
/// Attempts to connect. An offline machine has another source, or waits for the next round.
const CONNECT_ATTEMPTS: u32 = 2;

/// Downloads the `wanted` files of a repository.
pub(super) async fn download_model(
    hub: &str,
    repository: &str,
    folder: &Path,
    wanted: &[Expected],
    meter: &Meter,
) -> Result<(), String> {
    let client = crate::embed::http::client_builder(CONNECT, SILENCE)
        .redirect(outbound::follow_secure())
        .build()
        .map_err(|error| crate::embed::http::describe_error(&error))?;
    for file in wanted {
        let url = format!("{hub}/{repository}/resolve/main/{}", file.name);
        let mut failure = String::new();
        let mut done = false;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
            }
            match download_file(&client, &url, folder, file, meter).await {
                Ok(()) => {
                    done = true;
                    break;
                }
                Err(Trouble::Final(error)) => return Err(format!("{url}: {error}")),
                Err(Trouble::Unreachable(error)) if attempt + 1 >= CONNECT_ATTEMPTS => {
                    return Err(format!("{url}: {error}"));
                }
                Err(Trouble::Passing(error) | Trouble::Unreachable(error)) => failure = error,
            }
        }
        meter.end_file();
        if !done {
            return Err(format!("{url}: {failure}"));
        }
    }
    Ok(())
}

enum Trouble {
    /// A retry may succeed.
    Passing(String),
    /// The hub cannot be connected to.
    Unreachable(String),
    /// Another attempt cannot help.
    Final(String),
}

fn disk_trouble(error: std::io::Error) -> Trouble {
    Trouble::Final(error.to_string())
}

fn network_trouble(error: reqwest::Error) -> Trouble {
    let description = crate::embed::http::describe_error(&error);
    if error.is_connect() {
        Trouble::Unreachable(description)
    } else {
        Trouble::Passing(description)
    }
}

/// Downloads one file, from the point at which the last attempt was interrupted.
async fn download_file(
    client: &reqwest::Client,
    url: &str,
    folder: &Path,
    file: &Expected,
    meter: &Meter,
) -> Result<(), Trouble> {
    let part = part_of(folder, &file.name).map_err(disk_trouble)?;
    let have = tokio::fs::metadata(&part)
        .await
        .map_or(0, |data| data.len());
    let mut request = client.get(url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let response = request.send().await.map_err(network_trouble)?;
    let have = match response.status() {
        StatusCode::NOT_FOUND if !file.needed => return Ok(()),
        StatusCode::RANGE_NOT_SATISFIABLE => return place_file(folder, file, &part).await,
        StatusCode::PARTIAL_CONTENT => have,
        status if status.is_success() => 0,
        _ if response.status().is_redirection() => {
            let target = outbound::redirect_target(&response).unwrap_or_default();
            return Err(Trouble::Final(format!(
                "the hub redirects to {target}, which is not followed: it leaves https or has too many redirects"
            )));
        }
        status => return Err(classify_status(status, file)),
    };
    write_body(response, &part, have, file, meter).await?;
    place_file(folder, file, &part).await
}

/// Returns the error for an answer without success.
fn classify_status(status: StatusCode, file: &Expected) -> Trouble {
    match status {
        status if outbound::may_pass(status) => {
            Trouble::Passing(format!("the hub answered {status}"))
        }
        // Hubs return the same status for names that do not exist.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Final(format!(
            "the hub answered {status}: there is no such model, or only some accounts may read it; fetch it by other \
             means and name its folder in MEMORY_MODEL_SOURCE"
        )),
        StatusCode::NOT_FOUND if file.name.ends_with(".safetensors") => Trouble::Final(format!(
            "the hub has no such file (404), and weights in other files are not read: {} (MEMORY_MODEL_SOURCE)",
            sentence_bert::SAVE_AGAIN
        )),
        StatusCode::NOT_FOUND => {
            Trouble::Final("the hub has no such file (404): check MEMORY_MODEL".to_owned())
        }
        status => Trouble::Final(format!("the hub answered {status}")),
    }
}

/// Writes the body to the file `part`, which already has `have` bytes.
async fn write_body(
    response: reqwest::Response,
    part: &Path,
    have: u64,
    file: &Expected,
    meter: &Meter,
) -> Result<(), Trouble> {
    let mut out = tokio::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .append(have > 0)
        .truncate(have == 0)
        .open(part)
        .await
        .map_err(disk_trouble)?;
    let length = response.content_length().unwrap_or(0);
    meter.begin_file(&file.name, have, have.saturating_add(length));
    let limit = file.max_bytes();
    let too_large = || {
        Trouble::Final(format!(
            "the file has more than {limit} bytes, the limit for a file of this kind"
        ))
    };
    if have.saturating_add(length) > limit {
        return Err(too_large());
    }
    let mut written = have;
    let mut body = response.bytes_stream();
    while let Some(bytes) = body.next().await {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                // Keeps the received part for the next attempt.
                out.flush().await.map_err(disk_trouble)?;
                return Err(network_trouble(error));
            }
        };
        written += bytes.len() as u64;
        if written > limit {
            drop(out);
            let _ = tokio::fs::remove_file(part).await;
            return Err(too_large());
        }
        out.write_all(&bytes).await.map_err(disk_trouble)?;
        meter.advance_by(bytes.len() as u64);
    }
    out.flush().await.map_err(disk_trouble)
}

async fn place_file(folder: &Path, file: &Expected, part: &Path) -> Result<(), Trouble> {
    let (file, folder, part) = (file.clone(), folder.to_owned(), part.to_owned());
    let lost = |error: tokio::task::JoinError| Trouble::Final(error.to_string());
    // `accept_file` removes a wrong file, so that the next attempt starts again.
    tokio::task::spawn_blocking(move || file.accept_file(&part, &folder))
        .await
        .map_err(lost)?
        .map_err(Trouble::Passing)
}
