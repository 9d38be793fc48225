"""The operations of one client, and the checks of their results against what was acknowledged before."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import random

from .protocol import IDS_PER_CALL

# Operations that can be repeated with their idempotency key.
REPEATABLE_KEPT = 200
DEFECTS_KEPT = 50

WORDS = """amber anchor autumn basin beacon birch bridge canyon carbon cedar cipher cobalt comet copper coral crystal
delta desert dune echo ember engine fabric falcon fathom fern fjord flint forest gable garnet glacier granite harbor
hazel helix heron indigo island ivory jasper juniper kernel lagoon lantern lattice lichen linden magnet maple marble
meadow meridian meteor mosaic nebula nectar nickel oasis onyx orbit orchard osprey oyster pebble pepper pewter pigment
pine plateau prairie prism quarry quartz raven reef ridge river saffron sage sandal sapphire sierra signal silver slate
spruce summit tempo thistle timber topaz tundra umber valley velvet violet walnut willow winter zephyr zinc""".split()


def content_digest(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


class Journal:
    """The acknowledged writes of one client in a file of JSON lines."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "a", buffering=1)
        self.entries = 0

    def append_entry(self, **entry) -> None:
        """Returns when the entry is on the disk."""
        self.file.write(json.dumps(entry, separators=(",", ":")) + "\n")
        os.fsync(self.file.fileno())
        self.entries += 1


