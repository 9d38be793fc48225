//! Output of settings without secrets.

use super::*;

// ---- what people see -----------------------------------------------------------------------------------------------

fn shown_site() -> Site {
    Site::new()
        .file(
            ".env.production",
            "MEMORY_DATABASE_HOST=db\nMEMORY_DATABASE_PASSWORD_FILE=secret\n",
        )
        .file("secret", "hunter2\n")
        .env("ENVIRONMENT", "production")
        .env("MEMORY_TOKENS", "laptop 0123456789abcdef")
        .env("MEMORY_LOG_FILE", "")
        .flag("MEMORY_LISTEN", "0.0.0.0:1")
}

#[test]
fn show() {
    let site = shown_site();
    let text = read(&site.sources, Purpose::Command).show();
    // The width of the columns depends on the directory.
    let narrow = |line: &str| {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
            .join("  ")
    };
    let text = site.neutral(&text.lines().map(narrow).collect::<Vec<_>>().join("\n"));
    assert!(!text.contains("hunter2") && !text.contains("0123456789"));
    insta::assert_snapshot!(text);
}

#[test]
fn check() {
    let valid = read(&shown_site().sources, Purpose::Service).check();
    let broken = read(
        &Site::new().env("MEMORY_LANGUAGE", "klingon").sources,
        Purpose::Service,
    )
    .check();
    insta::assert_snapshot!(format!("{valid}---\n{broken}"));
}

#[test]
fn debug_shows_no_secret() {
    let site = shown_site();
    let text = format!(
        "{:?}\n{:?}\n{:?}",
        site.sources,
        site.settings(),
        read(&site.sources, Purpose::Service)
    );
    assert!(
        !text.contains("hunter2") && !text.contains("0123456789"),
        "{text}"
    );
}

// ---- properties ----------------------------------------------------------------------------------------------------

fn any_name() -> impl Strategy<Value = String> {
    (0..SETTINGS.len(), any::<bool>()).prop_map(|(index, file)| {
        let name = SETTINGS[index].name;
        if file {
            format!("{name}_FILE")
        } else {
            name.to_owned()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With any values in any source: no panic, no secret in any output, and an error names at least one problem.
    #[test]
    fn no_secret_ever_shows(
        variables in prop::collection::btree_map(any_name(), "CANARY[ -~\\n]{0,30}|[ -~]{0,30}", 0..6),
        file in prop::collection::btree_map(any_name(), "CANARY[ -&(-~]{0,30}|[ -&(-~]{0,30}", 0..6),
    ) {
        let mut site = Site::new();
        for (name, value) in &variables {
            let secret = find_setting(name).is_some_and(SettingInfo::is_secret);
            site = site.env(name, &if secret { value.clone() } else { value.replace("CANARY", "") });
        }
        let lines: String = file.iter().map(|(name, value)| {
            let secret = find_setting(name).is_some_and(SettingInfo::is_secret);
            format!("{name}='{}'\n", if secret { value.clone() } else { value.replace("CANARY", "") })
        }).collect();
        site = site.file(".env.development", lines);
        let reading = read(&site.sources, Purpose::Service);
        let text = format!("{}{}{reading:?}", reading.show(), reading.check());
        prop_assert!(!text.contains("CANARY"), "{}", text);
        if let Err(error) = &reading.settings {
            prop_assert!(!error.problems().is_empty());
        }
    }

    /// A value from the environment is used, whatever the file contains.
    #[test]
    fn the_environment_wins_over_the_file(ours in 1_u32..=100, theirs in 0_u32..=200) {
        let site = Site::new().file(".env.development", format!("MEMORY_DATABASE_POOL={theirs}")).env("MEMORY_DATABASE_POOL", &ours.to_string());
        prop_assert_eq!(site.settings().database_pool, ours);
    }

    /// Secrets are not changed, even if they come from a file.
    #[test]
    fn a_password_arrives_unchanged(password in "[ -~é✓]{1,40}") {
        prop_assume!(!password.trim().is_empty());
        let site = Site::production().file("p", format!("{password}\n")).env("MEMORY_DATABASE_PASSWORD_FILE", "p");
        let Database::Postgres(postgres) = site.settings().database else { panic!("not PostgreSQL") };
        let arrived = postgres.password.unwrap();
        prop_assert_eq!(arrived.expose_secret(), &password);
    }
}
