//! A switch for tests of debug builds: makes the request path hang. Release builds do not contain it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

/// The faults that tests can inject while the service runs.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// While this file exists, `/mcp` accepts requests and never answers them.
    pub hang_file: Option<PathBuf>,
}

pub(super) async fn inject(
    State(fault): State<Arc<Fault>>,
    request: Request,
    next: Next,
) -> Response {
    if fault.hang_file.as_ref().is_some_and(|file| file.exists()) {
        return std::future::pending().await;
    }
    next.run(request).await
}
