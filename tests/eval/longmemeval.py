#!/usr/bin/env python3
"""Measures recall on questions in the format of LongMemEval's longmemeval_s.json, which is not part of this repository:

    MEMORY_LONGMEMEVAL=longmemeval_s.json tests/eval/longmemeval.py [--json] [--limit=N] [-- OPTION ...]

Each question has its own corpus: one memory of kind dialogue for each turn of its sessions. The right answers are the
turns marked `has_answer`. Questions without such a turn, such as those that cannot be answered, are left out and counted.

For turns, R@k is the share of the right turns among the first k hits. For sessions, the sessions of the first ten hits
are ranked by their best turn; `any@k` is the share of questions with one right session among the first k, `all@k` with
all of them.

MEMORY_TEST_BINARY replaces target/debug/cognitive-memory-mcp. Settings of the environment apply, such as the embedder.
Options after `--` are passed to `eval`.
"""

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from common import Row, flag, number_option, progress, report

CUTS = (1, 5, 10)


def session_turns(entry: Row) -> Iterator[tuple[str, Row, Row]]:
    """Yields the session, the turn and its memory. A session may occur twice in a haystack; it is stored once."""
    seen = set()
    sessions = zip(entry["haystack_session_ids"], entry["haystack_dates"], entry["haystack_sessions"], strict=True)
    for session, date, turns in sessions:
        if session in seen:
            continue
        seen.add(session)
        at = datetime.strptime(date, "%Y/%m/%d (%a) %H:%M").replace(tzinfo=UTC).isoformat()
        for number, turn in enumerate(turns, 1):
            if turn["content"].strip():
                memory = {
                    "key": f"{session}#{number}",
                    "kind": "dialogue",
                    "content": turn["content"],
                    "speaker": turn["role"],
                    "session": session,
                    "turn": number,
                    "occurred_at": at,
                }
                yield session, turn, memory


def rank_sessions(keys: list[str]) -> list[str]:
    """Returns the sessions of the hits, each at the rank of its best turn."""
    return list(dict.fromkeys(key.rsplit("#", 1)[0] for key in keys))


def measure(entry: Row) -> Row | None:
    """Returns the results of one question, or none if no turn answers it."""
    turns = list(session_turns(entry))
    right = [memory["key"] for _, turn, memory in turns if turn.get("has_answer")]
    if not right or entry["question_id"].endswith("_abs"):
        return None
    question = {"query": entry["question"], "expected": right, "group": entry["question_type"]}
    [asked] = report([memory for _, _, memory in turns], [question])["questions"]
    found = [came.get("key", "") for came in asked["came"]]
    sessions, wanted = rank_sessions(found), set(rank_sessions(right))
    results = {"type": entry["question_type"], "ms": asked["millis"]}
    for cut in CUTS:
        results[f"turns R@{cut}"] = len(set(found[:cut]) & set(right)) / len(right)
        results[f"sessions any@{cut}"] = float(bool(wanted & set(sessions[:cut])))
        results[f"sessions all@{cut}"] = float(wanted <= set(sessions[:cut]))
    return results


def mean_of(results: list[Row]) -> Row:
    """Returns the means in percent over some questions."""
    names = [f"{what}@{cut}" for what in ("turns R", "sessions any", "sessions all") for cut in CUTS]
    means = {name: round(100 * sum(one[name] for one in results) / len(results), 1) for name in names}
    return {"questions": len(results), **means}


def main() -> None:
    path = os.environ.get("MEMORY_LONGMEMEVAL")
    if not path:
        sys.exit("MEMORY_LONGMEMEVAL: expected the path of a file in the format of longmemeval_s.json, but it is not set")
    entries = json.loads(Path(path).read_text())[: number_option("--limit")]
    results = []
    for place, entry in enumerate(entries):
        progress(place, len(entries), "questions")
        results.append(measure(entry))
    answered = [one for one in results if one]
    if not answered:
        sys.exit(f"{path}: none of its {len(entries)} questions has a turn with `has_answer`")
    kinds = sorted({one["type"] for one in answered})
    rows = {kind: mean_of([one for one in answered if one["type"] == kind]) for kind in kinds}
    rows["all"] = mean_of(answered)
    if flag("--json"):
        print(json.dumps({"left_out": len(entries) - len(answered), "groups": rows}, indent=2))
        return
    print(f"{len(answered)} questions; {len(entries) - len(answered)} without a turn that answers them are left out\n")
    print(f"{'':28}" + "".join(f"{name:>17}" for name in rows["all"]))
    for name, row in rows.items():
        print(f"{name:28}" + "".join(f"{value:>17}" for value in row.values()))


if __name__ == "__main__":
    main()
