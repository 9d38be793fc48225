//! Files from a model hub, each gone on with where it was interrupted.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use tokio::io::AsyncWriteExt;

use super::{Expected, Meter, part_of};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for the next bytes.
const SILENCE: Duration = Duration::from_secs(30);
/// Redirects of a request: hubs keep large files on other hosts.
const MAX_REDIRECTS: usize = 5;
/// Attempts at a file that breaks off.
const ATTEMPTS: u32 = 4;

/// Fetches `wanted` files of a repository.
pub(super) async fn download(
    hub: &str,
    repository: &str,
    folder: &Path,
    wanted: &[Expected],
    meter: &Meter,
) -> Result<(), String> {
    let client = crate::embed::http::client_builder(CONNECT, SILENCE)
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .build()
        .map_err(|error| crate::embed::http::describe(&error))?;
    for file in wanted {
        let url = format!("{hub}/{repository}/resolve/main/{}", file.name);
        let mut failure = String::new();
        let mut done = false;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
            }
            match one(&client, &url, folder, file, meter).await {
                Ok(()) => {
                    done = true;
                    break;
                }
                Err(Trouble::Final(error)) => return Err(format!("{url}: {error}")),
                Err(Trouble::Passing(error)) => failure = error,
            }
        }
        meter.end();
        if !done {
            return Err(format!("{url}: {failure}"));
        }
    }
    Ok(())
}

enum Trouble {
    /// Another attempt may help.
    Passing(String),
    /// None will.
    Final(String),
}

async fn one(
    client: &reqwest::Client,
    url: &str,
    folder: &Path,
    file: &Expected,
    meter: &Meter,
) -> Result<(), Trouble> {
    let disk = |error: std::io::Error| Trouble::Final(error.to_string());
    let net = |error: reqwest::Error| Trouble::Passing(crate::embed::http::describe(&error));
    let part = part_of(folder, &file.name).map_err(disk)?;
    let have = tokio::fs::metadata(&part)
        .await
        .map_or(0, |data| data.len());
    let mut request = client.get(url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let response = request.send().await.map_err(net)?;
    let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
    match response.status() {
        StatusCode::NOT_FOUND if !file.needed => return Ok(()),
        StatusCode::RANGE_NOT_SATISFIABLE => return finish(folder, file, &part).await,
        status if status.is_success() => {}
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Trouble::Passing(format!("the hub answered {status}")));
        }
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            // Hubs say so of names that nobody has, too.
            let hint = "there is no such model, or it is given to some accounts only; fetch it by other means and name \
                its folder in MEMORY_MODEL_SOURCE";
            return Err(Trouble::Final(format!("the hub answered {status}: {hint}")));
        }
        StatusCode::NOT_FOUND if file.name.ends_with(".safetensors") => {
            let hint = crate::embed::local::SAVE_ANEW;
            return Err(Trouble::Final(format!(
                "the hub has no such file (404), and weights in other files are not read: {hint}"
            )));
        }
        StatusCode::NOT_FOUND => {
            return Err(Trouble::Final(
                "the hub has no such file (404): check MEMORY_MODEL".to_owned(),
            ));
        }
        status => return Err(Trouble::Final(format!("the hub answered {status}"))),
    }
    let mut out = tokio::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .append(resumed)
        .truncate(!resumed)
        .open(&part)
        .await
        .map_err(disk)?;
    let have = if resumed { have } else { 0 };
    meter.begin(
        &file.name,
        have,
        have + response.content_length().unwrap_or(0),
    );
    let limit = file.max_bytes();
    let too_large = || {
        Trouble::Final(format!(
            "the file has more than {limit} bytes, the limit for a file of this kind"
        ))
    };
    if response
        .content_length()
        .is_some_and(|length| have.saturating_add(length) > limit)
    {
        return Err(too_large());
    }
    let mut written = have;
    let mut body = response.bytes_stream();
    while let Some(bytes) = body.next().await {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                // What came is kept for the next attempt.
                out.flush().await.map_err(disk)?;
                return Err(net(error));
            }
        };
        written += bytes.len() as u64;
        if written > limit {
            drop(out);
            let _ = tokio::fs::remove_file(&part).await;
            return Err(too_large());
        }
        out.write_all(&bytes).await.map_err(disk)?;
        meter.advance(bytes.len() as u64);
    }
    out.flush().await.map_err(disk)?;
    drop(out);
    finish(folder, file, &part).await
}

async fn finish(folder: &Path, file: &Expected, part: &Path) -> Result<(), Trouble> {
    let (file, folder, part) = (file.clone(), folder.to_owned(), part.to_owned());
    let lost = |error: tokio::task::JoinError| Trouble::Final(error.to_string());
    // What does not fit was removed, so that the next attempt begins anew.
    tokio::task::spawn_blocking(move || file.accept(&part, &folder))
        .await
        .map_err(lost)?
        .map_err(Trouble::Passing)
}
