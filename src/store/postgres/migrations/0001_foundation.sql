-- Everything the memory consists of. Forward-only: never edited once released (a test holds its hash).
--
-- Every table carries project_id, so that row-level security can be added without moving rows. Text that is indexed
-- has the collation "C": it sorts by bytes whatever locale, ICU or libc the server has, and an upgrade of those
-- cannot corrupt an index. Tables written by every `remember` have no foreign keys, whose triggers would cost more
-- than the rows; the statements that remove a memory remove them by name, and a test looks for leftovers.

CREATE TABLE meta (
    key text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE project (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Storage order of memories. A sequence of its own, because it is drawn before the rows are inserted.
CREATE SEQUENCE memory_order AS bigint;

CREATE TABLE memory (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL CONSTRAINT memory_id UNIQUE,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('dialogue', 'note', 'insight', 'episode')),
    content text NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    -- In terms, as the lexical index counts them.
    length integer NOT NULL CHECK (length >= 0),
    tags text[] COLLATE "C" NOT NULL,
    importance double precision NOT NULL CHECK (importance BETWEEN 0 AND 1),
    metadata jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    -- Together with created_at the first entry of the history, which needs no row for it.
    created_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    valid_until timestamptz,
    superseded_by uuid,
    deleted_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    session text COLLATE "C",
    turn bigint,
    speaker text COLLATE "C",
    situation text,
    outcome double precision CHECK (outcome BETWEEN -1 AND 1),
    lesson text,
    helpful bigint NOT NULL DEFAULT 0,
    not_helpful bigint NOT NULL DEFAULT 0,
    -- Protected memories change only by an approved review.
    protected boolean NOT NULL DEFAULT false,
    -- True or null. Decides between equal memories that are stored at the same moment; a memory gives it up when it
    -- changes, from when on its equals see it by an ordinary look.
    content_claim boolean CHECK (content_claim),
    -- True or null. Held by the one turn of a conversation that is neither deleted nor superseded.
    turn_claim boolean CHECK (turn_claim),
    PRIMARY KEY (project_id, seq),
    CHECK ((kind = 'episode') = (situation IS NOT NULL)),
    CHECK ((kind = 'episode') = (outcome IS NOT NULL)),
    CHECK ((kind = 'episode') = (lesson IS NOT NULL))
);
CREATE UNIQUE INDEX memory_content ON memory (project_id, content_hash, kind, content_claim);
CREATE UNIQUE INDEX memory_turn ON memory (project_id, session, turn, turn_claim) WHERE session IS NOT NULL;
CREATE INDEX memory_tags ON memory USING gin (tags) WHERE tags <> '{}';

-- Beside memory, because every recall writes it: narrow rows, updated in place.
CREATE TABLE recall_stat (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    recall_count bigint NOT NULL,
    last_recalled_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, memory_seq)
) WITH (fillfactor = 70);

CREATE TABLE source (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    position integer NOT NULL,
    -- May be of another project.
    source_id uuid NOT NULL,
    PRIMARY KEY (project_id, memory_seq, position),
    FOREIGN KEY (project_id, memory_seq) REFERENCES memory ON DELETE CASCADE
);
CREATE INDEX source_of ON source (source_id);

CREATE TABLE history (
    project_id integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    memory_seq bigint NOT NULL,
    version bigint NOT NULL,
    change text COLLATE "C" NOT NULL CHECK (change IN ('updated', 'superseded', 'deleted', 'restored')),
    old jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    at timestamptz NOT NULL,
    PRIMARY KEY (project_id, memory_seq, seq),
    FOREIGN KEY (project_id, memory_seq) REFERENCES memory ON DELETE CASCADE
);

CREATE TABLE idempotency (
    project_id integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL,
    answer uuid[] NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, key)
);

-- The lexical index: an index-only scan of (project, term) reads all that BM25 needs.
CREATE TABLE posting (
    project_id integer NOT NULL,
    term text COLLATE "C" NOT NULL,
    memory_seq bigint NOT NULL,
    frequency integer NOT NULL,
    length integer NOT NULL,
    PRIMARY KEY (project_id, term, memory_seq) INCLUDE (frequency, length)
);
-- Index-only scans live on the visibility map, which only vacuum writes: do not wait for a fifth of a large table.
ALTER TABLE posting SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 20000);

