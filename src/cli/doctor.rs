//! `doctor`: looks at everything that the service needs, and says what to do about whatever is wrong.
//!
//! Changes nothing unless it is asked for a repair. A check that cannot be made because an earlier one failed is left out.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::paper::Paper;
use super::port::writable;
use super::remote::Service;
use super::{Failure, local, runtime, say};
use crate::config::{self, Auth, Database, Purpose, Reading, Settings, Sources};
use crate::domain::{Clock, SystemClock};
use crate::store::{self, IndexPages, Pace, Store, StoreError, sqlite};

/// Space below which writing soon fails.
const LEAST_SPACE: u64 = 100 * 1024 * 1024;
/// Space that should be there.
const ENOUGH_SPACE: u64 = 1024 * 1024 * 1024;
/// A clock that is before this is not set.
const EARLIEST_YEAR: i32 = 2025;
/// Clocks of this machine and the database may differ by this.
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
    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.0.push(Finding {
            check,
            verdict: Verdict::Ok,
            detail: detail.into(),
            remedy: None,
        });
    }

    fn add(
        &mut self,
        verdict: Verdict,
        check: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding {
            check,
            verdict,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        });
    }

    fn failed(&self) -> bool {
        self.0
            .iter()
            .any(|finding| finding.verdict == Verdict::Failed)
    }
}

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Also read every page, and compare the word index and the vectors with the memories; takes minutes with a million
    #[arg(long)]
    deep: bool,
    /// First rebuild the word index from the memories; with the embedded database the service must be stopped
    #[arg(long)]
    repair: bool,
}

pub(super) fn run(args: &DoctorArgs, sources: &Sources) -> Result<u8, Failure> {
    let mut report = Report::default();
    clock(&mut report);
    let reading = config::read(sources, Purpose::Command);
    files(&reading, &mut report);
    match reading.settings {
        Err(error) => report.add(
            Verdict::Failed,
            "configuration",
            error.to_string(),
            "correct the settings named above; `config show` tells where each comes from, docs/configuration.md what they mean",
        ),
        Ok(settings) => {
            report.ok("configuration", settings.summary().to_string());
            tokens(&settings, &mut report);
            runtime()?.block_on(examine(args, &settings, &mut report));
        }
    }
    unit(&mut report);
    if args.json {
        let answer = serde_json::json!({ "ok": !report.failed(), "checks": report.0 });
        say(&format!(
            "{}\n",
            serde_json::to_string_pretty(&answer).map_err(Failure::internal)?
        ))?;
    } else {
        say(&draw(&report, &Paper::of_stdout()))?;
    }
    Ok(u8::from(report.failed()))
}

fn draw(report: &Report, paper: &Paper) -> String {
    let mut out = String::new();
    for finding in &report.0 {
        let mark = match finding.verdict {
            Verdict::Ok => paper.good("ok     "),
            Verdict::Warning => paper.warning("warning"),
            Verdict::Failed => paper.bad("FAILED "),
        };
        let text = paper.block(&finding.detail, 23);
        out.push_str(&format!(
            "{mark} {:<14} {}",
            finding.check,
            text.trim_start()
        ));
        if let Some(remedy) = &finding.remedy {
            out.push_str(&paper.bold(&paper.block(&format!("→ {remedy}"), 23)));
        }
    }
    let failed = report
        .0
        .iter()
        .filter(|finding| finding.verdict == Verdict::Failed)
        .count();
    let warnings = report
        .0
        .iter()
        .filter(|finding| finding.verdict == Verdict::Warning)
        .count();
    out.push_str(&match (failed, warnings) {
        (0, 0) => "Everything is in order.\n".to_owned(),
        (0, warnings) => format!("It works; {warnings} to look at.\n"),
        (failed, _) => format!("{failed} of {} checks failed.\n", report.0.len()),
    });
    out
}

fn clock(report: &mut Report) {
    use chrono::Datelike;
    let now = SystemClock.now();
    let text = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    if now.year() < EARLIEST_YEAR {
        let remedy = "set the clock: `timedatectl set-ntp true`; times of memories, ids and tokens depend on it";
        report.add(Verdict::Failed, "clock", format!("it is {text}"), remedy);
    } else {
        report.ok("clock", text);
    }
}

/// The files with settings, and whatever looks like a mistake in them or in the environment.
fn files(reading: &Reading, report: &mut Report) {
    report.ok("settings files", reading.list_files().trim_end());
    for warning in &reading.warnings {
        report.add(
            Verdict::Warning,
            "settings",
            warning,
            "see docs/configuration.md; `serve` is stricter than commands",
        );
    }
}

