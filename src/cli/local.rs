//! The store that the configuration names.

use std::sync::Arc;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::Failure;
use crate::config::{self, Database, Postgres, Settings, SslMode};
use crate::domain::{Analyzer, Language};
use crate::store::postgres::{PostgresStore, RowSecurity};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::{Limits, Store};

/// A store that was not prepared yet.
pub(super) struct Local {
    pub(super) store: Arc<dyn Store>,
    /// The same one, if it is the embedded one: it knows its lock file.
    pub(super) embedded: Option<Arc<SqliteStore>>,
    pub(super) analyzer: Arc<Analyzer>,
}

/// Makes the store; connects to nothing.
pub(super) fn store(settings: &Settings) -> Result<Local, Failure> {
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
            Local {
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
                options(postgres)?,
                settings.database_pool,
                Arc::clone(&analyzer),
            )
            .with_limits(limits)
            .with_row_security(match settings.row_security {
                config::RowSecurity::Auto => RowSecurity::Auto,
                config::RowSecurity::On => RowSecurity::On,
                config::RowSecurity::Off => RowSecurity::Off,
            });
            Local {
                store: Arc::new(store),
                embedded: None,
                analyzer,
            }
        }
    })
}

fn options(postgres: &Postgres) -> Result<PgConnectOptions, Failure> {
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