-- Size of the corpus, in shards so that writers do not queue for one row. The sums count, a shard may be negative.
CREATE TABLE corpus (
    project_id integer NOT NULL,
    shard integer NOT NULL,
    documents bigint NOT NULL,
    total_length bigint NOT NULL,
    PRIMARY KEY (project_id, shard)
) WITH (fillfactor = 50);

CREATE TABLE embedding (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    model text COLLATE "C" NOT NULL,
    chunk integer NOT NULL,
    dimension integer NOT NULL,
    content_hash bytea NOT NULL,
    -- No fixed dimension: models come and go. Each gets an index of its own over (vector::vector(dimension)).
    vector vector NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, memory_seq, model, chunk),
    FOREIGN KEY (project_id, memory_seq) REFERENCES memory ON DELETE CASCADE
);

-- Memories that wait for embeddings; claimed with SKIP LOCKED.
CREATE TABLE index_job (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    created_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz,
    last_error text,
    PRIMARY KEY (project_id, memory_seq)
);

CREATE TABLE entity (
    project_id integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL CONSTRAINT entity_id UNIQUE,
    name text NOT NULL,
    -- The name as it is compared: normalised, lower case.
    name_key text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    properties jsonb NOT NULL,
    use_count bigint NOT NULL DEFAULT 0,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, seq),
    UNIQUE (project_id, name_key, type)
);
CREATE INDEX entity_type ON entity (project_id, type);

CREATE TABLE relation (
    project_id integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL CONSTRAINT relation_id UNIQUE,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    weight double precision NOT NULL,
    properties jsonb NOT NULL,
    use_count bigint NOT NULL DEFAULT 0,
    last_used_at timestamptz,
    valid_from timestamptz,
    valid_to timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, seq),
    UNIQUE (project_id, from_seq, type, to_seq),
    FOREIGN KEY (project_id, from_seq) REFERENCES entity ON DELETE CASCADE,
    FOREIGN KEY (project_id, to_seq) REFERENCES entity ON DELETE CASCADE
);
CREATE INDEX relation_to ON relation (project_id, to_seq);

CREATE TABLE mention (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    entity_seq bigint NOT NULL,
    PRIMARY KEY (project_id, memory_seq, entity_seq),
    FOREIGN KEY (project_id, memory_seq) REFERENCES memory ON DELETE CASCADE,
    FOREIGN KEY (project_id, entity_seq) REFERENCES entity ON DELETE CASCADE
);
CREATE INDEX mention_of ON mention (project_id, entity_seq);

CREATE TABLE focus (
    project_id integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL CONSTRAINT focus_id UNIQUE,
    session text COLLATE "C" NOT NULL,
    content text NOT NULL,
    importance double precision NOT NULL,
    metadata jsonb NOT NULL,
    -- The memory it was promoted from.
    memory_id uuid,
    created_at timestamptz NOT NULL,
    touched_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, seq)
);
CREATE INDEX focus_session ON focus (project_id, session, touched_at);

CREATE TABLE focus_archive (
    project_id integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL CONSTRAINT focus_archive_id UNIQUE,
    session text COLLATE "C" NOT NULL,
    content text NOT NULL,
    importance double precision NOT NULL,
    metadata jsonb NOT NULL,
    memory_id uuid,
    created_at timestamptz NOT NULL,
    touched_at timestamptz NOT NULL,
    archived_at timestamptz NOT NULL,
    reason text COLLATE "C" NOT NULL,
    PRIMARY KEY (project_id, seq)
);
CREATE INDEX focus_archive_session ON focus_archive (project_id, session, archived_at);

CREATE TABLE review (
    project_id integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL CONSTRAINT review_id UNIQUE,
    type text COLLATE "C" NOT NULL CHECK (type IN ('contradiction', 'change')),
    memory_seq bigint NOT NULL,
    -- The other side of a contradiction.
    other_seq bigint,
    proposal jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    created_at timestamptz NOT NULL,
    decision text COLLATE "C" CHECK (decision IN ('approved', 'rejected', 'dismissed')),
    decided_by text,
    decided_at timestamptz,
    PRIMARY KEY (project_id, seq),
    FOREIGN KEY (project_id, memory_seq) REFERENCES memory ON DELETE CASCADE,
    FOREIGN KEY (project_id, other_seq) REFERENCES memory (project_id, seq) ON DELETE CASCADE
);
CREATE INDEX review_open ON review (project_id, seq) WHERE decision IS NULL;
CREATE INDEX review_memory ON review (project_id, memory_seq);
CREATE INDEX review_other ON review (project_id, other_seq) WHERE other_seq IS NOT NULL;
