//! Files must not import each other in a cycle.
//!
//! Re-exports are followed to the file that defines the item. A module file and the files below it may use each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::architecture::{Source, expand, read_sources};

/// The module path of each file, for example `["config", "setting"]`.
type Modules = BTreeMap<Vec<String>, String>;

#[test]
fn files_do_not_import_each_other_in_a_cycle() {
    let mut found = Vec::new();
    for root in [
        "src",
        "crates/client-setup/src",
        "crates/secret-filter/src",
        "crates/sentence-bert/src",
        "crates/service-kit/src",
        "crates/session-hooks/src",
    ] {
        let imports = find_imports(&read_sources(root));
        for cycle in find_cycles(&imports) {
            let edges = cycle.iter().map(|file| {
                let targets: Vec<&String> = imports[file].intersection(&cycle).collect();
                format!("  {root}/{file} uses {targets:?}")
            });
            found.push(edges.collect::<Vec<_>>().join("\n"));
        }
    }
    assert!(
        found.is_empty(),
        "files import each other:\n{}",
        found.join("\n\n")
    );
}

#[test]
fn a_cycle_through_a_re_export_is_found() {
    let source = |path: &str, code: &str| Source {
        path: path.to_owned(),
        code: code.to_owned(),
    };
    let sources = [
        source("lib.rs", "mod a;\nmod b;"),
        source("a/mod.rs", "mod one;\npub use one::One;"),
        source("a/one.rs", "use super::super::b::{Two, Other};"),
        source("b.rs", "use crate::a::{One, self};\nstruct Two(One);"),
        source("c.rs", "use crate::b::Two;"),
    ];
    let cycles = find_cycles(&find_imports(&sources));
    let expected = ["a/one.rs", "b.rs"].map(str::to_owned);
    assert_eq!(cycles, [BTreeSet::from(expected)]);
}

/// Returns the files that each file imports, except those above and below it.
fn find_imports(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: Modules = sources
        .iter()
        .map(|source| (module_path(&source.path), source.path.clone()))
        .collect();
    let re_exports: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = sources
        .iter()
        .map(|source| (module_path(&source.path), find_re_exports(source)))
        .collect();
    let mut imports = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let own = module_path(&source.path);
        let mut targets = BTreeSet::new();
        for path in find_paths(&source.code, &own) {
            let module = resolve_module(path, &modules, &re_exports);
            if !module.starts_with(&own) && !own.starts_with(&module) {
                targets.insert(modules[&module].clone());
            }
        }
        imports.insert(source.path.clone(), targets);
    }
    imports
}

fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// Returns the absolute paths that the code names by `crate::` or `super::`.
fn find_paths(code: &str, own: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for keyword in ["crate::", "super::"] {
        for (at, _) in code.match_indices(keyword) {
            let before = &code[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
                || before.ends_with("super::")
            {
                continue;
            }
            let mut rest = &code[at..];
            let mut base: Vec<String> = Vec::new();
            if let Some(path) = rest.strip_prefix("crate::") {
                rest = path;
            } else {
                base = own.to_vec();
                while let Some(path) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = path;
                }
            }
            found.extend(join_paths(&base, rest));
        }
    }
    found
}

fn join_paths(base: &[String], rest: &str) -> BTreeSet<Vec<String>> {
    let mut paths = BTreeSet::new();
    expand("", rest, &mut paths);
    let join = |path: &String| {
        let parts = path.split("::").filter(|part| *part != "self");
        base.iter()
            .cloned()
            .chain(parts.map(str::to_owned))
            .collect()
    };
    paths.iter().map(join).collect()
}

/// Returns the absolute paths of the items that a module re-exports.
fn find_re_exports(source: &Source) -> BTreeSet<Vec<String>> {
    let own = module_path(&source.path);
    let mut found = BTreeSet::new();
    for (at, _) in source.code.match_indices("pub") {
        let statement = &source.code[at..];
        let Some((head, rest)) = statement.split_once("use ") else {
            continue;
        };
        if head.trim() != "pub" && !(head.starts_with("pub(") && head.trim().ends_with(')')) {
            continue;
        }
        let rest = rest.split_once(';').map_or(rest, |(rest, _)| rest);
        match rest.starts_with("crate::") || rest.starts_with("super::") {
            true => found.extend(find_paths(rest, &own)),
            false => found.extend(join_paths(&own, rest.trim_start_matches("self::"))),
        }
    }
    found
}

/// Returns the module that defines an item.
fn resolve_module(
    mut path: Vec<String>,
    modules: &Modules,
    re_exports: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
) -> Vec<String> {
    // Each step follows one re-export.
    for _ in 0..8 {
        let mut length = path.len();
        while !modules.contains_key(&path[..length]) {
            length -= 1;
        }
        let module = path[..length].to_vec();
        let target = path.get(length).and_then(|item| {
            let exported = re_exports.get(&module)?;
            exported.iter().find(|other| other.last() == Some(item))
        });
        match target {
            Some(target) if *target != path => path = target.clone(),
            _ => return module,
        }
    }
    panic!("re-exports of {path:?} do not end");
}

/// Returns the groups of files that import each other in a cycle.
fn find_cycles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reachable: BTreeMap<&String, BTreeSet<String>> = imports
        .keys()
        .map(|file| (file, find_reachable(file, imports)))
        .collect();
    let mut cycles: Vec<BTreeSet<String>> = Vec::new();
    for (file, targets) in &reachable {
        let cycle: BTreeSet<String> = targets
            .iter()
            .filter(|target| {
                reachable
                    .get(target)
                    .is_some_and(|back| back.contains(*file))
            })
            .cloned()
            .collect();
        if cycle.len() > 1 && !cycles.contains(&cycle) {
            cycles.push(cycle);
        }
    }
    cycles
}

fn find_reachable(file: &String, imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![file];
    while let Some(next) = open.pop() {
        for target in imports.get(next).into_iter().flatten() {
            if found.insert(target.clone()) {
                open.push(target);
            }
        }
    }
    found
}
