//! The permitted dependencies between modules, and house rules that a compiler cannot check. docs/architecture.md
//! explains the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules that each module may use. `cli` combines all parts and may use every module.
const ALLOWED: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("domain", &[]),
    ("outbound", &[]),
    ("embed", &["domain", "outbound"]),
    // Modules of the crate `service-kit`.
    ("lifecycle", &[]),
    ("telemetry", &[]),
    ("store", &["domain"]),
    ("engine", &["domain", "embed", "store"]),
    ("eval", &["domain", "engine"]),
    ("transfer", &["domain", "store"]),
    ("jobs", &["domain", "embed", "engine", "lifecycle", "store"]),
    ("mcp", &["domain", "engine"]),
    (
        "http",
        &["config", "domain", "engine", "lifecycle", "mcp", "outbound"],
    ),
    (
        "cli",
        &[
            "config",
            "domain",
            "embed",
            "engine",
            "eval",
            "http",
            "jobs",
            "lifecycle",
            "mcp",
            "store",
            "telemetry",
            "transfer",
        ],
    ),
];

/// Backends use the interface that they implement, never each other.
const BACKENDS: &[&str] = &["postgres", "sqlite"];

/// Maximum number of lines of a source file or script; longer ones must be split.
const MOST_LINES: usize = 800;

/// Folders with code and scripts.
const CODE_FOLDERS: &[&str] = &["compose", "crates", "quadlet", "src", "tests"];

pub(crate) struct Source {
    /// Path relative to the folder of the sources.
    pub(crate) path: String,
    /// Code without comments and without the tests at its end.
    pub(crate) code: String,
}

impl Source {
    /// Returns the first folder, or the name of the file.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn backend(&self) -> Option<&str> {
        let mut parts = self.path.split('/');
        (parts.next() == Some("store"))
            .then(|| parts.next())
            .flatten()
            .filter(|part| BACKENDS.contains(part))
    }

    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn sources() -> Vec<Source> {
    read_sources("src")
}

/// Reads the sources in a folder of the repository.
pub(crate) fn read_sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    collect_files(&root, &mut files);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    assert!(files.len() > 5, "the sources were not found: {files:?}");
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).expect("a source");
            let path = file
                .strip_prefix(&root)
                .expect("below src")
                .to_string_lossy()
                .into_owned();
            let before_tests = text
                .split("\n#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            let code: Vec<&str> = before_tests
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            Source {
                path,
                code: code.join("\n"),
            }
        })
        .collect()
}

/// Collects the regular files below a folder, without generated ones.
fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
        let is_generated = path.ends_with("node_modules") || path.ends_with("__pycache__");
        if kind.is_dir() && !is_generated {
            collect_files(&path, files);
        } else if kind.is_file() {
            files.push(path);
        }
    }
}

/// Returns every path below `crate::` in the code, with groups in braces expanded.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        expand("", rest, &mut found);
    }
    found
}

pub(crate) fn expand(prefix: &str, rest: &str, found: &mut BTreeSet<String>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    if !group[start..at].trim().is_empty() {
                        expand(prefix, &group[start..at], found);
                    }
                    start = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    let path = if prefix.is_empty() {
        rest[..end].to_owned()
    } else {
        format!("{prefix}::{}", &rest[..end])
    };
    match rest[end..].strip_prefix("::") {
        Some(deeper) if !path.is_empty() => expand(&path, deeper, found),
        _ => drop(found.insert(path)),
    }
}

