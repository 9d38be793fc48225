"""`stdio`, for clients that can only start a process. Any number of processes can use one database."""

import contextlib
import json
import os
import signal
import subprocess

import anyio
import pytest

import wire
from client import over_http, over_stdio
from service import PATIENCE, binary, clean_environment, free_port, run


@pytest.fixture
def settings(backend):
    """Settings of a stdio process and of the service that it may find, with a free address."""
    return backend.settings | {"MEMORY_LISTEN": f"127.0.0.1:{free_port()}"}


def lock_owner(settings: dict) -> tuple[int, str]:
    """Returns the process ID and address in the lock file of an embedded database."""
    with open(f"{settings['MEMORY_DATA_DIR']}/memory.db.lock") as lock:
        pid, url = lock.read().splitlines()[:2]
    return int(pid), url


async def test_it_opens_the_database_if_no_service_runs(settings, tmp_path):
    async with over_stdio(tmp_path, settings) as memory:
        assert memory.client.server_info.name == "cognitive-memory-mcp" and memory.client.instructions
        [id] = await memory.remember({"content": "Kept by a process of the client"})
        assert await memory.found("kept by") == [id]
    async with over_stdio(tmp_path, settings) as again:
        assert (await again.one(id))["content"] == "Kept by a process of the client"


@pytest.mark.parametrize("mode, version", [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_the_sdk_works_in_each_of_its_modes(sqlite, tmp_path, mode, version):
    async with over_stdio(tmp_path, sqlite.settings, mode=mode) as memory:
        assert memory.client.protocol_version == version
        [id] = await memory.remember({"content": f"In mode {mode}"})
        assert await memory.found(mode) == [id]
        assert (await memory.refused("recall", limit=0))["field"] == "limit"


async def test_it_forwards_to_a_running_service(settings, backend, new_service, tmp_path):
    service = new_service(backend)
    settings["MEMORY_LISTEN"] = f"127.0.0.1:{service.port}"
    async with over_stdio(tmp_path, settings) as bridged, over_http(service.url) as direct:
        [mine] = await bridged.remember({"content": "Said through the bridge"})
        [yours] = await direct.remember({"content": "Said to the daemon"})
        for memory in (bridged, direct):
            assert set(await memory.found("said")) == {mine, yours}
    assert "tool call" in service.log(), "the service has stored the memory"


async def test_it_sends_its_token_to_the_service(sqlite, new_service, tmp_path):
    service = new_service(sqlite, tokens={"ada": "token-of-ada-0123456789"})
    async with over_stdio(tmp_path, sqlite.settings | {"MEMORY_TOKEN": "token-of-ada-0123456789"}) as memory:
        await memory.remember({"content": "With a token"})
        assert (await memory.status())["project"] == "ada"
    async with over_http(service.url, "token-of-ada-0123456789") as direct:
        assert len(await direct.found("token")) == 1


async def test_without_the_token_of_the_service_it_names_the_missing_setting(sqlite, new_service, tmp_path):
    new_service(sqlite, tokens={"ada": "token-of-ada-0123456789"})
    answers = talk(tmp_path, sqlite.settings, wire.initialize("2025-06-18"))
    assert "401" in answers[0]["error"]["message"] and "token" in answers[0]["error"]["message"]


async def test_it_forwards_to_the_service_in_memory_url(sqlite, make_backend, new_service, tmp_path):
    service = new_service(sqlite)
    elsewhere = make_backend("sqlite")
    async with over_stdio(tmp_path, elsewhere.settings | {"MEMORY_URL": service.url}) as memory:
        [id] = await memory.remember({"content": "Over there"})
    async with over_http(service.url) as direct:
        assert await direct.found("there") == [id]
    assert not os.listdir(elsewhere.settings["MEMORY_DATA_DIR"])


async def test_it_finds_a_service_that_listens_on_every_address(sqlite, new_service, tmp_path):
    port = free_port()
    service = new_service(sqlite, ready=False, MEMORY_LISTEN=f"0.0.0.0:{port}", MEMORY_AUTH="none")
    service.port = port
    service.wait_ready()
    async with over_stdio(tmp_path, sqlite.settings) as memory:
        [id] = await memory.remember({"content": "From everywhere"})
    async with over_http(service.url) as direct:
        assert await direct.found("everywhere") == [id]


async def test_eight_processes_share_one_file(settings, tmp_path):
    """All start at the same time. When the serving process stops or crashes, the others continue."""
    count = 8
    started = anyio.Event()
    ended = anyio.Event()
    crashed = anyio.Event()
    pids: dict[int, int] = {}
    seen: list[set[str]] = []

    async def one(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            async with over_stdio(tmp_path, settings, name=f"stdio-{number}") as memory:
                await memory.remember({"content": f"Hello from {number}", "session": "all"})
                pids[number] = memory.pid
                if len(pids) == count:
                    started.set()
                await started.wait()
                assert len(await memory.browse_all(session="all")) == count
                ready[number].set()
                if number == leaving():
                    return
                await ended.wait()
                await memory.remember({"content": f"Still here, {number}", "session": "more"})
                more[number].set()
                await crashed.wait()
                if number == victims[-1]:
                    return
                await memory.remember({"content": f"And still, {number}", "session": "last"})
                await everybody(last, number)
                seen.append({hit["content"] for hit in await memory.browse_all(session="last")})

    ready = {number: anyio.Event() for number in range(count)}
    more = {number: anyio.Event() for number in range(count)}
    last = {number: anyio.Event() for number in range(count)}
    victims: list[int] = []

    async def everybody(events: dict, number: int) -> None:
        events[number].set()
        for each, event in events.items():
            if each not in victims:
                await event.wait()

    def leaving() -> int:
        if not victims:
            victims.append(owner())
        return victims[0]

    def owner() -> int:
        """Returns the serving process. On PostgreSQL each process serves itself unless one already listens on the address."""
        if "MEMORY_DATA_DIR" not in settings:
            return 0 if not victims else 1
        pid = lock_owner(settings)[0]
        return next(number for number, each in pids.items() if each == pid)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
        for event in ready.values():
            await event.wait()
        first = leaving()
        # The SDK closes stdin of the first process and waits for its end.
        await ends(pids[first])
        ended.set()
        for number, event in more.items():
            if number != first:
                await event.wait()
        victims.append(owner())
        os.kill(pids[victims[1]], signal.SIGKILL)
        # A request in progress may fail, because its outcome is unknown.
        await ends(pids[victims[1]])
        crashed.set()
    assert victims[0] != victims[1]
    assert len(seen) == count - 2
    expected = {f"And still, {number}" for number in range(count) if number not in victims}
    assert all(found == expected for found in seen)


def alive(pid: int) -> bool:
    """Returns whether a thread still runs. The main thread may be a zombie while others still have open sockets."""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] not in "ZX":
                    return True
    return False


async def ends(pid: int) -> None:
    with anyio.fail_after(PATIENCE):
        while alive(pid):
            await anyio.sleep(0.02)


async def test_forwarding_continues_after_a_crash_of_the_service(sqlite, new_service, tmp_path):
    service = new_service(sqlite)
    async with over_stdio(tmp_path, sqlite.settings) as memory, over_stdio(tmp_path, sqlite.settings, mode="legacy", name="stdio-2") as other:
        [before] = await memory.remember({"content": "Before the crash"})
        assert await other.found("crash") == [before]
        service.kill()
        service.start()
        for each in (memory, other):
            assert await each.found("crash") == [before]
        assert await memory.remember({"content": "After the crash"})


async def test_it_opens_the_database_if_the_service_does_not_return(sqlite, new_service, tmp_path):
    service = new_service(sqlite)
    async with over_stdio(tmp_path, sqlite.settings) as memory, over_stdio(tmp_path, sqlite.settings, name="stdio-2") as other:
        [id] = await memory.remember({"content": "Before the end"})
        service.kill()
        assert await memory.found("end") == [id] and await other.found("end") == [id]
        assert lock_owner(sqlite.settings)[0] in (memory.pid, other.pid)


async def test_with_memory_url_requests_wait_for_the_service(sqlite, new_service, tmp_path):
    """With MEMORY_URL it never opens a database. Requests wait during a restart of the service."""
    service = new_service(sqlite)
    async with over_stdio(tmp_path, {"MEMORY_URL": service.url}) as memory:
        [id] = await memory.remember({"content": "Before the restart"})
        service.kill()
        async with anyio.create_task_group() as tasks:
            found = []

            async def ask():
                found.extend(await memory.found("restart"))

            tasks.start_soon(ask)
            await anyio.sleep(0.3)
            assert not found
            await anyio.to_thread.run_sync(service.start)
        assert found == [id]


# ------------------------------------------------------------------------------------------------ two processes, one database


def test_a_second_service_on_one_file_is_refused_and_names_the_first(sqlite, new_service, tmp_path):
    first = new_service(sqlite)
    second = run("serve", folder=tmp_path, settings=sqlite.settings | {"MEMORY_LISTEN": "127.0.0.1:0"})
    said = second.stdout + second.stderr
    assert second.returncode == 69 and str(first.process.pid) in said and "in use" in said
    assert "locked" not in said.lower()
    assert wire.send(first, body=wire.request("ping")).status == 200
    migrated = run("migrate", folder=tmp_path, settings=sqlite.settings)
    assert migrated.returncode == 69 and str(first.process.pid) in migrated.stdout + migrated.stderr


async def test_a_service_on_the_file_of_a_stdio_process_is_refused(sqlite, tmp_path):
    async with over_stdio(tmp_path, sqlite.settings) as memory:
        await memory.status()
        second = run("serve", folder=tmp_path, settings=sqlite.settings | {"MEMORY_LISTEN": "127.0.0.1:0"})
        assert second.returncode == 69 and str(memory.pid) in second.stdout + second.stderr


def test_a_second_service_on_one_address_is_refused(sqlite, make_backend, new_service, tmp_path):
    first = new_service(sqlite)
    second = run("serve", folder=tmp_path, settings=make_backend("sqlite").settings | {"MEMORY_LISTEN": f"127.0.0.1:{first.port}"})
    assert second.returncode in (69, 78) and "MEMORY_LISTEN" in second.stdout + second.stderr


async def test_the_lock_of_a_crashed_service_is_ignored(sqlite, new_service):
    service = new_service(sqlite)
    for _ in range(3):
        service.kill()
        service.start()


async def test_two_services_share_one_postgresql_database(make_backend, new_service):
    backend = make_backend("postgres")
    first, second = new_service(backend, ready=False), new_service(backend, ready=False)
    first.wait_ready()
    second.wait_ready()
    async with over_http(first.url) as one, over_http(second.url) as two:
        [id] = await one.remember({"content": "Shared by two servers"}, idempotency_key="k")
        assert await two.found("servers") == [id]
        assert await two.remember({"content": "Shared by two servers"}, idempotency_key="k") == [id]
        await two.update(id, content="Changed by the other")
        assert (await one.refused("update", id=id, content="x", expected_version=1))["code"] == "version_conflict"
        async with anyio.create_task_group() as tasks:

            async def write(memory, name):
                for number in range(20):
                    await memory.remember({"content": f"{name} {number}"}, {"content": f"Both {number}"})

            tasks.start_soon(write, one, "First")
            tasks.start_soon(write, two, "Second")
        # A memory that both stored at the same time exists once.
        assert (await one.status())["memories"] == 1 + 20 + 20 + 20


# ------------------------------------------------------------------------------------------------ standard input and output


def talk(folder, settings: dict, *lines: str) -> list[dict]:
    """Sends lines, closes stdin, and returns the output lines."""
    done = subprocess.run(
        [binary(), "stdio"], cwd=folder, env=clean_environment(folder, settings), input="".join(f"{line}\n" for line in lines),
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_only_messages_go_to_standard_output(sqlite, tmp_path):
    answers = talk(
        tmp_path, sqlite.settings,
        wire.initialize("2025-06-18"), '{"jsonrpc": "2.0", "method": "notifications/initialized"}', "",
        wire.request("tools/list", id="two"), "not json", wire.call("remember", {"items": [{"content": "é\n世界"}]}),
    )  # fmt: skip
    by_id = {answer.get("id"): answer for answer in answers}
    assert len(answers) == 4
    assert by_id["two"]["result"]["tools"] and by_id[None]["error"]["code"] == -32700
    assert by_id[1]["result"], "the last request is answered although stdin is closed"


def test_pending_requests_are_answered_before_the_end(sqlite, tmp_path):
    calls = [wire.call("remember", {"items": [{"content": f"Number {n}"}]}).replace('"id": 1', f'"id": {n + 10}') for n in range(100)]
    answers = talk(tmp_path, sqlite.settings, wire.initialize("2025-11-25"), *calls)
    assert {answer["id"] for answer in answers} == {1, *range(10, 110)}
    assert not [answer for answer in answers if "error" in answer or answer["result"].get("isError")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(sqlite, tmp_path, number):
    process = subprocess.Popen(
        [binary(), "stdio"], cwd=tmp_path, env=clean_environment(tmp_path, sqlite.settings), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdin.write(wire.initialize("2025-11-25") + "\n")
    process.stdin.flush()
    assert "serverInfo" in process.stdout.readline()
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 128 + number)


def test_wrong_settings_fail_immediately_with_a_message(tmp_path):
    file = tmp_path / "a-file"
    file.write_text("")
    done = run("stdio", folder=tmp_path, settings={"MEMORY_DATA_DIR": str(file)})
    assert done.returncode in (69, 78) and str(file) in done.stderr and done.stdout == ""
