-- Graph and working memory as they came to be used. Nothing wrote these tables before.

ALTER TABLE entity
    -- The words of the name, by which a query finds it.
    ADD COLUMN words text COLLATE "C" NOT NULL,
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    DROP CONSTRAINT entity_project_id_name_key_type_key,
    -- A name is one entity, whatever its type.
    ADD CONSTRAINT entity_name UNIQUE (project_id, name_key);
DROP INDEX entity_type;
CREATE INDEX entity_type ON entity (project_id, type, name_key);
CREATE INDEX entity_words ON entity (project_id, words);

ALTER TABLE relation
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    -- A relation that ended and began again has a row for each time.
    DROP CONSTRAINT relation_project_id_from_seq_type_to_seq_key,
    ADD CHECK (weight BETWEEN 0 AND 1),
    ADD CHECK (from_seq <> to_seq),
    ADD CHECK (valid_from < valid_to);
CREATE INDEX relation_ends ON relation (project_id, from_seq, to_seq);
-- The strongest of an entity first, with all that a walk needs.
DROP INDEX relation_to;
CREATE INDEX relation_from ON relation (project_id, from_seq, weight DESC, seq) INCLUDE (to_seq, type, valid_from, valid_to);
CREATE INDEX relation_to ON relation (project_id, to_seq, weight DESC, seq) INCLUDE (from_seq, type, valid_from, valid_to);

DROP INDEX mention_of;
CREATE INDEX mention_of ON mention (project_id, entity_seq, memory_seq);

DROP INDEX focus_archive_session;
CREATE INDEX focus_archive_session ON focus_archive (project_id, session, seq);
CREATE INDEX focus_archive_memory ON focus_archive (memory_id) WHERE memory_id IS NOT NULL;