#[test]
fn paths_are_found_in_every_form() {
    let code = "use crate::domain::{self, memory::{Memory, Kind}, Scope};\nlet x = crate::store::sqlite::owner(path);\n\
                pub(in crate::mcp) fn f() { not_crate::engine::x() }";
    let expected = [
        "domain::Scope",
        "domain::memory::Kind",
        "domain::memory::Memory",
        "domain::self",
        "mcp",
        "store::sqlite::owner",
    ];
    assert_eq!(paths(code).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn modules_name_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !["lib.rs", "main.rs"].contains(&source.path.as_str()))
    {
        let module = source.module();
        let Some(may) = allowed.get(module) else {
            wrong.push(format!(
                "{}: the module {module} has no line in ALLOWED",
                source.path
            ));
            continue;
        };
        for path in paths(&source.code) {
            let target = path.split("::").next().unwrap_or_default();
            if target != module && allowed.contains_key(target) && !may.contains(&target) {
                wrong.push(format!(
                    "{} names {path}; {module} may name {may:?}",
                    source.path
                ));
            }
            let backend = path
                .strip_prefix("store::")
                .and_then(|rest| rest.split("::").next());
            let backend = backend.filter(|name| BACKENDS.contains(name));
            if module != "cli" && backend.is_some() && backend != source.backend() {
                wrong.push(format!("{} names the backend {path}", source.path));
            }
        }
        // A path that the reading above would miss.
        for line in source
            .code
            .lines()
            .filter(|line| line.contains("super::super::super::super"))
        {
            wrong.push(format!("{}: {line}", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_allowed_edges_have_no_circle() {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(module, may)| (*module, may.iter().copied().collect()))
        .collect();
    while !left.is_empty() {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, may)| !may.iter().any(|name| left.contains_key(name)))
            .map(|(name, _)| *name)
            .collect();
        assert!(!free.is_empty(), "a circle among {:?}", left.keys());
        for name in free {
            left.remove(name);
        }
    }
}

/// The workspace crates must be usable without the product and independently of each other.
#[test]
fn workspace_crates_do_not_use_the_product() {
    let names = [
        "cognitive_memory_mcp",
        "client_setup",
        "secret_filter",
        "sentence_bert",
        "service_kit",
        "session_hooks",
    ];
    for own in &names[1..] {
        let folder = format!("crates/{}/src", own.replace('_', "-"));
        for source in read_sources(&folder) {
            for name in names.iter().filter(|name| *name != own) {
                assert!(
                    !source.code.contains(*name),
                    "{folder}/{} names {name}",
                    source.path
                );
            }
        }
    }
}

#[test]
fn sql_lies_with_its_backend() {
    let begins = [
        "SELECT ",
        "INSERT INTO ",
        "UPDATE ",
        "DELETE FROM ",
        "CREATE TABLE ",
        "ALTER TABLE ",
        "PRAGMA ",
    ];
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.backend().is_none() && !source.is_test())
    {
        for line in source.code.lines() {
            if begins
                .iter()
                .any(|begin| line.contains(&format!("\"{begin}")))
                || line.contains("sqlx::query(")
                || line.contains("sqlx::raw_sql(")
            {
                wrong.push(format!("{}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "SQL outside of store/<backend>:\n{}",
        wrong.join("\n")
    );
}

/// The list of all statements hides unused ones from the compiler.
#[test]
fn every_statement_is_used() {
    let sources = sources();
    let mut wrong = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.code.contains("\nstatements! {"))
    {
        let backend = source.backend().expect("a backend has the SQL");
        let (_, block) = source.code.split_once("\nstatements! {").expect("a block");
        let block = block.split("\n}\n").next().unwrap_or_default();
        let names = block.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("    ")?.split_once(" = ")?;
            let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            is_name.then_some(name)
        });
        for name in names {
            let uses: usize = sources
                .iter()
                .filter(|other| other.backend() == Some(backend))
                .map(|other| word_count(&other.code, name))
                .sum();
            if uses < 2 {
                wrong.push(format!("{}: {name}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "unused statements:\n{}", wrong.join("\n"));
}

fn word_count(code: &str, word: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .filter(|(at, _)| {
            let after = &code[at + word.len()..];
            !code[..*at].ends_with(is_part) && !after.starts_with(is_part)
        })
        .count()
}

#[test]
fn the_domain_knows_no_machinery() {
    let foreign = [
        "tokio", "sqlx", "rmcp", "axum", "reqwest", "std::fs", "std::net", "async fn",
    ];
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.module() == "domain")
    {
        for name in foreign.iter().filter(|name| source.code.contains(**name)) {
            wrong.push(format!("{}: {name}", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_supervisor_spawns() {
    let spawns = [
        "tokio::spawn(",
        "task::spawn(",
        "JoinSet",
        "TaskTracker",
        "spawn_local",
        "Handle::current(",
    ];
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.module() != "lifecycle")
    {
        // Blocking on a future starts no task.
        let code = source.code.replace("Handle::current().block_on(", "");
        for name in spawns.iter().filter(|name| code.contains(**name)) {
            wrong.push(format!("{}: {name}", source.path));
        }
    }
    assert!(
        wrong.is_empty(),
        "tasks nobody watches:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in CODE_FOLDERS {
        collect_files(&root.join(folder), &mut files);
    }
    let mut checked = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files {
        let Some(language) = find_language(&file) else {
            continue;
        };
        checked.insert(language);
        let text = std::fs::read_to_string(&file).expect("a text");
        let lines = text.lines().count();
        if lines > MOST_LINES {
            wrong.push(format!(
                "{} has {lines} lines, {MOST_LINES} are allowed",
                file.display()
            ));
        }
    }
    assert_eq!(Vec::from_iter(checked), ["python", "rust", "shell"]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The language of a source file or script; scripts without an extension begin with their interpreter.
fn find_language(file: &Path) -> Option<&'static str> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("rs") => return Some("rust"),
        Some("py") => return Some("python"),
        Some("sh") => return Some("shell"),
        Some(_) => return None,
        None => {}
    }
    let bytes = std::fs::read(file).expect("a file");
    let first_line = bytes.split(|byte| *byte == b'\n').next()?;
    let interpreter = std::str::from_utf8(first_line).ok()?.strip_prefix("#!")?;
    Some(match interpreter.contains("python") {
        true => "python",
        false => "shell",
    })
}

#[test]
fn every_module_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for source in sources().iter().filter(|source| !source.is_test()) {
        let text = std::fs::read_to_string(root.join(&source.path)).expect("a source");
        assert!(
            text.starts_with("//!"),
            "{} begins without a comment that says what it is",
            source.path
        );
    }
}
