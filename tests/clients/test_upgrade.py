"""Databases of an earlier version of the program: the migrations keep all data.

The earlier schema consists of its migrations, which never change. The rows are inserted by SQL as that version wrote
them.
"""

import datetime
import hashlib
import json
import pathlib
import sqlite3
import urllib.parse
import uuid

import wire
from conftest import execute
from service import REPOSITORY

TOKEN = "token-of-an-earlier-version"
# The migrations of the earlier version.
SQLITE_VERSION, POSTGRES_VERSION = 5, 6
APPLICATION_ID = 0x434D656D
# An option of the word index that older versions of SQLite in Python do not support. It changes no table.
SECURE_DELETE = "INSERT INTO memory_term (memory_term, rank) VALUES ('secure-delete', 1);"
OLD, NEW, KEPT = (uuid.UUID(f"01990000-0000-7000-8000-00000000000{n}") for n in (1, 2, 3))
CREATED, CHANGED, FAR = "2025-03-01T10:00:00Z", "2025-04-01T10:00:00Z", "2190-01-01T00:00:00Z"
BEFORE = json.dumps({"content": "The quay is ten metres deep."})
PROPOSAL = json.dumps({"action": "delete"})
TEXTS = {
    OLD: "The quay was shallow.",
    NEW: "The quay is twelve metres deep.",
    KEPT: "The vault opens at nine.",
}


def migrations(backend: str, version: int) -> list[pathlib.Path]:
    found = sorted((REPOSITORY / f"src/store/{backend}/migrations").glob("*.sql"))
    assert len(found) > version
    return found[:version]


def micros(time: str) -> int:
    return int(datetime.datetime.fromisoformat(time).timestamp()) * 1_000_000


def content_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def fill_sqlite(folder: str) -> None:
    connection = sqlite3.connect(pathlib.Path(folder) / "memory.db")
    # Python's SQLite may be older than the one in the program.
    connection.create_function("octet_length", 1, lambda value: None if value is None else len(str(value).encode()))
    for migration in migrations("sqlite", SQLITE_VERSION):
        connection.executescript(migration.read_text().replace(SECURE_DELETE, ""))
    # It also does not accept null as valid JSON, unlike the SQLite of the program.
    connection.execute("PRAGMA ignore_check_constraints = ON")
    created, changed = micros(CREATED), micros(CHANGED)
    connection.execute("INSERT INTO project (id, name) VALUES (1, 'p')")
    for seq, (id, successor, version, protected, tags, metadata) in enumerate([
        (OLD, NEW.bytes, 1, 0, [], {}),
        (NEW, None, 2, 0, ["Depth", "quay"], {"by": "Ada"}),
        (KEPT, None, 1, 1, [], {}),
    ], 1):  # fmt: skip
        connection.execute(
            "INSERT INTO memory (seq, id, project, kind, length, importance, superseded_by, occurred_at, created_at, updated_at, "
            "version, protected, content_hash, tags, metadata, content) VALUES (?, ?, 1, 'note', 4, 0.5, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, id.bytes, successor, created, created, changed if version > 1 else created, version, protected,
             content_hash(TEXTS[id]), json.dumps(tags), json.dumps(metadata), TEXTS[id]),
        )  # fmt: skip
        connection.executemany("INSERT INTO memory_tag (memory, tag) VALUES (?, ?)", [(seq, tag) for tag in tags])
        connection.execute(
            "INSERT INTO history (memory, version, change, old, actor, at) VALUES (?, 1, 'created', NULL, 'then', ?)", (seq, created)
        )
    connection.execute("INSERT INTO source (memory, position, source) VALUES (2, 0, 1)")
    connection.execute(
        "INSERT INTO history (memory, version, change, old, actor, reason, at) VALUES (2, 2, 'updated', ?, 'then', 'measured', ?)",
        (BEFORE, changed),
    )
    connection.execute(
        "INSERT INTO review (id, project, memory, state, proposal, actor, reason, created_at, expires_at) "
        "VALUES (?, 1, 3, 'open', ?, 'then', 'obsolete', ?, ?)",
        (uuid.UUID(int=7).bytes, PROPOSAL, created, micros(FAR)),
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SQLITE_VERSION}")
    connection.commit()
    connection.close()


def quoted(value) -> str:
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


