//! Log lines about the settings in use.

use crate::config::{FileState, Settings};

/// Logs the settings that the service uses, for example "production environment loaded".
pub(super) fn announce_settings(settings: &Settings) {
    let summary = settings.summary();
    tracing::info!(
        environment = summary.environment.as_str(),
        env_file = summary.env_file.as_ref().map(|path| tracing::field::display(path.display())),
        backend = summary.backend,
        database = summary.database,
        server = summary.server,
        listen = %summary.listen,
        auth = if summary.credentials.is_some() { "tokens" } else { "none" },
        credentials = summary.credentials,
        "{} environment loaded",
        summary.environment,
    );
    log_warnings(settings);
    for file in &settings.files {
        if let FileState::Ignored(reason) = &file.state {
            tracing::warn!(file = file.path, reason, "a settings file was ignored");
        }
    }
}

/// Logs probable mistakes in the settings.
pub(super) fn log_warnings(settings: &Settings) {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
}
