//! `doctor`: checks all requirements of the service, and suggests remedies.
//!
//! Changes nothing without `--repair`. Skips checks that depend on a failed one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::connect::verify::{Verified, verify_connections};
use super::files::file_size;
use super::open_store::{create_store, open_writable};
use super::output::{print_result, with_causes};
use super::service_client::ServiceClient;
use super::terminal::Terminal;
use super::{Failure, hook, start_runtime};
use crate::config::{self, Auth, Database, Purpose, Reading, Settings, Sources};
use crate::domain::count::count_of;
use crate::domain::{Clock, SystemClock};
use crate::store::{self, IndexPages, Pace, Store, StoreError, sqlite};

/// Free space in bytes below which writes will soon fail.
const LEAST_SPACE: u64 = 100 * 1024 * 1024;
/// Free space below which a warning is printed.
const ENOUGH_SPACE: u64 = 1024 * 1024 * 1024;
/// An earlier year means that the clock is not set.
const EARLIEST_YEAR: i32 = 2025;
/// Maximum wait for an answer of the service.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn add(
        &mut self,
        verdict: Verdict,
        check: &'static str,
        detail: impl Into<String>,
        remedy: Option<String>,
    ) {
        self.0.push(Finding {
            check,
            verdict,
            detail: detail.into(),
            remedy,
        });
    }

    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(Verdict::Ok, check, detail, None);
    }

    fn warn(&mut self, check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Warning, check, detail, Some(remedy.into()));
    }

    fn fail(&mut self, check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(Verdict::Failed, check, detail, Some(remedy.into()));
    }

    fn count_of(&self, verdict: Verdict) -> usize {
        let findings = self.0.iter();
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    }

    fn has_failed(&self) -> bool {
        self.count_of(Verdict::Failed) > 0
    }
}

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Also read every page, and compare the word index and the embeddings with the memories; takes minutes with a million
    #[arg(long)]
    deep: bool,
    /// First rebuild the word index from the memories; with the embedded database the service must be stopped
    #[arg(long)]
    repair: bool,
}

pub(super) fn run(args: &DoctorArgs, sources: &Sources) -> Result<u8, Failure> {
    let mut report = Report::default();
    check_clock(&mut report);
    let reading = config::read(sources, Purpose::Command);
    list_files(&reading, &mut report);
    match reading.settings {
        Err(error) => report.fail("configuration",
            error.to_string(),
            "correct the settings named above; `config show` prints their origins, docs/configuration.md explains them",
        ),
        Ok(settings) => {
            report.ok("configuration", settings.summary().to_string());
            check_tokens(&settings, &mut report);
            start_runtime()?.block_on(check_parts(args, &settings, &mut report));
        }
    }
    check_unit(&mut report);
    start_runtime()?.block_on(check_clients(sources, &mut report));
    check_hooks(sources, &mut report);
    if args.json {
        let answer = serde_json::json!({ "ok": !report.has_failed(), "checks": report.0 });
        print_result(&format!(
            "{}\n",
            serde_json::to_string_pretty(&answer).map_err(Failure::internal)?
        ))?;
    } else {
        print_result(&draw_report(&report, &Terminal::of_stdout()))?;
    }
    Ok(u8::from(report.has_failed()))
}

fn draw_report(report: &Report, terminal: &Terminal) -> String {
    let mut out = String::new();
    for finding in &report.0 {
        let mark = match finding.verdict {
            Verdict::Ok => terminal.good("ok     "),
            Verdict::Warning => terminal.warning("warning"),
            Verdict::Failed => terminal.bad("FAILED "),
        };
        let text = terminal.block(&finding.detail, 23);
        out.push_str(&format!(
            "{mark} {:<14} {}",
            finding.check,
            text.trim_start()
        ));
        if let Some(remedy) = &finding.remedy {
            out.push_str(&terminal.bold(&terminal.block(&format!("→ {remedy}"), 23)));
        }
    }
    let failed = report.count_of(Verdict::Failed);
    let warnings = report.count_of(Verdict::Warning);
    out.push_str(&match (failed, warnings) {
        (0, 0) => "Everything is in order.\n".to_owned(),
        (0, warnings) => format!("It works, with {}.\n", count_of(warnings, "warning")),
        (failed, _) => format!(
            "{failed} of {} failed.\n",
            count_of(report.0.len(), "check")
        ),
    });
    out
}

