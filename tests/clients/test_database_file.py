"""The embedded database as other programs see it: SQLite of Debian 12 (3.40), which is older than the program's own."""

import pathlib
import sqlite3

import pytest

from client import over_http

# Kinds of history entries that some client can cause.
CHANGES = {"created", "updated", "superseded", "deleted", "restored"}


async def fill(memory) -> None:
    """Writes rows of every kind, into every table."""
    old, purged, protected, deleted = await memory.remember(
        {"content": "Ada lives in Berlin.", "tags": ["city"], "metadata": {"by": "Ada"}, "entities": ["Ada"], "idempotency_key": "a"},
        {"content": "A secret.", "session": "chat", "kind": "dialogue", "turn": 1, "speaker": "Ada"},
        {"content": "The vault opens at nine.", "protected": True},
        {"kind": "episode", "content": "tried", "situation": "rain", "outcome": -0.5, "lesson": "take a coat"},
    )
    [new] = await memory.remember({"content": "Ada lives in Paris.", "supersedes": [old], "sources": [deleted]})
    await memory.call("update", id=new, content="Ada lives in Paris, France.", tags=[], metadata={"by": None})
    await memory.call("update", id=new, importance=1, feedback="helpful")
    await memory.call("forget", ids=[protected])
    await memory.call("forget", ids=[deleted])
    await memory.call("forget", ids=[deleted], mode="restore")
    await memory.call("update", id=purged, content="Another secret.")
    await memory.call("forget", ids=[purged], mode="purge")
    await memory.call("link", relations=[{"from": "Ada", "type": "lives in", "to": "Paris", "properties": {"since": 2025}}])
    item = (await memory.call("focus", content="Ask Ada"))["items"][0]["id"]
    await memory.call("focus", action="drop", id=item)
    await memory.call("focus", content="Ask Marta")
    await memory.found("Ada")


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 37), reason=f"SQLite {sqlite3.sqlite_version} has no STRICT tables")
async def test_an_older_sqlite_finds_no_damage(sqlite, new_service, figure):
    figure(f"checked by SQLite {sqlite3.sqlite_version}")
    service = new_service(sqlite)
    async with over_http(service.url) as memory:
        await fill(memory)
    assert service.stop() == 0
    connection = sqlite3.connect(pathlib.Path(sqlite.settings["MEMORY_DATA_DIR"]) / "memory.db")
    found = connection.execute("SELECT DISTINCT change, old IS NULL FROM history").fetchall()
    assert {change for change, _ in found} == CHANGES and {without for _, without in found} == {0, 1}, found
    for check in ["integrity_check", "quick_check"]:
        assert connection.execute(f"PRAGMA {check}").fetchall() == [("ok",)], check
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
