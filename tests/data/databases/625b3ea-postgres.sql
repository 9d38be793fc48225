SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';
CREATE FUNCTION public.memory_bytes(content text, situation text, lesson text, metadata jsonb) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT (octet_length(content) + coalesce(octet_length(situation), 0) + coalesce(octet_length(lesson), 0)
        + octet_length(metadata::text))::bigint
$$;
CREATE FUNCTION public.memory_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO '$user', 'public', 'public'
    AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes)
    SELECT o.project_id, pg_backend_pid() % 16, -count(*),
        -sum(memory_bytes(o.content, o.situation, o.lesson, o.metadata))
    FROM deleted o GROUP BY o.project_id
    ON CONFLICT (project_id, shard) DO UPDATE
        SET memories = u.memories + excluded.memories, bytes = u.bytes + excluded.bytes;
    DELETE FROM source s USING deleted o WHERE s.source_id = o.id;
    RETURN NULL;
END
$$;
CREATE FUNCTION public.memory_inserted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes)
    SELECT n.project_id, pg_backend_pid() % 16, count(*),
        sum(memory_bytes(n.content, n.situation, n.lesson, n.metadata))
    FROM inserted n GROUP BY n.project_id
    ON CONFLICT (project_id, shard) DO UPDATE
        SET memories = u.memories + excluded.memories, bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END
$$;
CREATE FUNCTION public.memory_resized() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO usage AS u (project_id, shard, memories, bytes)
    VALUES (NEW.project_id, pg_backend_pid() % 16, 0,
        memory_bytes(NEW.content, NEW.situation, NEW.lesson, NEW.metadata)
        - memory_bytes(OLD.content, OLD.situation, OLD.lesson, OLD.metadata))
    ON CONFLICT (project_id, shard) DO UPDATE SET bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END