fn check_clock(report: &mut Report) {
    use chrono::Datelike;
    let now = SystemClock.now();
    let text = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    if now.year() < EARLIEST_YEAR {
        let remedy = "set the clock: `timedatectl set-ntp true`; times of memories, ids and tokens depend on it";
        report.fail("clock", format!("it is {text}"), remedy);
    } else {
        report.ok("clock", text);
    }
}

/// Lists the files with settings and the warnings about them.
fn list_files(reading: &Reading, report: &mut Report) {
    report.ok("settings files", reading.list_files().trim_end());
    for warning in &reading.warnings {
        report.warn(
            "settings",
            warning,
            "see docs/configuration.md; `serve` is stricter than commands",
        );
    }
}

fn check_tokens(settings: &Settings, report: &mut Report) {
    match &settings.auth {
        Auth::Tokens(credentials) => {
            let names: Vec<&str> = credentials
                .iter()
                .map(|credential| credential.name.as_str())
                .collect();
            report.ok("tokens", format!("{} ({})", names.len(), names.join(", ")));
        }
        Auth::None if settings.http.listen.ip().is_loopback() => {
            report.ok("tokens", "none; every process of this machine has access");
        }
        Auth::None => report.warn(
            "tokens",
            format!("none, and the service listens on {}", settings.http.listen),
            "create one with `token new NAME` and set MEMORY_TOKENS_FILE, or listen on 127.0.0.1",
        ),
    }
}

async fn check_parts(args: &DoctorArgs, settings: &Settings, report: &mut Report) {
    if let Database::Sqlite { path } = &settings.database {
        check_folder(&settings.data_dir, path, report);
        check_space(&settings.data_dir, report);
    }
    check_database(args, settings, report).await;
    check_service(settings, report).await;
}

/// Checks that only this user can read the folder and the file.
fn check_folder(folder: &Path, file: &Path, report: &mut Report) {
    if !folder.exists() {
        report.ok(
            "data folder",
            format!("{} is created when it is needed", folder.display()),
        );
        return;
    }
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let writable = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = writable {
        let remedy = format!(
            "give this user write access to {}, or name another folder in MEMORY_DATA_DIR; if the disk is full, free space",
            folder.display()
        );
        report.fail(
            "data folder",
            format!("{}: {error}", folder.display()),
            remedy,
        );
        return;
    }
    #[cfg(unix)]
    for path in [folder, file] {
        use std::os::unix::fs::PermissionsExt;
        let Ok(data) = std::fs::metadata(path) else {
            continue;
        };
        let mode = data.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let right = if path == folder { "700" } else { "600" };
            report.warn(
                "data folder",
                format!("{} can be read by others (mode {mode:o})", path.display()),
                format!("chmod {right} {}", path.display()),
            );
            return;
        }
    }
    report.ok("data folder", folder.display().to_string());
}

/// Runs `df`, which exists wherever a shell does. The image has none; checks of its host see the volume.
fn check_space(folder: &Path, report: &mut Report) {
    let place = folder
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(folder);
    let Ok(output) = Command::new("df").args(["-Pk", "--"]).arg(place).output() else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let free = text
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(3))
        .and_then(|kib| kib.parse::<u64>().ok());
    let Some(free) = free.map(|kib| kib.saturating_mul(1024)) else {
        return;
    };
    let detail = format!(
        "{} free at {}",
        indicatif::HumanBytes(free),
        place.display()
    );
    let remedy = "free space there; writes without room are refused, and nothing that was acknowledged is lost";
    match free {
        free if free < LEAST_SPACE => report.fail("disk", detail, remedy),
        free if free < ENOUGH_SPACE => report.warn("disk", detail, remedy),
        _ => report.ok("disk", detail),
    }
}

async fn check_database(args: &DoctorArgs, settings: &Settings, report: &mut Report) {
    let store = match create_store(settings) {
        Ok(local) => local.store,
        Err(failure) => {
            let detail = with_causes(&failure.error);
            return report.fail("database", detail, "correct MEMORY_DATABASE_URL");
        }
    };
    let is_ready = match &settings.database {
        Database::Sqlite { path } => {
            check_file(path, report) && check_schema(&*store, true, report).await
        }
        Database::Postgres(_) => {
            check_schema(&*store, false, report).await && check_server(&*store, report).await
        }
    };
    if !is_ready {
        return;
    }
    // The embedded database belongs to the process that has it open. Reading its file does not need the lock.
    if let Database::Sqlite { path } = &settings.database {
        let size = indicatif::HumanBytes(file_size(path));
        let detail = format!("{} ({size}), schema up to date", path.display());
        report.ok("database", detail);
    }
    if args.repair {
        repair_word_index(settings, report).await;
    }
    inspect_data(args, &*store, report).await;
    store.close().await;
}

