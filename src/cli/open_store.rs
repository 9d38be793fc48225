//! Opens the store that the configuration names.

use std::sync::Arc;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{Failure, UNAVAILABLE, fail};
use crate::config::{self, Database, Postgres, SecretHandling, Settings, SslMode};
use crate::domain::scope::DEFAULT_PROJECT;
use crate::domain::secrets::SecretPolicy;
use crate::domain::{Analyzer, Language, Scope, SystemClock};
use crate::engine::Engine;
use crate::store::postgres::{PostgresStore, RowSecurity};
use crate::store::sqlite::{self, SqliteOptions, SqliteStore};
use crate::store::{Limits, Store, StoreError};

/// A store that may still have to be prepared.
pub(super) struct OpenedStore {
    pub(super) store: Arc<dyn Store>,
    /// The embedded store, which can announce an address in its lock file.
    pub(super) embedded: Option<Arc<SqliteStore>>,
    pub(super) analyzer: Arc<Analyzer>,
}

impl OpenedStore {
    /// Builds an engine on the store.
    pub(super) fn build_engine(&self, settings: &Settings) -> Engine {
        Engine::new(
            Arc::clone(&self.store),
            Arc::clone(&self.analyzer),
            Arc::new(SystemClock),
        )
        .with_focus_capacity(settings.focus_capacity)
        .with_review_days(settings.review_days)
        .with_secrets(secret_policy(settings).unwrap_or(SecretPolicy::Refuse))
    }
}

/// Returns the configured handling of credentials; without one, the default depends on what stores the text.
pub(super) fn secret_policy(settings: &Settings) -> Option<SecretPolicy> {
    settings.secrets.map(|handling| match handling {
        SecretHandling::Mask => SecretPolicy::Mask,
        SecretHandling::Refuse => SecretPolicy::Refuse,
        SecretHandling::Allow => SecretPolicy::Allow,
    })
}

/// Creates the store without connecting.
pub(super) fn create_store(settings: &Settings) -> Result<OpenedStore, Failure> {
    let language: Language = settings
        .language
        .parse()
        .map_err(|error: String| Failure::internal(anyhow::anyhow!(error)))?;
    let analyzer = Arc::new(Analyzer::new(language));
    let config::ProjectLimits {
        memories,
        bytes,
        entries,
    } = settings.limits;
    let limits = Limits {
        memories,
        bytes,
        entries,
    };
    Ok(match &settings.database {
        Database::Sqlite { path } => {
            let options = SqliteOptions {
                limits,
                ..SqliteOptions::new(path)
            };
            let embedded = Arc::new(SqliteStore::open(options, Arc::clone(&analyzer)));
            OpenedStore {
                store: Arc::clone(&embedded) as Arc<dyn Store>,
                embedded: Some(embedded),
                analyzer,
            }
        }
        Database::Postgres(postgres) => {
            if !postgres.ignored.is_empty() {
                tracing::info!(
                    parameters = postgres.ignored.join(", "),
                    "MEMORY_DATABASE_URL has parameters without effect"
                );
            }
            let store = PostgresStore::new(
                connect_options(postgres)?,
                settings.database_pool,
                Arc::clone(&analyzer),
            )
            .with_limits(limits)
            .with_row_security(match settings.row_security {
                config::RowSecurity::Auto => RowSecurity::Auto,
                config::RowSecurity::On => RowSecurity::On,
                config::RowSecurity::Off => RowSecurity::Off,
            });
            OpenedStore {
                store: Arc::new(store),
                embedded: None,
                analyzer,
            }
        }
    })
}

fn connect_options(postgres: &Postgres) -> Result<PgConnectOptions, Failure> {
    let options = match &postgres.url {
        Some(url) => url.expose_secret().parse().map_err(Failure::internal)?,
        None => {
            let options = PgConnectOptions::new_without_pgpass()
                .host(&postgres.host)
                .port(postgres.port)
                .username(&postgres.user)
                .database(&postgres.name)
                .ssl_mode(match postgres.ssl_mode {
                    SslMode::Disable => PgSslMode::Disable,
                    SslMode::Prefer => PgSslMode::Prefer,
                    SslMode::Require => PgSslMode::Require,
                    SslMode::VerifyCa => PgSslMode::VerifyCa,
                    SslMode::VerifyFull => PgSslMode::VerifyFull,
                });
            match &postgres.password {
                Some(password) => options.password(password.expose_secret()),
                None => options,
            }
        }
    };
    Ok(options.application_name("cognitive-memory-mcp"))
}

/// Opens a store for reading, even if a service has it open.
pub(super) async fn open_readable(settings: &Settings) -> Result<OpenedStore, Failure> {
    if let Database::Sqlite { path } = &settings.database {
        sqlite::refuse_other_name(path)?;
    }
    let local = create_store(settings)?;
    if local.embedded.is_none() {
        let pending = local.store.pending_migrations().await?;
        if !pending.is_empty() {
            fail!(
                CONFIGURATION,
                "the database has an older schema (missing: {}): start the service once, or run `cognitive-memory-mcp \
                 migrate`",
                pending.join(", ")
            );
        }
        local.store.prepare().await?;
    }
    Ok(local)
}

/// Opens a store for writing. One process at a time may open the embedded file.
pub(super) async fn open_writable(settings: &Settings, what: &str) -> Result<OpenedStore, Failure> {
    let local = create_store(settings)?;
    local
        .store
        .prepare()
        .await
        .map_err(|error| explain_in_use(error, what))?;
    Ok(local)
}

/// Adds the next step to the error of a database that is in use.
pub(super) fn explain_in_use(error: StoreError, what: &str) -> Failure {
    if !matches!(error, StoreError::InUse { .. }) {
        return error.into();
    }
    let error = anyhow::Error::from(error).context(format!(
        "{what} needs exclusive access to the embedded database; stop the service (systemctl --user stop \
         cognitive-memory-mcp, or end the client that started it), {what}, and start it again"
    ));
    Failure::new(UNAVAILABLE, error)
}

/// Returns the scope of all projects, or of one that exists.
pub(super) async fn export_scope(
    local: &OpenedStore,
    project: Option<&str>,
) -> Result<Scope, Failure> {
    let projects = local.store.projects().await?;
    match project {
        None => Ok(Scope::new(DEFAULT_PROJECT, "export").reading(projects)),
        Some(name) if projects.iter().any(|known| known == name) => Ok(Scope::new(name, "export")),
        Some(name) => {
            let known = if projects.is_empty() {
                "none yet".to_owned()
            } else {
                projects.join(", ")
            };
            fail!(USAGE, "there is no project {name:?}; there are: {known}")
        }
    }
}