class Workload:
    """Draws operations from a seed: store, read, change, delete, restore and purge memories.

    `live` has the digest, version and marker of each memory that must be readable. A marker is a word that occurs in
    one memory only, so `recall` must find the memory by it.
    """

    def __init__(self, client: int, seed: int, tag: str, keep: int, journal: Journal) -> None:
        self.client, self.tag, self.keep, self.journal = client, tag, keep, journal
        self.random = random.Random(seed)
        self.texts_written = 0
        self.live: dict[str, list] = {}
        self.ids: list[str] = []
        self.deleted: list[str] = []
        self.restored: list[str] = []
        self.repeatable: collections.deque = collections.deque(maxlen=REPEATABLE_KEPT)
        self.repetitions = 0
        self.defects: list[str] = []

    def record_defect(self, sentence: str) -> None:
        if len(self.defects) < DEFECTS_KEPT:
            self.defects.append(f"client {self.client}: {sentence}")

    # ---- drawing an operation

    def next_operation(self) -> dict:
        draw = self.random.random()
        if purge := self._purge_operation():
            return purge
        if not self.live or draw < 0.40:
            return self._remember_operation(1 if draw < 0.32 or not self.live else self.random.randint(2, 20))
        if draw < 0.43 and self.repeatable:
            return {"tool": "remember", "repetition": True, **self.random.choice(self.repeatable)}
        id = self._pick_memory()
        if draw < 0.58:
            return self._update_operation(id)
        if draw < 0.63:
            return {"tool": "forget", "arguments": {"ids": [id]}}
        if draw < 0.64 and self.deleted:
            return {"tool": "forget", "arguments": {"ids": [self.deleted.pop()], "mode": "restore"}}
        if draw < 0.82:
            ids = [self._pick_memory() for _ in range(self.random.randint(1, 10))]
            return {"tool": "get", "arguments": {"ids": ids, "max_chars": 1_000_000}}
        return {"tool": "recall", "expected": id, "arguments": {"query": self.live[id][2], "limit": 5}}

    def _purge_operation(self) -> dict | None:
        """Returns a purge if the client has too many memories, deleted memories or restored memories."""
        ids: list[str] = []
        if len(self.live) > self.keep:
            ids = [id for id in self.ids[:IDS_PER_CALL] if id in self.live]
            self.ids = self.ids[IDS_PER_CALL:]
        if not ids:
            large = [some for some in (self.deleted, self.restored) if len(some) > self.keep / 10]
            ids = large[0][:IDS_PER_CALL] if large else []
        return {"tool": "forget", "arguments": {"ids": ids, "mode": "purge"}} if ids else None

    def _remember_operation(self, count: int) -> dict:
        items = [self._new_item() for _ in range(count)]
        key = f"{items[0][0]}-{self.random.getrandbits(64):x}"
        arguments = {"items": [item for _, item in items], "idempotency_key": key}
        return {"tool": "remember", "arguments": arguments, "markers": [marker for marker, _ in items]}

    def _update_operation(self, id: str) -> dict:
        _, version, old_marker = self.live[id]
        marker, content = self._new_text()
        content = content.replace(marker, old_marker, 1)
        arguments = {"id": id, "content": content, "expected_version": version, "reason": "corrected"}
        return {"tool": "update", "arguments": arguments}

    def _new_text(self) -> tuple[str, str]:
        self.texts_written += 1
        marker = f"{self.tag}c{self.client}n{self.texts_written}"
        length = self.random.choices((12, 40, 900, 5000), (70, 24, 5, 1))[0]
        return marker, f"[{marker}] " + " ".join(self.random.choices(WORDS, k=length))

    def _new_item(self) -> tuple[str, dict]:
        marker, content = self._new_text()
        # Dialogue without a turn number is never recognized as a duplicate, so only the idempotency key prevents a
        # second copy.
        kind = self.random.choices(("dialogue", "note", "episode"), (5, 4, 1))[0]
        item = {"content": content, "tags": [self.tag], "kind": kind}
        if kind == "dialogue":
            item |= {"session": f"{self.tag}-{self.texts_written // 50}", "speaker": "Alex"}
        if kind == "episode":
            item |= {"situation": "a stability run", "outcome": 0.5, "lesson": "write it down"}
        return marker, item

    def _pick_memory(self) -> str:
        """Returns a readable memory. New memories are more likely, as in real use."""
        while True:
            position = int(len(self.ids) * self.random.random() ** 0.3)
            if self.ids[position] in self.live:
                return self.ids[position]
            del self.ids[position]

    # ---- checking the result of an operation

    def accept_result(self, operation: dict, result: dict) -> None:
        """Journals an acknowledged write, or compares what was read with what was acknowledged."""
        match operation["tool"]:
            case "remember" if operation.get("repetition"):
                self._check_repetition(operation, result)
            case "remember":
                self._accept_new_memories(operation, result)
            case "update":
                self._accept_update(operation["arguments"], result["memory"]["version"])
            case "forget":
                self._accept_forget(operation["arguments"]["ids"], operation["arguments"].get("mode", "delete"))
            case "get":
                self._check_memories(operation["arguments"]["ids"], result["memories"])
            case "recall":
                if operation["expected"] not in [hit["id"] for hit in result["hits"]]:
                    marker = operation["arguments"]["query"]
                    self.record_defect(f"recall does not find {operation['expected']} by its word {marker}")

    def _check_repetition(self, operation: dict, result: dict) -> None:
        self.repetitions += 1
        ids = [memory["id"] for memory in result["memories"]]
        if ids != operation["ids"]:
            self.record_defect(f"a repeated remember returned the IDs {ids} instead of {operation['ids']}")

    def _accept_new_memories(self, operation: dict, result: dict) -> None:
        ids = [memory["id"] for memory in result["memories"]]
        items, markers = operation["arguments"]["items"], operation["markers"]
        if len(ids) != len(items):
            self.record_defect(f"remember of {len(items)} items returned {len(ids)} IDs")
        rows = [[id, content_digest(item["content"]), marker] for id, item, marker in zip(ids, items, markers)]
        self.journal.append_entry(op="remember", rows=rows)
        for id, digest, marker in rows:
            self.live[id] = [digest, 1, marker]
            self.ids.append(id)
        self.repeatable.append({"arguments": operation["arguments"], "ids": ids})

    def _accept_update(self, arguments: dict, version: int) -> None:
        digest = content_digest(arguments["content"])
        self.journal.append_entry(op="update", id=arguments["id"], digest=digest, version=version)
        if version != arguments["expected_version"] + 1:
            self.record_defect(f"update of version {arguments['expected_version']} returned version {version}")
        self.live[arguments["id"]][:2] = [digest, version]

    def _accept_forget(self, ids: list[str], mode: str) -> None:
        self.journal.append_entry(op=mode, ids=ids)
        if mode == "restore":
            # A restored memory has a new version, which only the final accounting reads.
            self.restored += ids
            return
        for id in ids:
            self.live.pop(id, None)
        if mode == "delete":
            self.deleted += ids
        else:
            self._drop_purged(set(ids))

    def _drop_purged(self, purged: set[str]) -> None:
        self.deleted = [id for id in self.deleted if id not in purged]
        self.restored = [id for id in self.restored if id not in purged]
        kept = [entry for entry in self.repeatable if not purged & set(entry["ids"])]
        self.repeatable = collections.deque(kept, maxlen=REPEATABLE_KEPT)

    def _check_memories(self, ids: list[str], memories: list[dict]) -> None:
        found = {memory["id"]: memory for memory in memories}
        for id in ids:
            digest, version, _ = self.live[id]
            memory = found.get(id)
            if memory is None:
                self.record_defect(f"get does not find {id}")
            elif content_digest(memory["content"]) != digest or memory["version"] != version:
                self.record_defect(f"get returns version {memory['version']} of {id} instead of {version}")