fn check_file(path: &Path, report: &mut Report) -> bool {
    if let Some(sqlite::Obstacle { detail, remedy, .. }) = sqlite::find_obstacle(path) {
        report.fail("database", detail, remedy);
        return false;
    }
    if !path.exists() {
        let detail = format!("{} is created at the first start", path.display());
        report.ok("database", detail);
        return false;
    }
    true
}

async fn check_schema(store: &dyn Store, is_embedded: bool, report: &mut Report) -> bool {
    match store.pending_migrations().await {
        Ok(pending) if pending.is_empty() => true,
        Ok(pending) => {
            let detail = format!("migrations are missing: {}", pending.join(", "));
            let remedy = "start the service, which applies them, or run `migrate`";
            report.warn("schema", detail, remedy);
            false
        }
        Err(error) => {
            let remedy = match &error {
                StoreError::Unavailable { .. } if is_embedded => {
                    "follow the line above; nothing that was acknowledged is lost"
                }
                StoreError::Unavailable { .. } => {
                    "start the database (`systemctl --user status cognitive-memory-postgres`), and check host and port in \
                     `config show`"
                }
                _ => {
                    "follow the line above; if the file is damaged, restore a backup with `restore FILE --replace`"
                }
            };
            report.fail("database", error.to_string(), remedy);
            false
        }
    }
}

async fn check_server(store: &dyn Store, report: &mut Report) -> bool {
    if let Err(error) = store.prepare().await {
        let remedy = "see docs/deployment.md, troubleshooting";
        report.fail("database", error.to_string(), remedy);
        return false;
    }
    match store.info().await {
        Ok(info) => report.ok(
            "database",
            format!(
                "{} on PostgreSQL {}, schema {}",
                info.name, info.version, info.schema_version
            ),
        ),
        Err(error) => report.fail("database", error.to_string(), "read the log of the server"),
    }
    true
}

/// Rebuilds the word index.
async fn repair_word_index(settings: &Settings, report: &mut Report) {
    match rebuild_word_index(settings).await {
        Ok(()) => report.ok("repair", "the word index was rebuilt from the memories"),
        Err(failure) => {
            let remedy = "follow the line above, and repeat";
            report.fail("repair", with_causes(&failure.error), remedy);
        }
    }
}

async fn rebuild_word_index(settings: &Settings) -> Result<(), Failure> {
    let local = open_writable(settings, "repair").await?;
    local.store.request_index_rebuild().await?;
    local.store.close().await;
    let local = open_writable(settings, "repair").await?;
    local.store.close().await;
    Ok(())
}

async fn inspect_data(args: &DoctorArgs, store: &dyn Store, report: &mut Report) {
    let mut result = store.inspect().await;
    if let Ok(findings) = &mut result
        && args.deep
    {
        match store.inspect_deeply(Pace::FULL_SPEED).await {
            // Both checks find the same damage of the word index; the deep one has more details.
            Ok(deep) => {
                findings
                    .retain(|finding| deep.iter().all(|other| other.subject != finding.subject));
                findings.extend(deep);
            }
            Err(error) => result = Err(error),
        }
    }
    let mut pages = "every page is sound, and ";
    if args.deep {
        match store.inspect_index_pages().await {
            Ok(IndexPages::Checked(damaged)) => {
                if let Ok(findings) = &mut result {
                    findings.extend(damaged);
                }
            }
            Ok(IndexPages::Unchecked(reason)) => {
                report.ok("index pages", format!("not checked: {reason}"));
                pages = "";
            }
            Err(error) => result = result.and(Err(error)),
        }
    }
    match result {
        Ok(findings) if findings.is_empty() && args.deep => {
            report.ok(
                "integrity",
                format!("{pages}the word index and the vectors agree with the memories"),
            );
        }
        Ok(findings) if findings.is_empty() => {
            report.ok(
                "integrity",
                "the quick check found no damage of the database and the word index (--deep checks all)",
            );
        }
        Ok(findings) => {
            for store::Finding { detail, remedy, .. } in findings {
                report.fail("integrity", detail, remedy);
            }
        }
        Err(error) => report.fail(
            "integrity",
            error.to_string(),
            "stop the service and restore a backup with `restore FILE --replace`",
        ),
    }
}

