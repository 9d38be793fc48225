"""Long conversations with questions: our own, and one of LoCoMo if MEMORY_TEST_LOCOMO names its file."""

import dataclasses
import datetime
import json
import os
import pathlib
import re

LOCOMO = os.environ.get("MEMORY_TEST_LOCOMO")
OUR_OWN = pathlib.Path(__file__).resolve().parent / "conversation.txt"


@dataclasses.dataclass
class Question:
    text: str
    # Indexes into `turns`.
    evidence: list[int]


@dataclasses.dataclass
class Conversation:
    name: str
    # Items for `remember`.
    turns: list[dict]
    questions: list[Question]
    # Lower limit of lexical recall.
    floor: float

    def recall_at(self, k: int, answers: list[list[int]]) -> float:
        """Returns the mean share of a question's evidence among the first k hits, as in the protocol of LoCoMo."""
        shares = [
            len(set(question.evidence) & set(hits[:k])) / len(question.evidence)
            for question, hits in zip(self.questions, answers, strict=True)
        ]
        return sum(shares) / len(shares)


def our_own() -> Conversation:
    turns, questions, start = [], [], None
    for line in OUR_OWN.read_text().splitlines():
        if line.startswith("== "):
            start = datetime.datetime.fromisoformat(line[3:])
            session, turn = f"chat-{start:%Y-%m-%d}", 0
        elif line.startswith("? "):
            text, *marks = [part.strip() for part in line[2:].split(" | ")]
            evidence = [[n for n, each in enumerate(turns) if mark in each["content"]] for mark in marks]
            assert all(len(found) == 1 for found in evidence), f"expected exactly one turn for each of {marks}"
            questions.append(Question(text, [found[0] for found in evidence]))
        elif line and not line.startswith("#"):
            speaker, _, content = line.partition(": ")
            turn += 1
            at = start + datetime.timedelta(seconds=20 * turn)
            turns.append(dialogue(content, session, turn, speaker, at))
    return Conversation("our own conversation", turns, questions, floor=0.65)


def locomo(number: int = 0) -> Conversation:
    data = json.loads(pathlib.Path(LOCOMO).read_text())[number]
    conversation = data["conversation"]
    turns, places = [], {}
    sessions = sorted((key for key in conversation if re.fullmatch(r"session_\d+", key)), key=lambda key: int(key[8:]))
    for key in sessions:
        at = datetime.datetime.strptime(conversation[f"{key}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=datetime.UTC)
        for turn, said in enumerate(conversation[key], 1):
            places[said["dia_id"]] = len(turns)
            turns.append(dialogue(said["text"], f"locomo-{number}-{key}", turn, said["speaker"], at))
    questions = []
    for question in data["qa"]:
        ids = [f"D{int(day)}:{int(turn)}" for entry in question["evidence"] for day, turn in re.findall(r"D(\d+)\s*:\s*(\d+)", entry)]
        evidence = [places[id] for id in dict.fromkeys(ids) if id in places]
        if question["category"] in (1, 2, 3, 4) and evidence:
            questions.append(Question(question["question"], evidence))
    return Conversation(f"LoCoMo conversation {number}", turns, questions, floor=0.5)


def dialogue(content: str, session: str, turn: int, speaker: str, at: datetime.datetime) -> dict:
    return {
        "kind": "dialogue", "content": content, "session": session, "turn": turn, "speaker": speaker,
        "occurred_at": at.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip


def available() -> list[Conversation]:
    return [our_own()] + ([locomo()] if LOCOMO else [])
