//! Counts the calls of tools, their outcomes and durations, for `/metrics`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds: most calls take milliseconds, and none takes longer than the timeout.
const BOUNDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    tool: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    tool: String,
}

/// Counts calls. Clones share their counts.
#[derive(Debug, Clone)]
pub struct CallMeter {
    ended: Family<Ended, Counter>,
    durations: Family<Called, Histogram, fn() -> Histogram>,
}

impl Default for CallMeter {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BOUNDS);
        Self {
            ended: Family::default(),
            durations: Family::new_with_constructor(histogram),
        }
    }
}

impl CallMeter {
    /// Counts a call of a known tool that ended with `ok` or the code of an error.
    pub(super) fn count(&self, tool: &str, outcome: &'static str, duration: Duration) {
        self.ended
            .get_or_create(&Ended {
                tool: tool.to_owned(),
                outcome,
            })
            .inc();
        self.durations
            .get_or_create(&Called {
                tool: tool.to_owned(),
            })
            .observe(duration.as_secs_f64());
    }

    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "tool_calls",
            "Calls of a tool by outcome: ok, or the code of an error",
            self.ended.clone(),
        );
        let help = "Time from a call to its answer";
        registry.register_with_unit(
            "tool_call_duration",
            help,
            Unit::Seconds,
            self.durations.clone(),
        );
    }
}
