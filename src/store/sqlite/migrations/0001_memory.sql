-- The whole schema from the start, so that later work adds behaviour rather than migrations.
-- Times are microseconds since 1970 in UTC, ids are the 16 bytes of a UUID.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Size of each project's corpus, kept with every write: BM25 needs it on every recall.
CREATE TABLE project (
    id INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    documents INTEGER NOT NULL DEFAULT 0,
    total_length INTEGER NOT NULL DEFAULT 0
) STRICT;

-- `content` and `metadata` come last: what filters and ranking read lies in front of what may overflow the page.
CREATE TABLE memory (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    project INTEGER NOT NULL REFERENCES project (id),
    kind TEXT NOT NULL CHECK (kind IN ('dialogue', 'note', 'insight', 'episode')),
    length INTEGER NOT NULL CHECK (length >= 0),
    importance REAL NOT NULL CHECK (importance BETWEEN 0 AND 1),
    deleted_at INTEGER,
    superseded_by BLOB CHECK (length(superseded_by) = 16),
    valid_until INTEGER,
    occurred_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1 CHECK (version > 0),
    recall_count INTEGER NOT NULL DEFAULT 0,
    last_recalled_at INTEGER,
    helpful INTEGER NOT NULL DEFAULT 0,
    not_helpful INTEGER NOT NULL DEFAULT 0,
    protected INTEGER NOT NULL DEFAULT 0 CHECK (protected IN (0, 1)),
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    session TEXT,
    turn INTEGER CHECK (turn IS NULL OR kind = 'dialogue'),
    speaker TEXT,
    tags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(tags)),
    outcome REAL CHECK (outcome BETWEEN -1 AND 1),
    situation TEXT,
    lesson TEXT,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    content TEXT NOT NULL CHECK (instr(content, char(0)) = 0),
    CHECK ((kind = 'episode') = (situation IS NOT NULL)),
    CHECK ((kind = 'episode') = (outcome IS NOT NULL)),
    CHECK ((kind = 'episode') = (lesson IS NOT NULL))
) STRICT;

CREATE INDEX memory_by_content ON memory (project, content_hash);
CREATE INDEX memory_by_project ON memory (project) WHERE deleted_at IS NULL;
CREATE INDEX memory_by_kind ON memory (project, kind) WHERE deleted_at IS NULL;
CREATE INDEX memory_by_time ON memory (project, occurred_at) WHERE deleted_at IS NULL;
CREATE INDEX memory_by_session ON memory (project, session) WHERE session IS NOT NULL;
-- Narrow, so that ranking reads a few pages instead of the texts.
CREATE INDEX memory_length ON memory (seq, length);
CREATE INDEX memory_deleted ON memory (project) WHERE deleted_at IS NOT NULL;
CREATE INDEX memory_superseded ON memory (project) WHERE superseded_by IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX memory_turn ON memory (project, session, turn)
    WHERE session IS NOT NULL AND turn IS NOT NULL AND deleted_at IS NULL AND superseded_by IS NULL;

