//! The search paths of files, and the users whose files are trusted.

use std::fs;

use super::*;

// ---- where files are looked for ------------------------------------------------------------------------------------

fn languages(site: &Site) -> String {
    site.entry("MEMORY_LANGUAGE").0
}

#[test]
fn the_first_configuration_directory_that_applies_is_the_only_one() {
    // Built from the lowest to the highest layer; each new one must win.
    let line = |language: &str| format!("MEMORY_LANGUAGE={language}\n");
    let mut site = Site::unnamed().file(".env.development", line("tamil"));
    assert_eq!(
        languages(&site),
        "english",
        "the working directory is not read"
    );
    site = site.file(
        "home/.config/cognitive-memory-mcp/.env.development",
        line("danish"),
    );
    assert_eq!(languages(&site), "danish");
    site = site
        .file("xdg/cognitive-memory-mcp/.env.development", line("dutch"))
        .env_path("XDG_CONFIG_HOME", "xdg");
    assert_eq!(languages(&site), "dutch");
    assert_eq!(
        languages(&site.env("XDG_CONFIG_HOME", "xdg")),
        "danish",
        "relative paths are ignored"
    );

    let mut site = Site::unnamed().file(
        "home/.config/cognitive-memory-mcp/.env.development",
        line("danish"),
    );
    site = site
        .file("one/x", "")
        .file("two/.env.development", line("finnish"));
    let list = |site: &Site, names: &[&str]| {
        names
            .iter()
            .map(|name| site.path().join(name).display().to_string())
            .collect::<Vec<_>>()
            .join(":")
    };
    let (both, first) = (list(&site, &["one", "two"]), list(&site, &["one"]));
    site = site.env("CONFIGURATION_DIRECTORY", &both);
    assert_eq!(languages(&site), "finnish", "the first with the file");
    assert!(
        site.entry("MEMORY_CONFIG_DIR")
            .1
            .contains("CONFIGURATION_DIRECTORY")
    );
    site = site.env("CONFIGURATION_DIRECTORY", &first);
    assert_eq!(
        languages(&site),
        "english",
        "no other directory is searched"
    );
    site = site.env("CONFIGURATION_DIRECTORY", "one:two");
    assert_eq!(languages(&site), "danish", "relative paths are ignored");
    site = site
        .env("CONFIGURATION_DIRECTORY", &both)
        .file("named/.env.development", line("french"));
    site = site.env_path("MEMORY_CONFIG_DIR", "named");
    assert_eq!(languages(&site), "french");
    site = site
        .file("option/.env.development", line("german"))
        .flag("MEMORY_CONFIG_DIR", "option");
    assert_eq!(
        languages(&site),
        "german",
        "the option takes relative paths"
    );
    site = site
        .file(".env.development", line("spanish"))
        .flag("MEMORY_CONFIG_DIR", ".");
    assert_eq!(
        languages(&site),
        "spanish",
        "the working directory on request"
    );
}

#[test]
fn without_a_home_settings_are_in_etc() {
    for home in ["", "/", "relative"] {
        let site = Site::unnamed().env("HOME", home).file(
            "relative/.config/cognitive-memory-mcp/.env.development",
            "x",
        );
        assert_eq!(
            site.entry("MEMORY_CONFIG_DIR"),
            entry("/etc/cognitive-memory-mcp", "default"),
            "{home:?}"
        );
        assert!(
            site.settings()
                .files
                .iter()
                .all(|file| file.path.starts_with("/etc/cognitive-memory-mcp/"))
        );
    }
}

#[test]
fn a_relative_configuration_directory_is_a_problem() {
    for path in ["etc", ".", "./etc", "../etc", "~x/etc"] {
        let site = Site::new()
            .file("etc/.env.development", "")
            .env("MEMORY_CONFIG_DIR", path);
        assert_eq!(site.wrong(), ["MEMORY_CONFIG_DIR"], "{path}");
        assert!(load(&site.sources, Purpose::Command).is_err(), "{path}");
    }
    let site = Site::unnamed()
        .file("home/x/.env.development", "MEMORY_LANGUAGE=german")
        .env("MEMORY_CONFIG_DIR", "~/x");
    assert_eq!(languages(&site), "german");
}

#[test]
fn a_file_in_the_working_directory_is_mentioned_and_not_read() {
    let site = Site::unnamed().file(
        ".env.development",
        "MEMORY_URL=http://127.0.0.1:1/mcp\nnonsense",
    );
    for purpose in [Purpose::Service, Purpose::Command] {
        let settings = load(&site.sources, purpose).unwrap();
        assert_eq!((settings.client.url, settings.env_file), (None, None));
        let Some(ConfigFile {
            path,
            state: FileState::Ignored(reason),
        }) = settings.files.first()
        else {
            panic!("{:?}", settings.files)
        };
        assert!(
            path == ".env.development" && reason.contains("--config-dir"),
            "{reason}"
        );
    }
}

#[test]
fn paths_in_a_file_start_at_its_directory() {
    let site = Site::unnamed()
        .file(
            "etc/.env.development",
            "MEMORY_TOKENS_FILE=tokens\nMEMORY_LOG_FILE=x.log\nMEMORY_DATABASE_URL=sqlite:m.db",
        )
        .file("etc/tokens", "laptop 0123456789abcdef")
        .file("tokens", "stranger 0123456789abcdef")
        .env_path("MEMORY_CONFIG_DIR", "etc");
    let settings = site.settings();
    let Auth::Tokens(credentials) = &settings.auth else {
        panic!("no tokens")
    };
    assert_eq!(credentials[0].name, "laptop");
    assert_eq!(settings.log.file, Some(site.path().join("etc/x.log")));
    assert_eq!(
        settings.database.name(),
        site.path().join("etc/m.db").display().to_string()
    );
    let read: Vec<&str> = settings
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(read, ["etc/.env.development", "etc/tokens"]);
    assert_eq!(
        site.env("MEMORY_LOG_FILE", "y.log").settings().log.file,
        Some(site_path(&settings, "y.log"))
    );
}