$$;
CREATE FUNCTION public.memory_tagged(wanted text[]) RETURNS bigint[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO '$user', 'public', 'public'
    AS $$
    SELECT coalesce(array_agg(m.seq), '{}') FROM memory m
    WHERE m.tags @> wanted AND m.tags <> '{}' AND m.project_id = ANY (ARRAY(SELECT p.id FROM project p
        WHERE p.name = ANY (nullif(current_setting('memory.projects', true), '')::text[])))
$$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.corpus (
    project_id integer NOT NULL,
    shard integer NOT NULL,
    documents bigint NOT NULL,
    total_length bigint NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.embedding (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    model text NOT NULL COLLATE pg_catalog."C",
    chunk integer NOT NULL,
    dimension integer NOT NULL,
    content_hash bytea NOT NULL,
    vector public.halfvec NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.entity (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name text NOT NULL,
    name_key text NOT NULL COLLATE pg_catalog."C",
    type text NOT NULL COLLATE pg_catalog."C",
    properties jsonb NOT NULL,
    use_count bigint DEFAULT 0 NOT NULL,
    last_used_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    words text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE public.entity ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.entity_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.focus (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    session text NOT NULL COLLATE pg_catalog."C",
    content text NOT NULL,
    importance double precision NOT NULL,
    metadata jsonb NOT NULL,
    memory_id uuid,
    created_at timestamp with time zone NOT NULL,
    touched_at timestamp with time zone NOT NULL
);
CREATE TABLE public.focus_archive (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    session text NOT NULL COLLATE pg_catalog."C",
    content text NOT NULL,
    importance double precision NOT NULL,
    metadata jsonb NOT NULL,
    memory_id uuid,
    created_at timestamp with time zone NOT NULL,
    touched_at timestamp with time zone NOT NULL,
    archived_at timestamp with time zone NOT NULL,
    reason text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE public.focus_archive ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.focus_archive_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE public.focus ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.focus_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.history (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    memory_seq bigint NOT NULL,
    version bigint NOT NULL,
    change text NOT NULL COLLATE pg_catalog."C",
    old jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    at timestamp with time zone NOT NULL,
    CONSTRAINT history_change_check CHECK ((change = ANY (ARRAY['updated'::text, 'superseded'::text, 'deleted'::text, 'restored'::text])))
);
ALTER TABLE public.history ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.history_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.idempotency (
    project_id integer NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    request_hash bytea NOT NULL,
    answer uuid[] NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.index_job (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    not_before timestamp with time zone,
    last_error text
);
CREATE TABLE public.memory (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL COLLATE pg_catalog."C",
    content text NOT NULL,
    content_hash bytea NOT NULL,
    length integer NOT NULL,
    tags text[] NOT NULL COLLATE pg_catalog."C",
    importance double precision NOT NULL,
    metadata jsonb NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    valid_until timestamp with time zone,
    superseded_by uuid,
    deleted_at timestamp with time zone,
    version bigint DEFAULT 1 NOT NULL,
    session text COLLATE pg_catalog."C",
    turn bigint,
    speaker text COLLATE pg_catalog."C",
    situation text,
    outcome double precision,
    lesson text,
    helpful bigint DEFAULT 0 NOT NULL,
    not_helpful bigint DEFAULT 0 NOT NULL,
    protected boolean DEFAULT false NOT NULL,
    content_claim boolean,
    turn_claim boolean,
    CONSTRAINT memory_check CHECK (((kind = 'episode'::text) = (situation IS NOT NULL))),
    CONSTRAINT memory_check1 CHECK (((kind = 'episode'::text) = (outcome IS NOT NULL))),
    CONSTRAINT memory_check2 CHECK (((kind = 'episode'::text) = (lesson IS NOT NULL))),
    CONSTRAINT memory_content_claim_check CHECK (content_claim),
    CONSTRAINT memory_content_hash_check CHECK ((octet_length(content_hash) = 32)),
    CONSTRAINT memory_importance_check CHECK (((importance >= (0)::double precision) AND (importance <= (1)::double precision))),
    CONSTRAINT memory_kind_check CHECK ((kind = ANY (ARRAY['dialogue'::text, 'note'::text, 'insight'::text, 'episode'::text]))),
    CONSTRAINT memory_length_check CHECK ((length >= 0)),
    CONSTRAINT memory_outcome_check CHECK (((outcome >= ('-1'::integer)::double precision) AND (outcome <= (1)::double precision))),
    CONSTRAINT memory_turn_claim_check CHECK (turn_claim)
);
CREATE SEQUENCE public.memory_order
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.mention (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    entity_seq bigint NOT NULL
);
CREATE TABLE public.meta (
    key text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL
);
CREATE TABLE public.posting (
    project_id integer NOT NULL,
    term text NOT NULL COLLATE pg_catalog."C",
    memory_seq bigint NOT NULL,
    frequency integer NOT NULL,
    length integer NOT NULL
)
WITH (autovacuum_vacuum_insert_scale_factor='0.05', autovacuum_vacuum_insert_threshold='20000');
CREATE TABLE public.project (
    id integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.project ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.project_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.recall_stat (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    recall_count bigint NOT NULL,
    last_recalled_at timestamp with time zone NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.relation (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    weight double precision NOT NULL,
    properties jsonb NOT NULL,
    use_count bigint DEFAULT 0 NOT NULL,
    last_used_at timestamp with time zone,
    valid_from timestamp with time zone,
    valid_to timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT relation_check CHECK ((from_seq <> to_seq)),
    CONSTRAINT relation_check1 CHECK ((valid_from < valid_to)),
    CONSTRAINT relation_weight_check CHECK (((weight >= (0)::double precision) AND (weight <= (1)::double precision)))
);
ALTER TABLE public.relation ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.relation_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.review (
    project_id integer NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    memory_seq bigint NOT NULL,
    other_seq bigint,
    state text NOT NULL COLLATE pg_catalog."C",
    proposal jsonb NOT NULL,
    actor text NOT NULL,
    reason text,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    decided_by text,
    decided_at timestamp with time zone,
    decision_reason text,
    applied_version bigint,
    CONSTRAINT review_state_check CHECK ((state = ANY (ARRAY['open'::text, 'approved'::text, 'rejected'::text, 'dismissed'::text, 'undone'::text])))
);
ALTER TABLE public.review ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.review_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.schema_migration (
    version bigint NOT NULL,
    name text NOT NULL,
    checksum bytea NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.source (
    project_id integer NOT NULL,
    memory_seq bigint NOT NULL,
    "position" integer NOT NULL,
    source_id uuid NOT NULL
);
CREATE TABLE public.token (
    name text NOT NULL COLLATE pg_catalog."C",
    sha256 bytea NOT NULL,
    prefix text NOT NULL COLLATE pg_catalog."C",
    project text NOT NULL COLLATE pg_catalog."C",
    reads text[] NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT token_sha256_check CHECK ((octet_length(sha256) = 32))
);
CREATE TABLE public.usage (
    project_id integer NOT NULL,
    shard integer NOT NULL,
    memories bigint NOT NULL,
    bytes bigint NOT NULL
)
WITH (fillfactor='50');
INSERT INTO public.corpus VALUES
	(1, 15, 14, 53);
INSERT INTO public.embedding VALUES
	(1, 1, 'test/bert-cls-dense', 0, 24, '\x6cd4c7190b8f242a6eb79611bc4a8082f240e399e4ccb75295516f4847acd70e', '[-0.14221191,0.2607422,-0.26416016,0.22180176,0.28222656,-0.2006836,0.046661377,0.2697754,-0.15075684,0.2512207,0.25439453,0.21350098,-0.14807129,-0.2487793,-0.13391113,0.027435303,-0.22155762,-0.28442383,-0.23742676,0.13256836,0.09082031,0.26513672,-0.007381439,0.12902832]', '2026-11-29 03:52:34.307564+00'),
	(1, 2, 'test/bert-cls-dense', 0, 24, '\x19814bdfa6c0d665253c712b0dfc85eb6c0ab89569782b505acf8832013585ed', '[-0.19726562,0.2421875,-0.23864746,0.28198242,0.27783203,-0.2322998,-0.16174316,0.28881836,-0.15991211,0.2019043,0.11871338,0.22839355,-0.10974121,-0.2800293,-0.12011719,-0.072387695,-0.16723633,-0.28710938,-0.21838379,-0.20910645,0.08123779,0.26464844,-0.053222656,0.036376953]', '2026-11-29 03:52:34.307564+00'),
	(1, 3, 'test/bert-cls-dense', 0, 24, '\x107cdd8d879172dfaf9a63d0e268fdb8372d6d9a3d457cbecf6a940f038fee7c', '[-0.023452759,0.29101562,-0.26538086,0.009063721,0.27197266,-0.14135742,-0.18664551,0.24414062,-0.25952148,0.28735352,0.27661133,0.25634766,-0.1239624,-0.23657227,-0.16540527,0.049194336,-0.10455322,-0.30371094,-0.26733398,-0.14538574,0.11621094,0.22583008,-0.042053223,-0.021316528]', '2026-11-29 03:52:34.307564+00'),
	(1, 4, 'test/bert-cls-dense', 0, 24, '\x7e83c81b70ab63d9bb4c4d084b956200c73d156bfbafa5f500c59a04a00df00a', '[-0.12371826,0.2878418,-0.2800293,0.119262695,0.2878418,-0.093566895,-0.059295654,0.27148438,-0.20129395,0.2836914,0.29101562,0.2421875,-0.095336914,-0.20800781,-0.18066406,0.10266113,-0.19311523,-0.29956055,-0.27563477,0.06555176,0.15246582,0.2208252,0.03414917,-0.01260376]', '2026-11-29 03:52:34.307564+00'),
	(1, 5, 'test/bert-cls-dense', 0, 24, '\x790d3788672820c887fc80cb01b7df7b67b154e7a710af9b599182ba1fa5dc63', '[-0.15454102,0.28295898,-0.24365234,0.09436035,0.27441406,-0.21276855,-0.052368164,0.25512695,-0.15600586,0.28125,0.2824707,0.234375,-0.12817383,-0.21911621,-0.15258789,-0.06665039,-0.17895508,-0.28930664,-0.25708008,0.074035645,0.1697998,0.26416016,-0.12902832,0.079956055]', '2026-11-29 03:52:34.307564+00'),
	(1, 5, 'test/bert-cls-dense', 1, 24, '\x790d3788672820c887fc80cb01b7df7b67b154e7a710af9b599182ba1fa5dc63', '[-0.078186035,0.25878906,-0.23522949,-0.031951904,0.27392578,-0.19897461,-0.13830566,0.25048828,-0.25512695,0.2854004,0.2800293,0.25732422,-0.110961914,-0.1973877,-0.21520996,-0.017105103,-0.17919922,-0.29760742,-0.2680664,-0.022476196,0.027572632,0.2836914,-0.044036865,0.09362793]', '2026-11-29 03:52:34.307564+00'),
	(1, 6, 'test/bert-cls-dense', 0, 24, '\xabdca6d88934ccd8e067da9796580d9aa2ab0561607cd4b1fb232ddb234bdcdc', '[-0.09075928,0.28051758,-0.2709961,0.024734497,0.29077148,-0.123535156,-0.09234619,0.26586914,-0.23388672,0.2944336,0.28344727,0.25634766,-0.15478516,-0.2084961,-0.18652344,0.06341553,-0.15344238,-0.30371094,-0.28564453,0.036346436,0.06738281,0.24853516,0.027938843,0.022613525]', '2026-11-29 03:52:34.307564+00'),
	(1, 7, 'test/bert-cls-dense', 0, 24, '\x9494b225b2fa3a3263d4df68dd932a6d046b77c74ff7853cbfe98791dccb7248', '[-0.09075928,0.28051758,-0.2709961,0.024734497,0.29077148,-0.123535156,-0.09234619,0.26586914,-0.23388672,0.2944336,0.28344727,0.25634766,-0.15478516,-0.2084961,-0.18652344,0.06341553,-0.15344238,-0.30371094,-0.28564453,0.036346436,0.06738281,0.24853516,0.027938843,0.022613525]', '2026-11-29 03:52:34.307564+00'),
	(1, 8, 'test/bert-cls-dense', 0, 24, '\x7bd281e7ba46378dc098dd2f72a077f6fc3bd3fdf01252d43759df2153eb8cc3', '[0.048217773,0.25097656,-0.2607422,0.058654785,0.2783203,-0.17883301,-0.100097656,0.26000977,-0.24645996,0.27246094,0.25976562,0.23950195,-0.17504883,-0.25341797,-0.19348145,0.109436035,-0.20263672,-0.2956543,-0.24633789,-0.029708862,-0.0440979,0.2668457,-0.046905518,0.08123779]', '2026-11-29 03:52:34.307564+00'),
	(1, 9, 'test/bert-cls-dense', 0, 24, '\x79a0776c3edd8459d69489f595aedce91c9decc8a69704074785eaa38eee1e02', '[-0.075805664,0.25024414,-0.23669434,0.09680176,0.28100586,-0.22521973,-0.113098145,0.26879883,-0.21679688,0.27807617,0.25195312,0.2331543,-0.15246582,-0.25439453,-0.24255371,0.06719971,-0.23791504,-0.29223633,-0.20080566,0.032226562,0.020355225,0.25708008,-0.04626465,0.07836914]', '2026-11-29 03:52:34.307564+00'),
	(1, 11, 'test/bert-cls-dense', 0, 24, '\xc33aae9393c066d553ef8c50b25fd38912029e701fd9c988184219fe53379f8e', '[-0.046447754,0.28710938,-0.2758789,0.105651855,0.28466797,-0.15185547,-0.15563965,0.25634766,-0.22998047,0.28271484,0.26123047,0.25390625,-0.15979004,-0.22814941,-0.15808105,0.11193848,-0.1385498,-0.30126953,-0.26831055,-0.070251465,0.06451416,0.2421875,-0.0071372986,-0.06124878]', '2026-11-29 03:52:34.307564+00'),
	(1, 13, 'test/bert-cls-dense', 0, 24, '\x75a944e709415c807faf404a893fb30ba6a448fefd79417dcfd9cda384c5add9', '[0.03564453,0.27563477,-0.25585938,-0.03149414,0.27783203,-0.17199707,-0.203125,0.2088623,-0.27661133,0.27929688,0.25561523,0.2578125,-0.11602783,-0.25683594,-0.21386719,0.043182373,-0.15185547,-0.30444336,-0.2163086,-0.15307617,0.06933594,0.23693848,-0.034454346,0.05596924]', '2026-11-29 03:52:34.307564+00'),
	(1, 14, 'test/bert-cls-dense', 0, 24, '\xbf19de582f8d21985415cd9c1149f786101342f1eea4fb18ce582609a3c34805', '[-0.040740967,0.26757812,-0.25805664,0.055389404,0.28686523,-0.20288086,-0.10406494,0.25708008,-0.24951172,0.27172852,0.25756836,0.24255371,-0.1508789,-0.25732422,-0.1784668,0.010154724,-0.17321777,-0.29760742,-0.23718262,-0.03286743,0.046783447,0.27124023,-0.018508911,0.14978027]', '2026-11-29 03:52:34.307564+00'),
	(1, 15, 'test/bert-cls-dense', 0, 24, '\xa0b9992a67c1a11d27540bf2fe1981b24c34c3f5ee7b5e3f2f1abee28cf1ed2c', '[0.0036201477,0.28271484,-0.2541504,0.0051002502,0.26123047,-0.1619873,-0.19055176,0.20861816,-0.25146484,0.28027344,0.28149414,0.24938965,-0.06964111,-0.18933105,-0.24731445,0.15466309,-0.22399902,-0.3017578,-0.21411133,-0.088012695,0.090148926,0.23461914,-0.05419922,-0.10559082]', '2026-11-29 03:52:34.307564+00');
INSERT INTO public.entity OVERRIDING SYSTEM VALUE VALUES
	(1, 2, '8c181a58-55a4-4be9-9ee2-564eeaef5424', 'Water', 'water', 'matter', '{}', 1, '2026-11-29 03:52:33.501137+00', '2026-11-29 03:52:33.501137+00', '2026-11-29 03:52:33.501137+00', 'water'),
	(1, 3, '92f70a12-e6ab-4027-ad77-e0d730e3f42a', 'Station', 'station', 'place', '{}', 1, '2026-11-29 03:52:33.927875+00', '2026-11-29 03:52:33.927875+00', '2026-11-29 03:52:33.927875+00', 'station'),
	(1, 1, '773354b2-0f3f-4eb9-ba50-ebe4e9da23cd', 'Walrus', 'walrus', 'animal', '{"legs": 0}', 2, '2026-11-29 03:52:33.927875+00', '2026-11-29 03:52:33.501137+00', '2026-11-29 03:52:33.501137+00', 'walrus');
INSERT INTO public.focus OVERRIDING SYSTEM VALUE VALUES
	(1, 1, '01a2256e-e394-7767-92d4-3b36bc3082a7', '', 'Count the walruses.', 0.9, '{}', NULL, '2026-11-29 03:52:33.940186+00', '2026-11-29 03:52:33.940186+00');
INSERT INTO public.focus_archive OVERRIDING SYSTEM VALUE VALUES
	(1, 1, '01a2256e-e3a4-7047-847d-575ad07f4e08', 'trip', 'Buy fuel.', 0.5, '{}', NULL, '2026-11-29 03:52:33.956463+00', '2026-11-29 03:52:33.956463+00', '2026-11-29 03:52:33.978248+00', 'dropped'),
	(1, 2, '01a2256e-e3ce-71fd-9cab-ea1fb827a8eb', '', 'The radio is broken.', 0.5, '{}', '01a2256e-e3e0-7314-968a-a5340012b324', '2026-11-29 03:52:33.998398+00', '2026-11-29 03:52:33.998398+00', '2026-11-29 03:52:34.07771+00', 'became a memory');
INSERT INTO public.history OVERRIDING SYSTEM VALUE VALUES
	(1, 1, 6, 2, 'superseded', '{"tags": [], "lesson": null, "content": "There are 200,000 walruses.", "outcome": null, "metadata": {}, "protected": false, "situation": null, "deleted_at": null, "importance": 0.5, "occurred_at": "2026-11-29T03:52:33.577699Z", "valid_until": null, "superseded_by": null}', 'local', NULL, '2026-11-29 03:52:33.611925+00'),
	(1, 2, 9, 2, 'updated', '{"tags": ["station"], "lesson": null, "content": "The station has four rooms.", "outcome": null, "metadata": {}, "protected": false, "situation": null, "deleted_at": null, "importance": 0.5, "occurred_at": "2026-11-29T03:52:33.687895Z", "valid_until": null, "superseded_by": null}', 'local', 'measured', '2026-11-29 03:52:33.698036+00'),
	(1, 3, 10, 2, 'deleted', '{"tags": [], "lesson": null, "content": "The boat is red.", "outcome": null, "metadata": {}, "protected": false, "situation": null, "deleted_at": null, "importance": 0.5, "occurred_at": "2026-11-29T03:52:33.732243Z", "valid_until": null, "superseded_by": null}', 'local', 'it was sold', '2026-11-29 03:52:33.75569+00'),
	(1, 4, 11, 2, 'deleted', '{"tags": [], "lesson": null, "content": "The hut is green.", "outcome": null, "metadata": {}, "protected": false, "situation": null, "deleted_at": null, "importance": 0.5, "occurred_at": "2026-11-29T03:52:33.764809Z", "valid_until": null, "superseded_by": null}', 'local', NULL, '2026-11-29 03:52:33.783775+00'),
	(1, 5, 11, 3, 'restored', '{"tags": [], "lesson": null, "content": "The hut is green.", "outcome": null, "metadata": {}, "protected": false, "situation": null, "deleted_at": "2026-11-29T03:52:33.783775Z", "importance": 0.5, "occurred_at": "2026-11-29T03:52:33.764809Z", "valid_until": null, "superseded_by": null}', 'local', NULL, '2026-11-29 03:52:33.80846+00'),
	(1, 6, 12, 2, 'updated', '{"tags": [], "lesson": null, "content": "Never feed the walrus.", "outcome": null, "metadata": {}, "protected": true, "situation": null, "deleted_at": null, "importance": 1.0, "occurred_at": "2026-11-29T03:52:33.820926Z", "valid_until": null, "superseded_by": null}', 'owner', 'review 01a2256e-e329-76e4-9643-237203bd038a approved: clearer', '2026-11-29 03:52:40.863451+00');
INSERT INTO public.idempotency VALUES
	(1, 'walrus', '\xa773c2506ae3edc8a3f21bc6b839f4da0015a662f337df5b3fe75b72fd33e984', '{01a2256e-e1dd-7080-8e21-b2f4b372a1aa}', '2026-11-29 03:52:33.501137+00');
INSERT INTO public.index_job VALUES
	(1, 12, '2026-11-29 03:52:40.863451+00', 0, NULL, NULL);
INSERT INTO public.memory VALUES
	(1, 1, '01a2256e-e1b0-7083-9228-8268bbf02595', 'dialogue', 'Where do walruses live?', '\x6cd4c7190b8f242a6eb79611bc4a8082f240e399e4ccb75295516f4847acd70e', 3, '{}', 0.5, '{}', '2026-11-29 03:52:33.45625+00', '2026-11-29 03:52:33.45625+00', 'local', '2026-11-29 03:52:33.45625+00', NULL, NULL, NULL, 1, 'arctic', 1, 'Ann', NULL, NULL, NULL, 0, 0, false, NULL, true),
	(1, 2, '01a2256e-e1d4-751f-86e4-97f508e4c1b0', 'dialogue', 'On pack ice, Ann.', '\x19814bdfa6c0d665253c712b0dfc85eb6c0ab89569782b505acf8832013585ed', 4, '{}', 0.5, '{}', '2026-11-29 03:52:33.492756+00', '2026-11-29 03:52:33.492756+00', 'local', '2026-11-29 03:52:33.492756+00', NULL, NULL, NULL, 1, 'arctic', 2, 'Bob', NULL, NULL, NULL, 0, 0, false, NULL, true),
	(1, 3, '01a2256e-e1dd-7080-8e21-b2f4b372a1aa', 'note', 'The walrus prefers shallow water.', '\x107cdd8d879172dfaf9a63d0e268fdb8372d6d9a3d457cbecf6a940f038fee7c', 6, '{Sea,näher}', 0.8, '{"page": 7, "nested": {"a": null, "b": [1, 2.5]}}', '2026-11-29 03:52:33.501137+00', '2026-11-29 03:52:33.501137+00', 'local', '2026-11-29 03:52:33.501137+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, true, NULL),
	(1, 4, '01a2256e-e208-734b-9956-f47935ee0071', 'insight', 'Walruses depend on ice.', '\x7e83c81b70ab63d9bb4c4d084b956200c73d156bfbafa5f500c59a04a00df00a', 3, '{}', 0.5, '{}', '2026-11-29 03:52:33.544607+00', '2026-11-29 03:52:33.544607+00', 'local', '2026-11-29 03:52:33.544607+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, true, NULL),
	(1, 5, '01a2256e-e216-72a2-983f-6143e6e3eba1', 'episode', 'Counted walruses from a boat.', '\x790d3788672820c887fc80cb01b7df7b67b154e7a710af9b599182ba1fa5dc63', 8, '{}', 0.5, '{}', '2026-11-29 03:52:33.558699+00', '2026-11-29 03:52:33.558699+00', 'local', '2026-11-29 03:52:33.558699+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, 'Fog over the bay.', -0.5, 'Count on clear days.', 0, 0, false, true, NULL),
	(1, 6, '01a2256e-e229-763a-b70b-52171aecec59', 'note', 'There are 200,000 walruses.', '\xabdca6d88934ccd8e067da9796580d9aa2ab0561607cd4b1fb232ddb234bdcdc', 4, '{}', 0.5, '{}', '2026-11-29 03:52:33.577699+00', '2026-11-29 03:52:33.577699+00', 'local', '2026-11-29 03:52:33.611925+00', NULL, '01a2256e-e24b-7612-9071-28d1f0b3793e', NULL, 2, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, NULL, NULL),
	(1, 7, '01a2256e-e24b-7612-9071-28d1f0b3793e', 'note', 'There are 230,000 walruses.', '\x9494b225b2fa3a3263d4df68dd932a6d046b77c74ff7853cbfe98791dccb7248', 4, '{}', 0.5, '{}', '2026-11-29 03:52:33.611925+00', '2026-11-29 03:52:33.611925+00', 'local', '2026-11-29 03:52:33.611925+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, true, NULL),
	(1, 8, '01a2256e-e274-7633-87bc-becc7d073847', 'note', 'The survey ends in spring.', '\x7bd281e7ba46378dc098dd2f72a077f6fc3bd3fdf01252d43759df2153eb8cc3', 3, '{}', 0.5, '{}', '2024-05-06 00:00:00+00', '2026-11-29 03:52:33.652053+00', 'local', '2026-11-29 03:52:33.652053+00', '2030-04-01 00:00:00+00', NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, true, NULL),
	(1, 9, '01a2256e-e297-73d5-bcaa-a849a26ad737', 'note', 'The station has five rooms.', '\x79a0776c3edd8459d69489f595aedce91c9decc8a69704074785eaa38eee1e02', 5, '{Rooms,station}', 0.5, '{}', '2026-11-29 03:52:33.687895+00', '2026-11-29 03:52:33.687895+00', 'local', '2026-11-29 03:52:33.698036+00', NULL, NULL, NULL, 2, NULL, NULL, NULL, NULL, NULL, NULL, 1, 0, false, NULL, NULL),
	(1, 10, '01a2256e-e2c4-71e2-a209-7bebdfffcf6c', 'note', 'The boat is red.', '\xd3b00df938f86b826bd03eb636e5cfc8e47a5395a33125cd667795fd3632651e', 2, '{}', 0.5, '{}', '2026-11-29 03:52:33.732243+00', '2026-11-29 03:52:33.732243+00', 'local', '2026-11-29 03:52:33.75569+00', NULL, NULL, '2026-11-29 03:52:33.75569+00', 2, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, NULL, NULL),
	(1, 11, '01a2256e-e2e4-7655-b543-5ea0827ce5cb', 'note', 'The hut is green.', '\xc33aae9393c066d553ef8c50b25fd38912029e701fd9c988184219fe53379f8e', 2, '{}', 0.5, '{}', '2026-11-29 03:52:33.764809+00', '2026-11-29 03:52:33.764809+00', 'local', '2026-11-29 03:52:33.80846+00', NULL, NULL, NULL, 3, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, NULL, NULL),
	(1, 13, '01a2256e-e354-77ab-8cd0-6570c82aa407', 'note', 'The harbour freezes in January.', '\x75a944e709415c807faf404a893fb30ba6a448fefd79417dcfd9cda384c5add9', 3, '{}', 0.5, '{}', '2026-11-29 03:52:33.876185+00', '2026-11-29 03:52:33.876185+00', 'local', '2026-11-29 03:52:33.876185+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, true, NULL),
	(1, 14, '01a2256e-e35e-77b0-9838-4b3aad78ad07', 'note', 'The harbour freezes in February.', '\xbf19de582f8d21985415cd9c1149f786101342f1eea4fb18ce582609a3c34805', 3, '{}', 0.5, '{}', '2026-11-29 03:52:33.886901+00', '2026-11-29 03:52:33.886901+00', 'local', '2026-11-29 03:52:33.886901+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, true, NULL),
	(1, 15, '01a2256e-e3e0-7314-968a-a5340012b324', 'note', 'The radio is broken.', '\xa0b9992a67c1a11d27540bf2fe1981b24c34c3f5ee7b5e3f2f1abee28cf1ed2c', 2, '{}', 0.5, '{}', '2026-11-29 03:52:34.016181+00', '2026-11-29 03:52:34.016181+00', 'local', '2026-11-29 03:52:34.016181+00', NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false, true, NULL),
	(1, 12, '01a2256e-e31c-7369-a2a9-f5d4a9327a0a', 'note', 'Never feed any walrus.', '\xe70803e07ba472729369c506f5461fa4fcc95761275b39bc52b42dde9003ac92', 3, '{}', 1, '{}', '2026-11-29 03:52:33.820926+00', '2026-11-29 03:52:33.820926+00', 'local', '2026-11-29 03:52:40.863451+00', NULL, NULL, NULL, 2, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, true, NULL, NULL);
INSERT INTO public.mention VALUES
	(1, 3, 1),
	(1, 3, 2);
INSERT INTO public.meta VALUES
	('analyzer', '2:english'),
	('embedding_model', 'test/bert-cls-dense (24 dimensions)');
INSERT INTO public.posting VALUES
	(1, 'ann', 1, 1, 3),
	(1, 'live', 1, 1, 3),
	(1, 'walrus', 1, 1, 3),
	(1, 'ann', 2, 1, 4),
	(1, 'bob', 2, 1, 4),
	(1, 'ice', 2, 1, 4),
	(1, 'pack', 2, 1, 4),
	(1, 'naher', 3, 1, 6),
	(1, 'prefer', 3, 1, 6),
	(1, 'sea', 3, 1, 6),
	(1, 'shallow', 3, 1, 6),
	(1, 'walrus', 3, 1, 6),
	(1, 'water', 3, 1, 6),
	(1, 'depend', 4, 1, 3),
	(1, 'ice', 4, 1, 3),
	(1, 'walrus', 4, 1, 3),
	(1, 'bay', 5, 1, 8),
	(1, 'boat', 5, 1, 8),
	(1, 'clear', 5, 1, 8),
	(1, 'count', 5, 2, 8),
	(1, 'day', 5, 1, 8),
	(1, 'fog', 5, 1, 8),
	(1, 'walrus', 5, 1, 8),
	(1, '000', 6, 1, 4),
	(1, '200', 6, 1, 4),
	(1, '200,000', 6, 1, 4),
	(1, 'walrus', 6, 1, 4),
	(1, '000', 7, 1, 4),
	(1, '230', 7, 1, 4),
	(1, '230,000', 7, 1, 4),
	(1, 'walrus', 7, 1, 4),
	(1, 'end', 8, 1, 3),
	(1, 'spring', 8, 1, 3),
	(1, 'survey', 8, 1, 3),
	(1, 'five', 9, 1, 5),
	(1, 'room', 9, 2, 5),
	(1, 'station', 9, 2, 5),
	(1, 'green', 11, 1, 2),
	(1, 'hut', 11, 1, 2),
	(1, 'feed', 12, 1, 3),
	(1, 'never', 12, 1, 3),
	(1, 'walrus', 12, 1, 3),
	(1, 'freez', 13, 1, 3),
	(1, 'harbour', 13, 1, 3),
	(1, 'januari', 13, 1, 3),
	(1, 'februari', 14, 1, 3),
	(1, 'freez', 14, 1, 3),
	(1, 'harbour', 14, 1, 3),
	(1, 'broken', 15, 1, 2),
	(1, 'radio', 15, 1, 2);
INSERT INTO public.project OVERRIDING SYSTEM VALUE VALUES
	(1, 'default', '2026-11-29 03:52:33.471605+00');
INSERT INTO public.recall_stat VALUES
	(1, 1, 1, '2026-11-29 03:52:35.156843+00'),
	(1, 2, 1, '2026-11-29 03:52:35.156843+00'),
	(1, 3, 1, '2026-11-29 03:52:35.156843+00'),
	(1, 4, 1, '2026-11-29 03:52:35.156843+00'),
	(1, 5, 1, '2026-11-29 03:52:35.156843+00'),
	(1, 7, 1, '2026-11-29 03:52:35.156843+00'),
	(1, 12, 1, '2026-11-29 03:52:35.156843+00');
INSERT INTO public.relation OVERRIDING SYSTEM VALUE VALUES
	(1, 1, 'e13026eb-0483-42eb-a2d3-7b4b19c86296', 1, 2, 'likes', 0.75, '{}', 1, '2026-11-29 03:52:33.501137+00', NULL, NULL, '2026-11-29 03:52:33.501137+00', '2026-11-29 03:52:33.501137+00'),
	(1, 2, 'c5b241fb-10cc-4999-a100-c75fa8ecbad6', 1, 3, 'seen at', 1, '{}', 1, '2026-11-29 03:52:33.927875+00', '2024-01-01 00:00:00+00', '2024-06-01 00:00:00+00', '2026-11-29 03:52:33.927875+00', '2026-11-29 03:52:33.927875+00');
INSERT INTO public.review OVERRIDING SYSTEM VALUE VALUES
	(1, 2, '01a2256e-e33d-70ca-85ae-f8cd09511311', 12, NULL, 'open', '{"action": "delete"}', 'local', 'a test of the owner', '2026-11-29 03:52:33.853512+00', '2026-12-29 03:52:33.853512+00', NULL, NULL, NULL, NULL),
	(1, 3, '01a2256e-e374-7628-94ca-3e8e6662d083', 13, 14, 'open', '{"by": "01a2256e-e35e-77b0-9838-4b3aad78ad07", "action": "supersede", "judgement": "contradiction"}', 'local', 'heard it on the radio', '2026-11-29 03:52:33.908858+00', '2026-12-29 03:52:33.908858+00', NULL, NULL, NULL, NULL),
	(1, 1, '01a2256e-e329-76e4-9643-237203bd038a', 12, NULL, 'approved', '{"patch": {"content": "Never feed any walrus."}, "action": "update"}', 'local', 'clearer', '2026-11-29 03:52:33.833122+00', '2026-12-29 03:52:33.833122+00', 'owner', '2026-11-29 03:52:40.863451+00', NULL, 2);
INSERT INTO public.schema_migration VALUES
	(1, '0001_foundation', '\x0be44ecd2d9de000528d276067df3a6e89a0656871d2c4866c6972e91add72eb', '2026-11-29 03:52:33.260643+00'),
	(2, '0002_graph', '\x0f8db7af14a9359ebf0e2ebcd06dce09d71955845c1ead85408a954ca3313911', '2026-11-29 03:52:33.328256+00'),
	(3, '0003_review', '\x4d6899f24e4d5cf55cda0b55e403b6bc7f49c20fba959117d412087953708fa0', '2026-11-29 03:52:33.343826+00'),
	(4, '0004_project', '\xe6228eb9999956d5dc98909f3f3aab73674895b34b0e1ded7f7f00124f5fc2fe', '2026-11-29 03:52:33.357945+00'),
	(5, '0005_trace', '\x23ffa15f1f176dc9bd8416342e94b8b1ec1944810852ed079a8c2bcf5d1c22c3', '2026-11-29 03:52:33.393789+00'),
	(6, '0006_half', '\xb2067aa876c6120ad9fea4031858067fba3fec5ae22c2b2ba042a7d026cc84c2', '2026-11-29 03:52:33.402607+00');
INSERT INTO public.source VALUES
	(1, 4, 0, '01a2256e-e1dd-7080-8e21-b2f4b372a1aa');
INSERT INTO public.token VALUES
	('laptop', '\x5ab2f18ccda5324eeefc639f623a17f28798cc07ee37fbdc4883109aa9515d12', 'cmm_ji-BJQ', 'default', '{}', '2026-11-29 03:52:34.264805+00', NULL, NULL),
	('lost', '\x39ef6eb43168f73b0f50fa2cd6d4cd01d20ee48909013e4e0c17724c61e07601', 'cmm_FNyz8_', 'other', '{default}', '2026-11-29 03:52:34.397975+00', NULL, '2026-11-29 03:52:34.599556+00');
INSERT INTO public.usage VALUES
	(1, 15, 15, 484);
SELECT pg_catalog.setval('public.entity_seq_seq', 3, true);
SELECT pg_catalog.setval('public.focus_archive_seq_seq', 2, true);
SELECT pg_catalog.setval('public.focus_seq_seq', 3, true);
SELECT pg_catalog.setval('public.history_seq_seq', 6, true);
SELECT pg_catalog.setval('public.memory_order', 15, true);
SELECT pg_catalog.setval('public.project_id_seq', 1, true);
SELECT pg_catalog.setval('public.relation_seq_seq', 2, true);
SELECT pg_catalog.setval('public.review_seq_seq', 3, true);
ALTER TABLE ONLY public.corpus
    ADD CONSTRAINT corpus_pkey PRIMARY KEY (project_id, shard);
ALTER TABLE ONLY public.embedding
    ADD CONSTRAINT embedding_pkey PRIMARY KEY (project_id, memory_seq, model, chunk);
ALTER TABLE ONLY public.entity
    ADD CONSTRAINT entity_id UNIQUE (id);
ALTER TABLE ONLY public.entity
    ADD CONSTRAINT entity_name UNIQUE (project_id, name_key);
ALTER TABLE ONLY public.entity
    ADD CONSTRAINT entity_pkey PRIMARY KEY (project_id, seq);
ALTER TABLE ONLY public.focus_archive
    ADD CONSTRAINT focus_archive_id UNIQUE (id);
ALTER TABLE ONLY public.focus_archive
    ADD CONSTRAINT focus_archive_pkey PRIMARY KEY (project_id, seq);
ALTER TABLE ONLY public.focus
    ADD CONSTRAINT focus_id UNIQUE (id);
ALTER TABLE ONLY public.focus
    ADD CONSTRAINT focus_pkey PRIMARY KEY (project_id, seq);
ALTER TABLE ONLY public.history
    ADD CONSTRAINT history_pkey PRIMARY KEY (project_id, memory_seq, seq);
ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (project_id, key);
ALTER TABLE ONLY public.index_job
    ADD CONSTRAINT index_job_pkey PRIMARY KEY (project_id, memory_seq);
ALTER TABLE ONLY public.memory
    ADD CONSTRAINT memory_id UNIQUE (id);
ALTER TABLE ONLY public.memory
    ADD CONSTRAINT memory_pkey PRIMARY KEY (project_id, seq);
ALTER TABLE ONLY public.mention
    ADD CONSTRAINT mention_pkey PRIMARY KEY (project_id, memory_seq, entity_seq);
ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.posting
    ADD CONSTRAINT posting_pkey PRIMARY KEY (project_id, term, memory_seq) INCLUDE (frequency, length);
ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_name_key UNIQUE (name);
ALTER TABLE ONLY public.project
    ADD CONSTRAINT project_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.recall_stat
    ADD CONSTRAINT recall_stat_pkey PRIMARY KEY (project_id, memory_seq);
ALTER TABLE ONLY public.relation
    ADD CONSTRAINT relation_id UNIQUE (id);
ALTER TABLE ONLY public.relation
    ADD CONSTRAINT relation_pkey PRIMARY KEY (project_id, seq);
ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_id UNIQUE (id);
ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_pkey PRIMARY KEY (project_id, seq);
ALTER TABLE ONLY public.schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.source
    ADD CONSTRAINT source_pkey PRIMARY KEY (project_id, memory_seq, "position");
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.token
    ADD CONSTRAINT token_sha256 UNIQUE (sha256);
ALTER TABLE ONLY public.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (project_id, shard);
CREATE INDEX embedding_nearest_24 ON public.embedding USING hnsw (((vector)::public.halfvec(24)) public.halfvec_cosine_ops) WHERE (dimension = 24);
CREATE INDEX entity_type ON public.entity USING btree (project_id, type, name_key);
CREATE INDEX entity_words ON public.entity USING btree (project_id, words);
CREATE INDEX focus_archive_memory ON public.focus_archive USING btree (memory_id) WHERE (memory_id IS NOT NULL);
CREATE INDEX focus_archive_session ON public.focus_archive USING btree (project_id, session, seq);
CREATE INDEX focus_archive_text ON public.focus_archive USING hash (content);
CREATE INDEX focus_memory ON public.focus USING btree (memory_id) WHERE (memory_id IS NOT NULL);
CREATE INDEX focus_session ON public.focus USING btree (project_id, session, touched_at);
CREATE INDEX focus_text ON public.focus USING hash (content);
CREATE INDEX memory_changed ON public.memory USING btree (project_id, updated_at) WHERE (updated_at > created_at);
CREATE UNIQUE INDEX memory_content ON public.memory USING btree (project_id, content_hash, kind, content_claim);
CREATE INDEX memory_successor ON public.memory USING btree (superseded_by) WHERE (superseded_by IS NOT NULL);
CREATE INDEX memory_tags ON public.memory USING gin (tags) WHERE (tags <> '{}'::text[]);
CREATE UNIQUE INDEX memory_turn ON public.memory USING btree (project_id, session, turn, turn_claim) WHERE (session IS NOT NULL);
CREATE INDEX mention_of ON public.mention USING btree (project_id, entity_seq, memory_seq);
CREATE INDEX relation_ends ON public.relation USING btree (project_id, from_seq, to_seq);
CREATE INDEX relation_from ON public.relation USING btree (project_id, from_seq, weight DESC, seq) INCLUDE (to_seq, type, valid_from, valid_to);
CREATE INDEX relation_to ON public.relation USING btree (project_id, to_seq, weight DESC, seq) INCLUDE (from_seq, type, valid_from, valid_to);
CREATE INDEX review_memory ON public.review USING btree (project_id, memory_seq);
CREATE INDEX review_open ON public.review USING btree (project_id, expires_at) WHERE (state = 'open'::text);
CREATE INDEX review_other ON public.review USING btree (project_id, other_seq) WHERE (other_seq IS NOT NULL);
CREATE INDEX review_state ON public.review USING btree (project_id, state, seq);
CREATE INDEX source_of ON public.source USING btree (source_id);
CREATE TRIGGER memory_deleted AFTER DELETE ON public.memory REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION public.memory_deleted();
CREATE TRIGGER memory_inserted AFTER INSERT ON public.memory REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION public.memory_inserted();
CREATE TRIGGER memory_resized AFTER UPDATE OF content, situation, lesson, metadata ON public.memory FOR EACH ROW WHEN ((public.memory_bytes(old.content, old.situation, old.lesson, old.metadata) <> public.memory_bytes(new.content, new.situation, new.lesson, new.metadata))) EXECUTE FUNCTION public.memory_resized();
ALTER TABLE ONLY public.embedding
    ADD CONSTRAINT embedding_project_id_memory_seq_fkey FOREIGN KEY (project_id, memory_seq) REFERENCES public.memory(project_id, seq) ON DELETE CASCADE;
ALTER TABLE ONLY public.history
    ADD CONSTRAINT history_project_id_memory_seq_fkey FOREIGN KEY (project_id, memory_seq) REFERENCES public.memory(project_id, seq) ON DELETE CASCADE;
ALTER TABLE ONLY public.mention
    ADD CONSTRAINT mention_project_id_entity_seq_fkey FOREIGN KEY (project_id, entity_seq) REFERENCES public.entity(project_id, seq) ON DELETE CASCADE;
ALTER TABLE ONLY public.mention
    ADD CONSTRAINT mention_project_id_memory_seq_fkey FOREIGN KEY (project_id, memory_seq) REFERENCES public.memory(project_id, seq) ON DELETE CASCADE;
ALTER TABLE ONLY public.relation
    ADD CONSTRAINT relation_project_id_from_seq_fkey FOREIGN KEY (project_id, from_seq) REFERENCES public.entity(project_id, seq) ON DELETE CASCADE;
ALTER TABLE ONLY public.relation
    ADD CONSTRAINT relation_project_id_to_seq_fkey FOREIGN KEY (project_id, to_seq) REFERENCES public.entity(project_id, seq) ON DELETE CASCADE;
ALTER TABLE ONLY public.review
    ADD CONSTRAINT review_project_id_memory_seq_fkey FOREIGN KEY (project_id, memory_seq) REFERENCES public.memory(project_id, seq) ON DELETE CASCADE;
ALTER TABLE ONLY public.source
    ADD CONSTRAINT source_project_id_memory_seq_fkey FOREIGN KEY (project_id, memory_seq) REFERENCES public.memory(project_id, seq) ON DELETE CASCADE;