CREATE TABLE memory_tag (
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (memory, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX memory_tag_by_tag ON memory_tag (tag, memory);

-- What a memory rests on.
CREATE TABLE source (
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    source INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    PRIMARY KEY (memory, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX source_by_source ON source (source);

CREATE TABLE history (
    seq INTEGER NOT NULL PRIMARY KEY,
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    change TEXT NOT NULL CHECK (change IN ('created', 'updated', 'superseded', 'deleted', 'restored')),
    old TEXT CHECK (json_valid(old)),
    actor TEXT NOT NULL,
    reason TEXT,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX history_by_memory ON history (memory);

CREATE TABLE idempotency (
    project INTEGER NOT NULL REFERENCES project (id),
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    answer TEXT NOT NULL CHECK (json_valid(answer)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project, key)
) STRICT, WITHOUT ROWID;

-- The lexical index. The terms are our own (domain::text), each with the project's number in front, so that a
-- term's postings are those of one project. FTS5 keeps them without the text: `unicode61` and its kin would
-- cut and fold again, hence `ascii` with every ASCII sign declared a letter.
CREATE VIRTUAL TABLE memory_term USING fts5 (
    terms,
    content = '',
    detail = full,
    columnsize = 0,
    tokenize = 'ascii tokenchars ''!"#$%&()*+,-./:;<=>?@[\]^_`{|}~'''''''
);
-- A deleted entry leaves the pages, not only the answers: a purge must leave no trace.
INSERT INTO memory_term (memory_term, rank) VALUES ('secure-delete', 1);
CREATE VIRTUAL TABLE memory_term_instance USING fts5vocab (memory_term, instance);
CREATE VIRTUAL TABLE memory_term_row USING fts5vocab (memory_term, row);

CREATE TABLE entity (
    id INTEGER NOT NULL PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project (id),
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    properties TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(properties)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (project, name)
) STRICT;
CREATE INDEX entity_by_type ON entity (project, type);

CREATE TABLE relation (
    id INTEGER NOT NULL PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project (id),
    source INTEGER NOT NULL REFERENCES entity (id) ON DELETE CASCADE,
    target INTEGER NOT NULL REFERENCES entity (id) ON DELETE CASCADE,
    type TEXT NOT NULL,
    weight REAL NOT NULL DEFAULT 1,
    properties TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(properties)),
    use_count INTEGER NOT NULL DEFAULT 0,
    last_used_at INTEGER,
    valid_from INTEGER,
    valid_to INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (source, target, type)
) STRICT;
CREATE INDEX relation_by_target ON relation (target);
CREATE INDEX relation_by_project ON relation (project);

CREATE TABLE mention (
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    entity INTEGER NOT NULL REFERENCES entity (id) ON DELETE CASCADE,
    PRIMARY KEY (memory, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX mention_by_entity ON mention (entity);

-- Working memory, and what was evicted from it.
CREATE TABLE focus (
    id INTEGER NOT NULL PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project (id),
    session TEXT NOT NULL DEFAULT '',
    content TEXT NOT NULL,
    importance REAL NOT NULL CHECK (importance BETWEEN 0 AND 1),
    memory INTEGER REFERENCES memory (seq) ON DELETE SET NULL,
    created_at INTEGER NOT NULL,
    touched_at INTEGER NOT NULL
) STRICT;
CREATE INDEX focus_by_session ON focus (project, session, touched_at);
CREATE INDEX focus_by_memory ON focus (memory) WHERE memory IS NOT NULL;

CREATE TABLE focus_archive (
    id INTEGER NOT NULL PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project (id),
    session TEXT NOT NULL DEFAULT '',
    content TEXT NOT NULL,
    importance REAL NOT NULL CHECK (importance BETWEEN 0 AND 1),
    memory INTEGER REFERENCES memory (seq) ON DELETE SET NULL,
    created_at INTEGER NOT NULL,
    archived_at INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX focus_archive_by_session ON focus_archive (project, session, archived_at);
CREATE INDEX focus_archive_by_memory ON focus_archive (memory) WHERE memory IS NOT NULL;

-- Candidate contradictions, and pending changes to protected memories.
CREATE TABLE review (
    id INTEGER NOT NULL PRIMARY KEY,
    project INTEGER NOT NULL REFERENCES project (id),
    type TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open',
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    other INTEGER REFERENCES memory (seq) ON DELETE CASCADE,
    change TEXT CHECK (json_valid(change)),
    created_at INTEGER NOT NULL,
    decided_at INTEGER,
    decided_by TEXT,
    reason TEXT
) STRICT;
CREATE INDEX review_by_state ON review (project, state);
CREATE INDEX review_by_memory ON review (memory);
CREATE INDEX review_by_other ON review (other) WHERE other IS NOT NULL;

-- One row a chunk of text. The hash is that of the memory's content when the vector was made.
CREATE TABLE embedding (
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    model TEXT NOT NULL,
    chunk INTEGER NOT NULL,
    dimension INTEGER NOT NULL CHECK (dimension > 0),
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    vector BLOB NOT NULL CHECK (length(vector) = 4 * dimension),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (memory, model, chunk)
) STRICT;

CREATE TABLE index_job (
    memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('embedding')),
    project INTEGER NOT NULL REFERENCES project (id),
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    claimed_by TEXT,
    claimed_at INTEGER,
    last_error TEXT,
    PRIMARY KEY (memory, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX index_job_by_project ON index_job (project);
