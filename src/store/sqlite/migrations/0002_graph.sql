-- Graph and working memory as they came to be used. Nothing wrote these tables before, so they are made anew.

DROP TABLE mention;
DROP TABLE relation;
DROP TABLE entity;
DROP TABLE focus;
DROP TABLE focus_archive;

CREATE TABLE entity (
    id INTEGER NOT NULL PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project (id),
    name TEXT NOT NULL,
    -- The name as it is compared.
    name_key TEXT NOT NULL,
    -- Its words, by which a query finds it.
    words TEXT NOT NULL,
    type TEXT NOT NULL,
    properties TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(properties)),
    use_count INTEGER NOT NULL DEFAULT 0,
    last_used_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (project, name_key)
) STRICT;
CREATE INDEX entity_by_type ON entity (project, type, name_key);
CREATE INDEX entity_by_words ON entity (project, words);

-- A relation that ended and began again has a row for each time.
CREATE TABLE relation (
    id INTEGER NOT NULL PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project (id),
    source INTEGER NOT NULL REFERENCES entity (id) ON DELETE CASCADE,
    target INTEGER NOT NULL REFERENCES entity (id) ON DELETE CASCADE,
    type TEXT NOT NULL,
    weight REAL NOT NULL DEFAULT 1 CHECK (weight BETWEEN 0 AND 1),
    properties TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(properties)),
    use_count INTEGER NOT NULL DEFAULT 0,
    last_used_at INTEGER,
    valid_from INTEGER,
    valid_to INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK (source <> target),
    CHECK (valid_from < valid_to)
) STRICT;
CREATE INDEX relation_by_ends ON relation (source, target);
-- The strongest of an entity first, with all that a walk needs.
CREATE INDEX relation_by_source ON relation (source, weight DESC, id, target, type, valid_from, valid_to, project);
CREATE INDEX relation_by_target ON relation (target, weight DESC, id, source, type, valid_from, valid_to, project);

CREATE TABLE mention (
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    entity INTEGER NOT NULL REFERENCES entity (id) ON DELETE CASCADE,
    PRIMARY KEY (memory, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX mention_by_entity ON mention (entity, memory);

CREATE TABLE focus (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    project INTEGER NOT NULL REFERENCES project (id),
    session TEXT NOT NULL,
    content TEXT NOT NULL,
    importance REAL NOT NULL CHECK (importance BETWEEN 0 AND 1),
    created_at INTEGER NOT NULL,
    touched_at INTEGER NOT NULL
) STRICT;
CREATE INDEX focus_by_session ON focus (project, session, touched_at);

-- What left the working memory. An item that became a memory goes when that is purged.
CREATE TABLE focus_archive (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    project INTEGER NOT NULL REFERENCES project (id),
    session TEXT NOT NULL,
    content TEXT NOT NULL,
    importance REAL NOT NULL CHECK (importance BETWEEN 0 AND 1),
    memory INTEGER REFERENCES memory (seq) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    touched_at INTEGER NOT NULL,
    archived_at INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX focus_archive_by_session ON focus_archive (project, session, seq);
CREATE INDEX focus_archive_by_memory ON focus_archive (memory) WHERE memory IS NOT NULL;
