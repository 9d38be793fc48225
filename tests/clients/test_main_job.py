"""The main use case with realistic input: a conversation is stored turn by turn and in batches, the process is killed, and
the turns are found again."""

import contextlib
import os
import signal
import time

import anyio
import pytest

import conversation as conversations
from client import over_http, over_stdio

# These turns are stored one by one, as during a conversation; the others in batches, as by an import.
SINGLE = 100
BATCH = 50
AVAILABLE = conversations.available()


class OverHttp:
    """A service with clients."""

    def __init__(self, backend, new_service, tmp_path) -> None:
        self.service = new_service(backend)

    def connect(self):
        return over_http(self.service.url)

    async def crash(self, memory) -> None:
        self.service.kill()
        await anyio.to_thread.run_sync(self.service.start)


class OverStdio:
    """A stdio process that opens the database itself."""

    def __init__(self, backend, new_service, tmp_path) -> None:
        self.settings = backend.settings | {"MEMORY_LISTEN": "127.0.0.1:1"}
        self.folder = tmp_path

    @contextlib.asynccontextmanager
    async def connect(self):
        async with over_stdio(self.folder, self.settings) as memory:
            yield memory

    async def crash(self, memory) -> None:
        os.kill(memory.pid, signal.SIGKILL)


@pytest.mark.parametrize("said", AVAILABLE, ids=[each.name.replace(" ", "-") for each in AVAILABLE])
@pytest.mark.parametrize("transport", [OverHttp, OverStdio])
async def test_a_conversation_outlives_a_crash(backend, transport, said, new_service, tmp_path, figure):
    assert len(said.turns) > 250 and len(said.questions) > 20
    place = transport(backend, new_service, tmp_path)
    ids: list[str] = []
    begin = time.monotonic()
    async with place.connect() as memory:
        for turn in said.turns[:SINGLE]:
            ids += await memory.remember(turn)
        single = time.monotonic() - begin
        for start in range(SINGLE, len(said.turns), BATCH):
            ids += await memory.remember(*said.turns[start : start + BATCH], idempotency_key=f"import-{start}")
        batches = time.monotonic() - begin - single
        # The process is killed; acknowledged writes must survive.
        await place.crash(memory)

    async with place.connect() as memory:
        # A client repeats a call whose outcome it does not know.
        last = (len(said.turns) - SINGLE - 1) // BATCH * BATCH + SINGLE
        assert await memory.remember(*said.turns[last:], idempotency_key=f"import-{last}") == ids[last:]

        stored = await memory.browse_all()
        assert [hit["id"] for hit in stored] == ids[::-1], "every turn is stored exactly once"
        read = [each for start in range(0, len(ids), 200) for each in (await memory.get(*ids[start : start + 200], max_chars=1_000_000))["memories"]]
        for turn, each in zip(said.turns, read, strict=True):
            assert each.items() >= turn.items()

        place_of = {id: number for number, id in enumerate(ids)}
        begin = time.monotonic()
        answers = [[place_of[id] for id in await memory.found(question.text, limit=20)] for question in said.questions]
        recalls = time.monotonic() - begin
        for turn, id in zip(said.turns[::7], ids[::7], strict=True):
            hits = await memory.recall(turn["content"], limit=5)
            assert id in [hit["id"] for hit in hits["hits"] if hit["why"].get("exact")], "every turn is found by its own text"
        session = said.turns[0]["session"]
        inside = await memory.browse_all(session=session)
        assert {hit["id"] for hit in inside} == {id for turn, id in zip(said.turns, ids) if turn["session"] == session}

    at_10 = said.recall_at(10, answers)
    figure(
        f"{said.name} on {backend.name} {transport.__name__[4:].lower()}: recall@10 {at_10:.3f}, recall@5 {said.recall_at(5, answers):.3f} "
        f"({len(said.questions)} questions, {len(said.turns)} turns); {1000 * single / SINGLE:.1f} ms a single store, "
        f"{1000 * batches / (len(said.turns) - SINGLE):.1f} ms a turn in batches, {1000 * recalls / len(said.questions):.1f} ms a recall"
    )
    assert at_10 >= said.floor