def fill_postgres(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    assert parts.path.startswith("/memory_clients_"), "the database belongs to this test"
    statements = [
        "CREATE EXTENSION IF NOT EXISTS vector",
        "CREATE TABLE schema_migration (version bigint PRIMARY KEY, name text NOT NULL, checksum bytea NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now())",
    ]
    for version, migration in enumerate(migrations("postgres", POSTGRES_VERSION), 1):
        checksum = hashlib.sha256(migration.read_bytes()).hexdigest()
        statements.append(migration.read_text())
        statements.append(
            f"INSERT INTO schema_migration (version, name, checksum) VALUES ({version}, '{migration.stem}', '\\x{checksum}')"
        )
    statements.append("INSERT INTO project (id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'p')")
    statements.append("ALTER TABLE project ALTER COLUMN id RESTART WITH 2")
    for seq, (id, successor, version, protected, tags, metadata) in enumerate([
        (OLD, NEW, 1, False, "{}", {}),
        (NEW, None, 2, False, "{Depth,quay}", {"by": "Ada"}),
        (KEPT, None, 1, True, "{}", {}),
    ], 1):  # fmt: skip
        updated = CHANGED if version > 1 else CREATED
        statements.append(
            "INSERT INTO memory (project_id, seq, id, kind, content, content_hash, length, tags, importance, metadata, "
            "occurred_at, created_at, created_by, updated_at, superseded_by, version, protected) VALUES "
            f"(1, {seq}, '{id}', 'note', {quoted(TEXTS[id])}, '\\x{content_hash(TEXTS[id]).hex()}', 4, '{tags}', 0.5, "
            f"{quoted(json.dumps(metadata))}, '{CREATED}', '{CREATED}', 'then', '{updated}', {quoted(successor)}, {version}, {protected})"
        )
    statements += [
        "SELECT setval('memory_order', 3)",
        f"INSERT INTO source (project_id, memory_seq, position, source_id) VALUES (1, 2, 0, '{OLD}')",
        "INSERT INTO history (project_id, memory_seq, version, change, old, actor, reason, at) VALUES "
        f"(1, 2, 2, 'updated', {quoted(BEFORE)}, 'then', 'measured', '{CHANGED}')",
        "INSERT INTO review (project_id, id, memory_seq, state, proposal, actor, reason, created_at, expires_at) VALUES "
        f"(1, '{uuid.UUID(int=7)}', 3, 'open', {quoted(PROPOSAL)}, 'then', 'obsolete', '{CREATED}', '{FAR}')",
    ]
    for statement in statements:
        execute(url, statement)


def test_a_database_of_an_earlier_version_keeps_all_data(backend, new_service):
    if backend.name == "sqlite":
        fill_sqlite(backend.settings["MEMORY_DATA_DIR"])
    else:
        fill_postgres(backend.settings["MEMORY_DATABASE_URL"])
    service = new_service(backend, tokens={"p": TOKEN})

    def call(tool: str, **arguments) -> dict:
        answer = wire.send(service, body=wire.call(tool, arguments), authorization=f"Bearer {TOKEN}")
        assert answer.status == 200 and not answer.json["result"].get("isError"), answer
        return answer.json["result"]["structuredContent"]

    answer = call("get", ids=[str(OLD), str(NEW)[-8:], str(KEPT)], history=True)
    old, new, kept = answer["memories"]
    assert [memory["content"] for memory in (old, new, kept)] == list(TEXTS.values())
    assert old["superseded_by"] == str(NEW) and new["sources"] == [str(OLD)] and kept["protected"]
    assert new["tags"] == ["Depth", "quay"] and new["metadata"] == {"by": "Ada"} and new["version"] == 2
    changes = [change for change in answer["history"] if change["change"] == "updated"]
    assert len(changes) == 1 and "ten metres" in json.dumps(changes[0]) and "measured" in json.dumps(changes[0]), answer["history"]
    assert [hit["id"] for hit in call("recall", tags=["QUAY"])["hits"]] == [str(NEW)], "tags ignore case"
    [review] = call("review", action="list")["reviews"]
    assert review["memory"] == str(KEPT) and review["action"] == "delete" and review["reason"] == "obsolete"
    # Old memories can be changed like new ones.
    assert call("update", id=str(NEW), content="The quay is dredged.")["memory"]["version"] == 3
    assert call("forget", ids=[str(OLD)])["changed"] == 1
    assert call("status")["memories"] == 2