fn site_path(settings: &Settings, name: &str) -> std::path::PathBuf {
    let directory = settings
        .env_file
        .as_ref()
        .and_then(|file| file.parent()?.parent())
        .unwrap();
    directory.join(name)
}

// ---- whose files are trusted ---------------------------------------------------------------------------------------

fn set_mode(site: &Site, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(site.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// Checks that the service refuses to start, and that a command works without the file and reports it.
#[track_caller]
fn assert_distrusted(site: &Site, words: &str) {
    let error = site.error().to_string();
    assert!(error.contains(words), "{error}");
    let settings = load(&site.sources, Purpose::Command).unwrap();
    assert_eq!((settings.language, settings.env_file), ("english", None));
    assert!(
        settings.warnings.len() == 1 && settings.warnings[0].contains(words),
        "{:?}",
        settings.warnings
    );
    let ignored = settings
        .files
        .iter()
        .any(|file| matches!(&file.state, FileState::Ignored(why) if why.contains(words)));
    assert!(ignored, "{:?}", settings.files);
}

#[test]
fn files_that_others_could_have_written_are_not_read() {
    let site = || {
        Site::new()
            .file("etc/.env.development", "MEMORY_LANGUAGE=german")
            .env_path("MEMORY_CONFIG_DIR", "etc")
    };
    assert_eq!(languages(&site()), "german");
    let open_file = site();
    set_mode(&open_file, "etc/.env.development", 0o666);
    assert_distrusted(&open_file, "it is writable by everyone (mode 666)");
    for mode in [0o777, 0o1777] {
        let open_directory = site();
        set_mode(&open_directory, "etc", mode);
        assert_distrusted(&open_directory, "it is writable by everyone");
    }
    let open_parent = site()
        .file("a/b/.env.development", "MEMORY_LANGUAGE=german")
        .env_path("MEMORY_CONFIG_DIR", "a/b");
    set_mode(&open_parent, "a", 0o777);
    assert_distrusted(&open_parent, "is writable by everyone");
    let linked = Site::new()
        .file("open/file", "MEMORY_LANGUAGE=german")
        .file("etc/x", "")
        .env_path("MEMORY_CONFIG_DIR", "etc");
    std::os::unix::fs::symlink("../open/file", linked.path().join("etc/.env.development")).unwrap();
    assert_eq!(languages(&linked), "german", "links are followed");
    set_mode(&linked, "open/file", 0o646);
    assert_distrusted(&linked, "it is writable by everyone");
    set_mode(&linked, "open/file", 0o644);
    set_mode(&linked, "open", 0o757);
    assert_distrusted(&linked, "open is writable by everyone");
}

#[test]
fn files_of_other_users_are_not_read() {
    let mut site = Site::new()
        .file("etc/.env.development", "MEMORY_LANGUAGE=german")
        .env_path("MEMORY_CONFIG_DIR", "etc");
    if site.sources.user.uid == 0 {
        let chown = |name: &str, uid| {
            std::os::unix::fs::lchown(site.path().join(name), Some(uid), Some(uid)).unwrap()
        };
        chown("etc/.env.development", 4711);
        assert_distrusted(&site, "it is owned by user 4711");
        chown("etc/.env.development", 0);
        chown("etc", 4711);
        assert_distrusted(&site, "it is owned by user 4711");
        chown("etc", 0);
        fs::rename(
            site.path().join("etc/.env.development"),
            site.path().join("file"),
        )
        .unwrap();
        std::os::unix::fs::symlink("../file", site.path().join("etc/.env.development")).unwrap();
        chown("etc/.env.development", 4711);
        assert_distrusted(&site, "is a symbolic link, and it is owned by user 4711");
        // Files of root are always trusted.
        chown("etc/.env.development", 0);
        site.sources.user = User {
            uid: 4711,
            gid: 4711,
        };
        assert_eq!(languages(&site), "german");
    } else {
        site.sources.user.uid += 1;
        assert_distrusted(&site, "it is owned by user");
    }
}

#[test]
fn lines_of_other_programs_do_not_stop_anything() {
    let lines = "VITE_API_URL=http://localhost:3000\nVITE_TITLE=My app\nMEMORY_LANGUAGE=german\nENVIRONMENT=staging\n";
    let site = Site::new().file(".env.development", lines);
    for purpose in [Purpose::Service, Purpose::Command] {
        let settings = load(&site.sources, purpose).unwrap();
        assert_eq!(
            (settings.language, settings.warnings.len()),
            ("german", 2),
            "{:?}",
            settings.warnings
        );
        assert!(settings.warnings[0].contains(".env.development line 2"));
    }
    let leftover = Site::new().file(
        ".env.development",
        "MEMORY_FILE_PATH=/my notes/x.json\nno assignment\n",
    );
    assert_eq!(
        load(&leftover.sources, Purpose::Command)
            .unwrap()
            .warnings
            .len(),
        2
    );
    // A line of ours is never ignored.
    for text in [
        "MEMORY_LANGUAGE=two words",
        "VITE_TITLE=\"My app\nMEMORY_LANGUAGE=german\n",
    ] {
        let site = Site::new().file(".env.development", text);
        assert!(load(&site.sources, Purpose::Command).is_err(), "{text}");
    }
}