fn tokens(settings: &Settings, report: &mut Report) {
    match &settings.auth {
        Auth::Tokens(credentials) => {
            let names: Vec<&str> = credentials
                .iter()
                .map(|credential| credential.name.as_str())
                .collect();
            report.ok("tokens", format!("{} ({})", names.len(), names.join(", ")));
        }
        Auth::None if settings.http.listen.ip().is_loopback() => {
            report.ok(
                "tokens",
                "none; whoever can connect on this machine is let in",
            );
        }
        Auth::None => report.add(
            Verdict::Warning,
            "tokens",
            format!("none, and the service listens on {}", settings.http.listen),
            "make one with `token new NAME` and set MEMORY_TOKENS_FILE, or listen on 127.0.0.1",
        ),
    }
}

async fn examine(args: &DoctorArgs, settings: &Settings, report: &mut Report) {
    if let Database::Sqlite { path } = &settings.database {
        folder(&settings.data_dir, path, report);
        space(&settings.data_dir, report);
    }
    database(args, settings, report).await;
    service(settings, report).await;
}

/// Rights of the folder and the file: what is remembered is nobody else's.
fn folder(folder: &Path, file: &Path, report: &mut Report) {
    if !folder.exists() {
        report.ok(
            "data folder",
            format!("{} is made when it is needed", folder.display()),
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
        report.add(
            Verdict::Failed,
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
            report.add(
                Verdict::Warning,
                "data folder",
                format!("{} can be read by others (mode {mode:o})", path.display()),
                format!("chmod {right} {}", path.display()),
            );
            return;
        }
    }
    report.ok("data folder", folder.display().to_string());
}

/// Asks `df`, which is wherever a shell is. In the image there is none, and the host's checks see the volume.
fn space(folder: &Path, report: &mut Report) {
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
    let remedy = "free space there; a write that finds no room is refused, nothing that was acknowledged is lost";
    match free {
        free if free < LEAST_SPACE => report.add(Verdict::Failed, "disk", detail, remedy),
        free if free < ENOUGH_SPACE => report.add(Verdict::Warning, "disk", detail, remedy),
        _ => report.ok("disk", detail),
    }
}

async fn database(args: &DoctorArgs, settings: &Settings, report: &mut Report) {
    let local = match local::store(settings) {
        Ok(local) => local,
        Err(failure) => {
            report.add(
                Verdict::Failed,
                "database",
                format!("{:#}", failure.error),
                "correct MEMORY_DATABASE_URL",
            );
            return;
        }
    };
    let embedded = match &settings.database {
        Database::Sqlite { path } => Some(path),
        Database::Postgres(_) => None,
    };
    if let Some(sqlite::Obstacle { detail, remedy, .. }) =
        embedded.and_then(|path| sqlite::find_obstacle(path))
    {
        report.add(Verdict::Failed, "database", detail, remedy);
        return;
    }
    if let Some(path) = embedded.filter(|path| !path.exists()) {
        report.ok(
            "database",
            format!("{} is made at the first start", path.display()),
        );
        return;
    }
    let pending = match local.store.pending_migrations().await {
        Ok(pending) => pending,
        Err(error) => {
            let remedy = match &error {
                StoreError::Unavailable { .. } if embedded.is_some() => {
                    "do what the line above says; nothing that was acknowledged is lost"
                }
                StoreError::Unavailable { .. } => {
                    "start the database (`systemctl --user status cognitive-memory-postgres`), and check host and port in \
                     `config show`"
                }
                _ => {
                    "do what the line above says; if it is the file that is damaged, `restore FILE --replace` a backup"
                }
            };
            report.add(Verdict::Failed, "database", error.to_string(), remedy);
            return;
        }
    };
    if !pending.is_empty() {
        let detail = format!("migrations are missing: {}", pending.join(", "));
        report.add(
            Verdict::Warning,
            "schema",
            detail,
            "start the service, which applies them, or run `migrate`",
        );
        return;
    }
    // The embedded one belongs to whoever has it open; looking into it needs no opening.
    if embedded.is_none() {
        if let Err(error) = local.store.prepare().await {
            report.add(
                Verdict::Failed,
                "database",
                error.to_string(),
                "see docs/deployment.md, troubleshooting",
            );
            return;
        }
        match local.store.info().await {
            Ok(info) => report.ok(
                "database",
                format!(
                    "{} on PostgreSQL {}, schema {}",
                    info.name, info.version, info.schema_version
                ),
            ),
            Err(error) => report.add(
                Verdict::Failed,
                "database",
                error.to_string(),
                "look at the server's log",
            ),
        }
    } else if let Some(path) = embedded {
        let size = std::fs::metadata(path)
            .map(|data| data.len())
            .unwrap_or_default();
        report.ok(
            "database",
            format!(
                "{} ({}), schema up to date",
                path.display(),
                indicatif::HumanBytes(size)
            ),
        );
    }
    if args.repair {
        repair(settings, report).await;
    }
    inspect(args, &*local.store, report).await;
    local.store.close().await;
}

/// Rebuilds the word index.
async fn repair(settings: &Settings, report: &mut Report) {
    match rebuild_word_index(settings).await {
        Ok(()) => report.ok("repair", "the word index was rebuilt from the memories"),
        Err(failure) => {
            let remedy = "do what the line above says, and repeat";
            report.add(
                Verdict::Failed,
                "repair",
                format!("{:#}", failure.error),
                remedy,
            );
        }
    }
}

async fn rebuild_word_index(settings: &Settings) -> Result<(), Failure> {
    let local = writable(settings, "repair").await?;
    local.store.request_index_rebuild().await?;
    local.store.close().await;
    let local = writable(settings, "repair").await?;
    local.store.close().await;
    Ok(())
}

async fn inspect(args: &DoctorArgs, store: &dyn Store, report: &mut Report) {
    let mut result = store.inspect().await;
    if let Ok(findings) = &mut result
        && args.deep
    {
        match store.inspect_deeply(Pace::FULL_SPEED).await {
            // Both looks notice the same damage of the word index; the deep one says more.
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
                "the database and the word index are sound, as far as a quick look shows (--deep)",
            );
        }
        Ok(findings) => {
            for store::Finding { detail, remedy, .. } in findings {
                report.add(Verdict::Failed, "integrity", detail, remedy);
            }
        }
        Err(error) => report.add(
            Verdict::Failed,
            "integrity",
            error.to_string(),
            "stop the service and restore a backup with `restore FILE --replace`",
        ),
    }
}

