//! `/metrics`: metrics in the format of Prometheus (OpenMetrics).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::refusal_log::RefusalLog;
use crate::engine::Engine;
use crate::lifecycle::Readiness;
use crate::mcp::CallMeter;

/// Caches the count of the backlog for this time, so that frequent scrapes add no load.
const COUNTED: Duration = Duration::from_secs(1);
/// Maximum wait for the database; metrics that need it are then omitted.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Checked {
    check: &'static str,
}

#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) engine: Arc<Engine>,
    pub(super) calls: CallMeter,
    refusals: RefusalLog,
    pub(super) readiness: Readiness,
    /// Number of memories that await embedding, and the time of the count.
    backlog: Arc<Mutex<Option<(Instant, u64)>>>,
}

impl Metrics {
    pub(super) fn new(
        engine: Arc<Engine>,
        calls: CallMeter,
        refusals: RefusalLog,
        readiness: Readiness,
    ) -> Self {
        Self {
            engine,
            calls,
            refusals,
            readiness,
            backlog: Arc::default(),
        }
    }

    async fn backlog(&self) -> Option<u64> {
        let mut known = self.backlog.lock().await;
        if let Some((_, count)) = known.filter(|(at, _)| at.elapsed() < COUNTED) {
            return Some(count);
        }
        let count = timeout(PATIENCE, self.engine.index_backlog())
            .await
            .ok()?
            .ok()?;
        *known = Some((Instant::now(), count));
        Some(count)
    }
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

/// Returns all metrics. Metrics that need the database are omitted while it is unavailable.
pub(super) async fn metrics(State(metrics): State<Metrics>) -> Response {
    let mut registry = Registry::with_prefix("cognitive_memory");
    registry.register(
        "build",
        "The program",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    let report = metrics.readiness.report();
    registry.register(
        "ready",
        "Whether every check is met",
        gauge(report.is_ready().into()),
    );
    let checks = Family::<Checked, Gauge>::default();
    for (check, state) in &report.checks {
        checks
            .get_or_create(&Checked { check })
            .set(state.ok.into());
    }
    registry.register("check", "Whether a check of /health/ready is met", checks);
    if let Some(backlog) = metrics.backlog().await {
        registry.register(
            "index_backlog",
            "Memories that wait for a vector",
            gauge(backlog),
        );
    }
    metrics.calls.register(&mut registry);
    metrics.refusals.register(&mut registry);
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = encode(&mut text, &registry);
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response()
}
