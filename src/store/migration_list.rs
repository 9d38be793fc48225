//! The migrations of both databases, in order, each with the SHA-256 of its file.
//!
//! Databases record which migrations were applied to them. A schema change therefore needs a new migration at the end
//! of a list; an existing migration must not be edited. A test compares the hashes.

/// A schema change.
pub(super) struct Migration {
    /// Name of the file; begins with the version in four digits.
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    #[cfg(test)]
    sha256: &'static str,
}

impl Migration {
    /// Returns the version of the schema after the migration.
    pub(super) fn version(&self) -> i64 {
        self.name[..4].parse().unwrap_or_default()
    }
}

/// The SQL of a migration: the file of its name, or the text in the list if it is one statement.
macro_rules! migration_sql {
    ($folder:literal $name:literal) => {
        include_str!(concat!($folder, "/migrations/", $name, ".sql"))
    };
    ($folder:literal $name:literal $sql:literal) => {
        $sql
    };
}

macro_rules! migrations {
    ($($folder:literal $name:literal $sha256:literal $($sql:literal)?,)+) => {
        &[$(Migration {
            name: $name,
            sql: migration_sql!($folder $name $($sql)?),
            #[cfg(test)]
            sha256: $sha256,
        }),+]
    };
}

pub(super) const SQLITE: &[Migration] = migrations! {
    "sqlite" "0001_memory" "a964d7893b8ae8b64cf979f21a29939fb6a325b1dc3362fc02ef10d0a1c9a99f",
    "sqlite" "0002_graph" "63ddca300ca33feba16791b27d3e83cf5b71e2de3b5bfdb8d025295c16433fdb",
    "sqlite" "0003_review" "d08d4a864860fc7de0577f38b78f915107804780d2a595096b3421141a253dcf",
    "sqlite" "0004_project" "8ec3eaf5c99f5be09a35a89f9db8d9801c933d006d701d445c33216ebd4f1940",
    "sqlite" "0005_trace" "803e6577bfe79ed96e060ca341c14b6a9b28efc904d2d12059497a003a378fbe",
    "sqlite" "0006_history" "df3d6f9a0f956368a7a878e191456f14b95c0c221e952d624531b19b4c49294d",
    "sqlite" "0007_history_check" "1a29d866cc69137b9585f6dd2ac60f7c750cbd8f003f9bb26abd5f4b72eb22ab",
    "sqlite" "0008_short_id" "551486ffef0bab356a39fdded62c3e548633fcf38f180488b8738d5b38640dc2",
    "sqlite" "0009_outstanding" "7d2b93a8e776eb3f7e02590f3902f9fe12d3c8374cc8c596b2928875c88cbdaa"
r"-- What a conversation begins with: memories that are protected or important, of which there are few.
CREATE INDEX memory_outstanding ON memory (project, protected DESC, importance DESC, seq DESC)
    WHERE deleted_at IS NULL AND superseded_by IS NULL AND (protected = 1 OR importance >= 0.7);
",
    "sqlite" "0010_names" "37fe3c4cef1c2753400a21a73821351ae3915d7db24165d231d9bec82ea2d842",
};

pub(super) const POSTGRES: &[Migration] = migrations! {
    "postgres" "0001_foundation" "0be44ecd2d9de000528d276067df3a6e89a0656871d2c4866c6972e91add72eb",
    "postgres" "0002_graph" "0f8db7af14a9359ebf0e2ebcd06dce09d71955845c1ead85408a954ca3313911",
    "postgres" "0003_review" "4d6899f24e4d5cf55cda0b55e403b6bc7f49c20fba959117d412087953708fa0",
    "postgres" "0004_project" "e6228eb9999956d5dc98909f3f3aab73674895b34b0e1ded7f7f00124f5fc2fe",
    "postgres" "0005_trace" "23ffa15f1f176dc9bd8416342e94b8b1ec1944810852ed079a8c2bcf5d1c22c3",
    "postgres" "0006_half" "b2067aa876c6120ad9fea4031858067fba3fec5ae22c2b2ba042a7d026cc84c2",
    "postgres" "0007_history" "e54575d4f1bee0518bd3fdb9af6bedf1c385ff07860c66163600dd967eed9142",
    "postgres" "0008_short_id" "90193ad62f8fbcc407efe8c9137a176166acf929ed984528672caec73e5bc450",
    "postgres" "0009_outstanding" "23db094b3a19ca5ad8d134fc5b860fd2e45d684da09e8649f68f28519542646d"
r"-- What a conversation begins with: memories that are protected or important, of which there are few.
CREATE INDEX memory_outstanding ON memory (project_id, protected DESC, importance DESC, seq DESC)
    WHERE deleted_at IS NULL AND superseded_by IS NULL AND (protected OR importance >= 0.7);
",
    "postgres" "0010_tag" "87503770c02f6f0d9f487f751effcb48f80525751ae4f039d6f1df4439b72f3b",
    "postgres" "0011_names" "79e37d0454c7c9f91bb6454f04ce8308651474b0d7b3c4f4ba39105a33c05e62",
};

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn migrations_are_numbered_and_frozen() {
        for list in [SQLITE, POSTGRES] {
            for (migration, version) in list.iter().zip(1..) {
                assert_eq!(migration.version(), version, "{}", migration.name);
                let hash: String = Sha256::digest(migration.sql)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                let name = migration.name;
                assert_eq!(
                    hash, migration.sha256,
                    "{name} was edited: add a migration instead"
                );
            }
        }
    }
}