async fn service(settings: &Settings, report: &mut Report) {
    let start =
        "start it: `systemctl --user start cognitive-memory-mcp`, or `cognitive-memory-mcp serve`";
    let service = match Service::find(settings).await {
        Ok(Some(service)) => service,
        Ok(None) => {
            let detail = "no service has the database open; `stdio` and the commands for people work without one";
            report.add(Verdict::Warning, "service", detail, start);
            return;
        }
        Err(failure) => {
            report.add(
                Verdict::Failed,
                "service",
                format!("{:#}", failure.error),
                start,
            );
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
            let detail = format!("{} answers, version {version}, {} memories", service.place(), status["memories"]);
            if version == env!("CARGO_PKG_VERSION") {
                report.ok("service", detail);
            } else {
                let remedy = "restart the service after an upgrade";
                report.add(Verdict::Warning, "service", format!("{detail}; this program is another version"), remedy);
            }
        }
        Ok(Err(failure)) => {
            let text = format!("{:#}", failure.error);
            let remedy = if text.contains("401") {
                "set MEMORY_TOKEN_FILE to a file with a token of this service"
            } else {
                "look at its log: `journalctl --user -u cognitive-memory-mcp -n 50`"
            };
            report.add(Verdict::Failed, "service", text, remedy);
        }
        Err(_) => report.add(
            Verdict::Failed,
            "service",
            format!("{} took more than {} s to answer", service.place(), LONGEST_ANSWER.as_secs()),
            "look at its log: `journalctl --user -u cognitive-memory-mcp -n 50`; its watchdog restarts a service that hangs",
        ),
    }
}

/// The unit, where systemd runs and knows it.
fn unit(report: &mut Report) {
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
            report.add(Verdict::Failed, "unit", detail, remedy);
        }
        if flag.is_some() {
            let linger = Command::new("loginctl")
                .args(["show-user", "--property=Linger", "--value", "self"])
                .output();
            if let Ok(output) = linger
                && String::from_utf8_lossy(&output.stdout).trim() == "no"
            {
                let detail = "this user's services end at logout and do not start at boot";
                report.add(Verdict::Warning, "linger", detail, "loginctl enable-linger");
            }
        }
    }
}
