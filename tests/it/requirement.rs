//! The requirements of some tests beyond the program itself. If one is missing, its tests are skipped, and one test
//! reports how many.
//!
//! A test begins with `needs!(Postgres);`. With `REQUIRE_ALL=true`, as in CI, a missing requirement fails the test
//! instead. To add a requirement, add a variant of [`Requirement`] with its check, its remedy and its count.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// If set to any value, tests that need namespaces are skipped.
const WITHOUT_NAMESPACES: &str = "TEST_WITHOUT_NAMESPACES";

/// The namespaces that the tests use.
const NAMESPACES: [&str; 4] = ["--mount", "--fork", "--pid", "--mount-proc"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// A server on which tests create databases.
    Postgres,
    /// A separate server that the test stops and freezes.
    OwnPostgres,
    /// PgBouncer and a server behind it.
    PgBouncer,
    /// Process and mount namespaces in which the test is root.
    Namespaces,
    /// A tracer of system calls.
    Strace,
    /// The files of the default embedding model.
    Model,
}

/// Ends the test if the requirement is not met.
macro_rules! needs {
    ($requirement:ident) => {
        if !$crate::requirement::Requirement::$requirement.is_met_or_skip() {
            return;
        }
    };
}

pub(crate) use needs;

impl Requirement {
    const ALL: [Self; 6] = [
        Self::Postgres,
        Self::OwnPostgres,
        Self::PgBouncer,
        Self::Namespaces,
        Self::Strace,
        Self::Model,
    ];

    /// Returns whether the test can run.
    ///
    /// # Panics
    /// If the requirement is not met although `REQUIRE_ALL=true`.
    pub(crate) fn is_met_or_skip(self) -> bool {
        let is_met = self.is_met();
        assert!(
            is_met || !all_are_required(),
            "REQUIRE_ALL=true, but there is no {}",
            self.remedy()
        );
        is_met
    }

    fn is_met(self) -> bool {
        match self {
            // tests/host/postgres can start a server only as root.
            Self::Postgres => std::env::var_os("MEMORY_TEST_POSTGRES").is_some() || is_root(),
            Self::OwnPostgres => is_root(),
            Self::PgBouncer => Self::Postgres.is_met() && can_run(&["pgbouncer", "--version"]),
            Self::Namespaces => {
                std::env::var_os(WITHOUT_NAMESPACES).is_none()
                    && namespace_command(&NAMESPACES).is_some()
            }
            Self::Strace => can_run(&["strace", "--trace=fsync", "true"]),
            Self::Model => crate::embed::model_folder().is_some(),
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Postgres => {
                "PostgreSQL with pgvector: set MEMORY_TEST_POSTGRES=postgres://SUPERUSER:PASSWORD@HOST/postgres, or run the tests as root"
            }
            Self::OwnPostgres => "PostgreSQL that can be stopped: run the tests as root",
            Self::PgBouncer => {
                "PgBouncer with PostgreSQL: install pgbouncer and set MEMORY_TEST_POSTGRES"
            }
            Self::Namespaces => "namespace: run the tests as root or allow user namespaces",
            Self::Strace => "strace: install it, and allow this user to trace processes",
            Self::Model => {
                "embedding model: run tests/run once, or set MEMORY_TEST_MODEL to its folder"
            }
        }
    }

    /// Counts the tests that name the requirement in their first line.
    fn count_tests(self, sources: &[String]) -> usize {
        let marker = format!("needs!({self:?});");
        let named: usize = sources
            .iter()
            .map(|source| source.matches(&marker).count())
            .sum();
        match self {
            Self::Postgres => named + contract_case_count(),
            _ => named,
        }
    }
}

/// Counts the tests of the contract, all of which run on PostgreSQL; the macro names each in a line like
/// `write::a_batch_is_all_or_nothing,`.
fn contract_case_count() -> usize {
    include_str!("contract/mod.rs")
        .lines()
        .filter(|line| line.starts_with("                ") && line.ends_with(','))
        .filter(|line| line.trim().split("::").count() == 2 && !line.contains('('))
        .count()
}

fn all_are_required() -> bool {
    std::env::var("REQUIRE_ALL").is_ok_and(|value| value == "true")
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

fn can_run(line: &[&str]) -> bool {
    Command::new(line[0])
        .args(&line[1..])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Returns the command that runs another one as root in its own namespaces. `None` if this user may not create any.
pub(crate) fn namespace_command(options: &[&'static str]) -> Option<Vec<&'static str>> {
    let as_root = [&["unshare"], options].concat();
    let as_user = [&["unshare", "--user", "--map-root-user"], options].concat();
    [as_root, as_user]
        .into_iter()
        .find(|command| can_run(&[command.as_slice(), &["true"]].concat()))
}

fn read_test_sources(folder: &Path) -> Vec<String> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the tests are a folder") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            sources.extend(read_test_sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("requirement.rs")
        {
            sources.push(std::fs::read_to_string(path).expect("a source is text"));
        }
    }
    sources
}

/// The name puts this test among the last of `cargo test`, which runs in alphabetical order; nextest prints its output
/// at the end.
#[test]
fn skipped_tests_are_counted() {
    let sources = read_test_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"));
    for requirement in Requirement::ALL {
        let count = requirement.count_tests(&sources);
        assert!(count > 0, "no test needs {requirement:?}");
        if !requirement.is_met_or_skip() {
            // Written directly, because the harness captures the output of `println!`.
            let line = format!("{count} tests skipped: no {}\n", requirement.remedy());
            std::io::stderr()
                .write_all(line.as_bytes())
                .expect("stderr can be written");
        }
    }
}
