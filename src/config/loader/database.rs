//! The rules between the settings of the database.

use std::path::Path;

use super::Loader;
use crate::config::database::{Address, Database, Postgres};
use crate::config::setting::{self as table, SettingInfo};
use crate::config::settings::Environment;

/// Settings that `MEMORY_DATABASE_URL` excludes.
static PARTS: [&SettingInfo; 6] = [
    &table::DATABASE_HOST.info,
    &table::DATABASE_PORT.info,
    &table::DATABASE_NAME.info,
    &table::DATABASE_USER.info,
    &table::DATABASE_PASSWORD.info,
    &table::DATABASE_SSLMODE.info,
];

impl Loader<'_> {
    pub(super) fn database(
        &mut self,
        environment: Option<Environment>,
        data_dir: &Path,
    ) -> Option<Database> {
        let address = self.value(&table::DATABASE_URL);
        let host = self.value(&table::DATABASE_HOST);
        let port = self.number(&table::DATABASE_PORT);
        let name = self.value(&table::DATABASE_NAME);
        let user = self.value(&table::DATABASE_USER);
        let password = self.value(&table::DATABASE_PASSWORD);
        let ssl_mode = self.value(&table::DATABASE_SSLMODE);
        self.check_parts();
        if self.is_broken(&table::DATABASE_URL) || PARTS.iter().any(|part| self.is_broken(part)) {
            return None;
        }
        match (address, host) {
            (Some(Address::Sqlite(path)), _) => {
                let base = self.base_directory(&table::DATABASE_URL);
                let path = self.sources.path_from(&base, &path);
                Some(Database::Sqlite { path })
            }
            (Some(Address::Postgres(postgres)), _) => Some(Database::Postgres(*postgres)),
            (None, Some(host)) => Some(Database::Postgres(Postgres {
                host,
                port,
                name: match name {
                    Some(name) => name,
                    None => self.default_database_name(environment?),
                },
                user: user?,
                password,
                ssl_mode: ssl_mode?,
                url: None,
                ignored: Vec::new(),
            })),
            (None, None) if environment == Some(Environment::Production) => {
                self.report(
                    &table::DATABASE_HOST,
                    "Set MEMORY_DATABASE_HOST, or MEMORY_DATABASE_URL=sqlite:PATH for an embedded file: production does not guess where memories are kept.",
                );
                None
            }
            (None, None) => Some(Database::Sqlite {
                path: data_dir.join("memory.db"),
            }),
        }
    }

    /// Reports parts that have no effect.
    fn check_parts(&mut self) {
        let remedy = if self.is_set(&table::DATABASE_URL) {
            "Remove it, or MEMORY_DATABASE_URL: the address contains all parts."
        } else if !self.is_set(&table::DATABASE_HOST)
            && !self.is_broken(&table::DATABASE_HOST)
            && !self.is_broken(&table::DATABASE_URL)
        {
            // The user meant to configure a server, so the memories must not go into a file.
            "Set MEMORY_DATABASE_HOST too, or remove it: without a host it has no effect."
        } else {
            return;
        };
        for part in PARTS {
            if self.is_set(part) && !self.is_broken(part) {
                self.report(part, remedy);
            }
        }
    }

    fn default_database_name(&mut self, environment: Environment) -> String {
        let name = match environment {
            Environment::Production => "cognitive_memory",
            Environment::Development => "cognitive_memory_dev",
        };
        self.note_default(&table::DATABASE_NAME, name);
        name.to_owned()
    }
}
