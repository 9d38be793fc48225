use tokio::time::advance;

use super::*;
use crate::lifecycle::{Readiness, ReadinessStatus};

#[tokio::test(start_paused = true)]
async fn a_sentence_names_what_is_missing_and_for_how_long() {
    let readiness = Readiness::new();
    assert_eq!(readiness.sentence(), "Starting");
    assert!(readiness.is_ready());

    let database = readiness.condition("database", "connecting");
    assert_eq!(readiness.sentence(), "Starting, database connecting (0 s)");
    readiness.headline("Serving on 127.0.0.1:8765");
    database.met("connected");
    assert_eq!(readiness.sentence(), "Serving on 127.0.0.1:8765");

    database.unmet("unreachable: connection reset");
    advance(secs(12)).await;
    database.unmet("unreachable: connection refused");
    assert!(!readiness.is_ready());
    assert_eq!(
        readiness.sentence(),
        "Serving on 127.0.0.1:8765, database unreachable: connection refused (12 s)"
    );
    advance(secs(180)).await;
    assert!(readiness.sentence().ends_with("(3 min)"));

    // A second request for the condition changes nothing.
    drop(readiness.condition("database", "connecting"));
    assert!(readiness.sentence().contains("connection refused"));
}

#[tokio::test(start_paused = true)]
async fn the_report_is_json_for_machines() {
    let readiness = Readiness::new();
    readiness
        .condition("database", "connecting")
        .unmet("unreachable: connection refused");
    readiness.condition("listener", "not bound").met("bound");
    let report = readiness.report();
    assert!(!report.is_ready());
    let mut json = serde_json::to_value(report).expect("JSON");
    for check in ["database", "listener"] {
        let since = json["checks"][check]["since"].take();
        let since = since.as_str().expect("a time");
        assert!(
            chrono::DateTime::parse_from_rfc3339(since).is_ok(),
            "{since}"
        );
    }
    assert_eq!(
        json,
        serde_json::json!({
            "status": "not_ready",
            "checks": {
                "database": { "ok": false, "detail": "unreachable: connection refused", "since": null },
                "listener": { "ok": true, "detail": "bound", "since": null },
            },
        })
    );
    readiness.condition("database", "").met("connected");
    assert!(readiness.report().is_ready());
    readiness.stopping("Stopping (SIGTERM)");
    assert_eq!(readiness.report().status, ReadinessStatus::Stopping);
    assert_eq!(readiness.sentence(), "Stopping (SIGTERM)");
}