async fn check_service(settings: &Settings, report: &mut Report) {
    let start =
        "start it: `systemctl --user start cognitive-memory-mcp`, or `cognitive-memory-mcp serve`";
    let service = match ServiceClient::find(settings).await {
        Ok(Some(service)) => service,
        Ok(None) => {
            let detail = "no service has the database open; `stdio` and the memory commands work without one";
            report.warn("service", detail, start);
            return;
        }
        Err(failure) => {
            report.fail("service", with_causes(&failure.error), start);
            return;
        }
    };
    if let Database::Sqlite { path } = &settings.database
        && settings.client.url.is_none()
        && let Some(owner) = sqlite::owner(path)
    {
        report.ok(
            "lock",
            format!("process {} has the database open", owner.pid),
        );
    }
    let asked = tokio::time::timeout(
        LONGEST_ANSWER,
        service.call("status", serde_json::json!({})),
    )
    .await;
    match asked {
        Ok(Ok(status)) => {
            let version = status["version"].as_str().unwrap_or("?");
            let detail = format!("{} answers, version {version}, {}", service.place(), count_of(status["memories"].as_u64().unwrap_or_default(), "memory"));
            if version == env!("CARGO_PKG_VERSION") {
                report.ok("service", detail);
            } else {
                let remedy = "restart the service after an upgrade";
                report.warn("service", format!("{detail}; this program is another version"), remedy);
            }
        }
        Ok(Err(failure)) => {
            let text = with_causes(&failure.error);
            let remedy = if text.contains("401") {
                "set MEMORY_TOKEN_FILE to a file with a token of this service"
            } else {
                "read its log: `journalctl --user -u cognitive-memory-mcp -n 50`"
            };
            report.fail("service", text, remedy);
        }
        Err(_) => report.fail("service",
            format!("{} took more than {} s to answer", service.place(), LONGEST_ANSWER.as_secs()),
            "read its log: `journalctl --user -u cognitive-memory-mcp -n 50`; its watchdog restarts a service that hangs",
        ),
    }
}

/// Lists the clients that `connect` has connected.
async fn check_clients(sources: &Sources, report: &mut Report) {
    for verified in verify_connections(sources).await {
        match verified {
            Verified::Works(detail) => report.ok("client", detail),
            Verified::Doubtful { detail, remedy } => report.warn("client", detail, remedy),
            Verified::Broken { detail, remedy } => report.fail("client", detail, remedy),
        }
    }
}

/// Reports failures of hooks, if any hook has run.
fn check_hooks(sources: &Sources, report: &mut Report) {
    let Some(health) = hook::describe_health(sources) else {
        return;
    };
    if health.has_failed {
        let remedy =
            "correct the cause; turns that wait are stored after the next event of a client";
        report.warn("hooks", health.detail, remedy);
    } else {
        report.ok("hooks", health.detail);
    }
}

/// Checks the systemd unit, if there is one.
fn check_unit(report: &mut Report) {
    if !Path::new("/run/systemd/system").exists() {
        return;
    }
    let ask = |args: &[&str]| {
        let output = Command::new("systemctl").args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let show = [
        "show",
        "cognitive-memory-mcp.service",
        "--property=LoadState,ActiveState,SubState",
    ];
    for (scope, flag) in [("user", Some("--user")), ("system", None)] {
        let args: Vec<&str> = flag.into_iter().chain(show).collect();
        let Some(text) = ask(&args) else { return };
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        if value("LoadState") != "loaded" {
            continue;
        }
        let (active, sub) = (value("ActiveState"), value("SubState"));
        let detail = format!("the {scope} unit is {active} ({sub})");
        if active == "active" {
            report.ok("unit", detail);
        } else {
            let flag = flag.unwrap_or_default();
            let remedy = format!(
                "systemctl {flag} status cognitive-memory-mcp, then systemctl {flag} start cognitive-memory-mcp"
            );
            report.fail("unit", detail, remedy);
        }
        if flag.is_some() {
            let linger = Command::new("loginctl")
                .args(["show-user", "--property=Linger", "--value", "self"])
                .output();
            if let Ok(output) = linger
                && String::from_utf8_lossy(&output.stdout).trim() == "no"
            {
                let detail = "this user's services end at logout and do not start at boot";
                report.warn("linger", detail, "loginctl enable-linger");
            }
        }
    }
}
