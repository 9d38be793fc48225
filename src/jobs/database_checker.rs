//! Compares the indexes with the memories once a day, slowly, so that damage is noticed before a memory is missed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Notices;
use crate::lifecycle::{Condition, Supervisor};
use crate::store::{Finding, Pace, Store, StoreError, Subject};

/// Schedule of the checks.
#[derive(Debug, Clone, Copy)]
pub struct CheckSchedule {
    /// Time until the first check, and until the next attempt after a failed check.
    pub first: Duration,
    /// Time from the end of a check to the next.
    pub interval: Duration,
    pub pace: Pace,
}

impl Default for CheckSchedule {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(60),
            interval: Duration::from_secs(24 * 3600),
            pace: Pace::BACKGROUND,
        }
    }
}

/// Spawns the checker. It sets `condition`, which `/health/ready` reports: damage of the memories makes the service not
/// ready, damage of derived data is only mentioned. It sets `notices`, which `status` reports.
pub fn check_database(
    supervisor: &Supervisor,
    store: &Arc<dyn Store>,
    condition: Condition,
    notices: Notices,
    schedule: CheckSchedule,
) {
    condition.met("not checked since the start");
    let stopping = supervisor.stopping().clone();
    let checker = Checker {
        store: Arc::clone(store),
        condition,
        notices,
        pace: schedule.pace,
    };
    supervisor.spawn_restarting("database checker", move || {
        let (checker, stopping) = (checker.clone(), stopping.clone());
        async move {
            let mut pause = schedule.first;
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return Ok::<(), StoreError>(()),
                    () = tokio::time::sleep(pause) => {}
                }
                pause = tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    checked = checker.run_check() => if checked { schedule.interval } else { schedule.first },
                };
            }
        }
    });
}

#[derive(Clone)]
struct Checker {
    store: Arc<dyn Store>,
    condition: Condition,
    notices: Notices,
    pace: Pace,
}

impl Checker {
    /// Returns whether the check was completed.
    async fn run_check(&self) -> bool {
        match self.store.inspect_deeply(self.pace).await {
            Ok(findings) => {
                self.report_findings(self.with_repair(findings).await);
                true
            }
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn Error,
                    "the data could not be checked"
                );
                false
            }
        }
    }

    /// Requests the rebuild that a damaged word index needs.
    async fn with_repair(&self, mut findings: Vec<Finding>) -> Vec<Finding> {
        for finding in findings
            .iter_mut()
            .filter(|finding| finding.subject == Subject::WordIndex)
        {
            match self.store.request_index_rebuild().await {
                Ok(()) => {
                    finding.remedy =
                        "restart the service, which rebuilds the index at its start".to_owned()
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        "no rebuild of the word index was requested"
                    )
                }
            }
        }
        findings
    }

    fn report_findings(&self, findings: Vec<Finding>) {
        for finding in &findings {
            tracing::error!(
                finding = finding.detail,
                remedy = finding.remedy,
                "a check of the data found damage"
            );
        }
        let sentences: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let all = sentences.join("; ");
        if findings.is_empty() {
            tracing::debug!("a check of the data found no damage");
            self.condition.met("checked, no damage found");
        } else if findings.iter().all(|finding| finding.subject.is_derived()) {
            self.condition.met(&all);
        } else {
            self.condition.unmet(&all);
        }
        self.notices.replace(sentences);
    }
}
