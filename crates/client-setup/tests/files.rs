//! Reading and replacing the file of a client.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use client_setup::{ClientFile, FileProblem};

const SUFFIX: &str = ".now.bak";

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

fn names_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").file_name().into())
        .collect();
    names.sort();
    names
}

#[test]
fn a_replaced_file_keeps_its_mode_and_leaves_a_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mcp.json");
    fs::write(&path, "old").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let file = ClientFile::read(&path).expect("a file");
    assert_eq!(file.text(), Some("old"));
    let backup = file.replace_text("new", SUFFIX).expect("a replacement");
    let backup = backup.expect("a backup");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "new");
    assert_eq!(fs::read_to_string(&backup).expect("a backup"), "old");
    assert_eq!((mode_of(&path), mode_of(&backup)), (0o640, 0o640));
    let expected = ["mcp.json", "mcp.json.now.bak"].map(PathBuf::from);
    assert_eq!(names_in(folder.path()), expected, "no draft is left");
}

#[test]
fn a_new_file_is_private_and_gets_its_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a/b/mcp.json");
    let file = ClientFile::read(&path).expect("a missing file");
    assert_eq!(file.text(), None);
    let backup = file.replace_text("new", SUFFIX).expect("a new file");
    assert_eq!((backup, mode_of(&path)), (None, 0o600));
}

#[test]
fn a_file_that_changed_meanwhile_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mcp.json");
    let missing = ClientFile::read(&path).expect("a missing file");
    fs::write(&path, "of another program").expect("a file");
    let old = ClientFile::read(&path).expect("a file");
    let refused = missing.replace_text("new", SUFFIX).expect_err("a conflict");
    assert!(matches!(refused, FileProblem::Changed(_)), "{refused}");
    fs::write(&path, "changed again").expect("a file");
    let refused = old.replace_text("new", SUFFIX).expect_err("a conflict");
    assert!(matches!(refused, FileProblem::Changed(_)), "{refused}");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "changed again");
    assert_eq!(names_in(folder.path()), [PathBuf::from("mcp.json")]);
}

#[test]
fn a_backup_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mcp.json");
    fs::write(&path, "old").expect("a file");
    fs::write(folder.path().join("mcp.json.now.bak"), "older").expect("a file");
    let file = ClientFile::read(&path).expect("a file");
    let refused = file.replace_text("new", SUFFIX).expect_err("a conflict");
    assert!(refused.to_string().contains("cannot create"), "{refused}");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "old");
}

#[test]
fn special_files_and_loops_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let in_folder = |name: &str| folder.path().join(name);
    fs::create_dir(in_folder("directory")).expect("a folder");
    symlink(in_folder("directory"), in_folder("to-directory")).expect("a link");
    symlink(in_folder("nothing"), in_folder("dangling")).expect("a link");
    symlink(in_folder("loop"), in_folder("loop")).expect("a link");
    fs::write(in_folder("file"), "x").expect("a file");
    for (name, words) in [
        ("directory", "is not a regular file"),
        ("to-directory", "is not a regular file"),
        ("dangling", "symbolic link"),
        ("loop", "cannot read"),
        ("file/below", "cannot"),
    ] {
        let problem = ClientFile::read(&in_folder(name)).expect_err(name);
        let text = problem.to_string();
        assert!(
            text.contains(words) && text.lines().count() == 1,
            "{name}: {text}"
        );
    }
}
