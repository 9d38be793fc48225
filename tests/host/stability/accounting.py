"""Comparison of the journaled writes with the stored memories, in both directions."""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib

from .protocol import IDS_PER_CALL, read_memories
from .workload import content_digest

# Purged memories that are looked up at the end; older ones are only counted, because a run of days has too many.
PURGED_KEPT = 50_000


@dataclasses.dataclass
class JournaledMemory:
    """The last acknowledged state of a memory. `version` is None if it is unknown, after a restore."""

    digest: str
    version: int | None
    state: str  # live, deleted or purged
    marker: str


@dataclasses.dataclass
class Account:
    writes: int = 0
    live: int = 0
    deleted: int = 0
    purged: int = 0
    stored: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    doubled: list[str] = dataclasses.field(default_factory=list)
    unknown: list[str] = dataclasses.field(default_factory=list)

    def problems(self) -> list[str]:
        return self.lost + self.doubled + self.unknown


def read_journals(files: list[pathlib.Path], account: Account) -> dict[str, JournaledMemory]:
    """Returns the last acknowledged state of each memory by ID, and counts the writes in `account`."""
    memories: dict[str, JournaledMemory] = {}
    purged: collections.deque = collections.deque()
    for file in files:
        for line in file.open():
            account.writes += 1
            _apply_entry(json.loads(line), memories, purged, account)
    return memories


def _apply_entry(entry: dict, memories: dict[str, JournaledMemory], purged: collections.deque, account: Account) -> None:
    match entry["op"]:
        case "remember":
            for id, digest, marker in entry["rows"]:
                if id in memories:
                    account.doubled.append(f"{id} was returned for {memories[id].marker} and for {marker}")
                memories[id] = JournaledMemory(digest, 1, "live", marker)
        case "update":
            memory = memories[entry["id"]]
            memory.digest, memory.version = entry["digest"], entry["version"]
        case "delete":
            for id in entry["ids"]:
                memories[id].state = "deleted"
        case "restore":
            for id in entry["ids"]:
                memories[id].version, memories[id].state = None, "live"
        case "purge":
            for id in entry["ids"]:
                memories[id].state = "purged"
            purged.extend(entry["ids"])
            account.purged += len(entry["ids"])
            while len(purged) > PURGED_KEPT:
                del memories[purged.popleft()]


def settle_accounts(connection, tag: str, files: list[pathlib.Path], pending: list[dict]) -> Account:
    """Compares the journals with the stored memories. The results of `pending` operations are not known."""
    account = Account()
    journaled = read_journals(files, account)
    _check_journaled_memories(connection, journaled, _ids_of(pending), account)
    _check_stored_memories(connection, tag, journaled, _markers_of(pending), account)
    return account


def _ids_of(pending: list[dict]) -> set[str]:
    ids = {id for operation in pending for id in operation["arguments"].get("ids", [])}
    return ids | {operation["arguments"]["id"] for operation in pending if operation["arguments"].get("id")}


def _markers_of(pending: list[dict]) -> set[str]:
    return {marker for operation in pending for marker in operation.get("markers") or []}


def _check_journaled_memories(connection, journaled: dict[str, JournaledMemory], undecided: set[str], account: Account) -> None:
    ids = [id for id in journaled if id not in undecided]
    for start in range(0, len(ids), IDS_PER_CALL):
        some = ids[start : start + IDS_PER_CALL]
        visible = {memory["id"] for memory in read_memories(connection, some)}
        kept = {memory["id"]: memory for memory in read_memories(connection, some, include_deleted=True)}
        for id in some:
            memory = journaled[id]
            loss = _describe_loss(memory, kept.get(id), id in visible)
            if loss:
                account.lost.append(f"{memory.marker}: {loss}")
            else:
                account.live += memory.state == "live"
                account.deleted += memory.state == "deleted"


def _describe_loss(memory: JournaledMemory, kept: dict | None, visible: bool) -> str | None:
    """Returns how the stored memory differs from the acknowledged one, or None if it does not."""
    if memory.state == "purged":
        return "purged, but still stored" if kept else None
    if kept is None:
        return "not stored"
    if content_digest(kept["content"]) != memory.digest:
        return f"another text, version {kept['version']} instead of {memory.version}"
    if memory.state == "deleted":
        return "deleted, but still readable" if visible else None
    if not visible:
        return "deleted without an acknowledgement"
    if memory.version is not None and kept["version"] != memory.version:
        return f"version {kept['version']} instead of {memory.version}"
    return None


def _check_stored_memories(
    connection, tag: str, journaled: dict[str, JournaledMemory], undecided: set[str], account: Account
) -> None:
    """Lists all memories of the run, to find those that were stored twice or never acknowledged."""
    id_by_marker = {memory.marker: id for id, memory in journaled.items()}
    listed: dict[str, str] = {}
    for hit in _list_memories(connection, tag):
        account.stored += 1
        id, marker = hit["id"], hit["content"].partition("]")[0].lstrip("[")
        if listed.setdefault(marker, id) != id:
            account.doubled.append(f"{marker}: stored as {listed[marker]} and as {id}")
        if id in journaled:
            continue
        if marker in id_by_marker:
            account.doubled.append(f"{marker}: acknowledged as {id_by_marker[marker]}, also stored as {id}")
        elif marker not in undecided:
            account.unknown.append(f"{marker}: stored as {id}, but never acknowledged")


def _list_memories(connection, tag: str):
    cursor = {}
    while True:
        page = connection.call("recall", tags=[tag], limit=100, max_chars=1_000_000, **cursor)
        yield from page["hits"]
        if not page.get("next_cursor"):
            return
        cursor = {"cursor": page["next_cursor"]}


def purge_memories(connection, ids: list[str]) -> None:
    """Purges the memories that exist; a purge is all or nothing, so an unknown ID would keep the others."""
    for start in range(0, len(ids), IDS_PER_CALL):
        stored = read_memories(connection, ids[start : start + IDS_PER_CALL], include_deleted=True)
        if stored:
            connection.call("forget", ids=[memory["id"] for memory in stored], mode="purge")
