"""The commands in docs/: blocks marked ```sh test run unchanged and in order, each in a new shell, after an installation
for a user. Links of the documents, and the check of the language."""

import re
import shlex
import subprocess

import pytest
from deployment import DATABASE, REPOSITORY, Deployment, Writer

DOCUMENTS = ["deployment.md", "operations.md", "production-checklist.md"]


def blocks(document):
    """Returns (heading, commands) of each marked block, without the indentation of a surrounding list."""
    heading, found = "", []
    lines = iter((REPOSITORY / "docs" / document).read_text().splitlines())
    for line in lines:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if start := re.match(r"( *)```sh test$", line):
            commands = []
            for line in lines:
                if line.strip() == "```":
                    break
                commands.append(line.removeprefix(start[1]))
            found.append((heading, "\n".join(commands)))
    return found


@pytest.fixture(scope="module")
def service(service_host):
    return Deployment(service_host).install().wait_ready()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_marked_block_works(service, document):
    found = blocks(document)
    assert len(found) >= 5, "the marks are missing"
    failures = []
    with service.client() as client, Writer(client) as writer:
        for heading, commands in found:
            shell = "bash -euo pipefail -c " + shlex.quote(commands)
            result = service.run(f"cd {service.checkout} && {shell}", check=False, timeout=180)
            if not result.ok:
                failures.append(f"{document}, {heading}:\n{commands}\n--> {result.code}\n{result.stdout}{result.stderr}")
    assert not failures, "\n\n".join(failures)
    service.wait_ready()
    # operations.md restores a dump, which removes later writes on purpose.
    if document != "operations.md":
        with service.client() as client:
            writer.check(client)
    assert service.prop("ActiveState") == "active" and service.prop("ActiveState", DATABASE) == "active"


def test_the_manual_installation_works(service):
    """The block below "By hand", after install.sh has removed everything. It also builds the image."""
    service.try_install("--uninstall", "--purge", "--yes", check=True)
    text = (REPOSITORY / "docs/deployment.md").read_text()
    commands = re.search(r"^### By hand\n\n```sh\n(.*?)^```", text, re.M | re.S)[1]
    result = service.run(f"cd {service.checkout} && bash -euo pipefail -c {shlex.quote(commands)}", timeout=300)
    service.token = re.search(r"^cm_\S+$", result.stdout, re.M)[0]
    service.wait_ready()
    with service.client() as client:
        assert client.remember("installed by hand")


def tracked_files(*patterns):
    listed = subprocess.run(["git", "-C", REPOSITORY, "ls-files", *patterns], check=True, capture_output=True, text=True)
    return [REPOSITORY / name for name in listed.stdout.splitlines()]


def headings(document):
    """Returns the headings of a document, without those in code blocks."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.M | re.S)
    return re.findall(r"^#+ (.+)$", text, re.M)


def anchors(document):
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(document)}


def test_every_link_of_a_document_has_a_target():
    documents = [file for file in tracked_files("*.md") if "tests/data/" not in str(file) or file.name == "README.md"]
    assert len(documents) > 25, "the documents were not found"
    wrong = []
    for file in documents:
        for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            other = (file.parent / name).resolve() if name else file
            if not other.exists() or (anchor and other.suffix == ".md" and anchor not in anchors(other)):
                wrong.append(f"{file.relative_to(REPOSITORY)} links to {target}")
    assert not wrong, "\n".join(wrong)


def test_every_section_that_a_program_names_exists():
    """Programs and units name sections as in: docs/operations.md, "Tokens"."""
    found, wrong = 0, []
    for file in tracked_files("src", "quadlet", "compose", "tests/run"):
        for document, section in re.findall(r"(docs/[\w-]+\.md), \\?\"([^\"\\]+)\\?\"", file.read_text()):
            found += 1
            if section not in headings(REPOSITORY / document):
                wrong.append(f"{file.relative_to(REPOSITORY)} names {document}, {section!r}")
    assert found >= 4, "the mentions were not found"
    assert not wrong, "\n".join(wrong)


PROSE = {
    "rule.rs": "/// What begins like this sentence is counted as one of them,\n/// across two lines.\nfn f() {}\n",
    "rule.py": '"""Likewise this docstring of more than eight words is counted once."""\n# Who reads a short one?\n',
    "rule": "#!/bin/bash\n# Starts well. The same words in a second sentence are counted as well.\n",
    "rule.md": "What is a question that is longer than eight words?\n\n```\nWhat is in a block of code is never prose at all.\n```\n",
}


def test_the_language_check_finds_openers_in_comments_and_documents(tmp_path):
    for name, text in PROSE.items():
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    words = [REPOSITORY / "tests/language", "--root", tmp_path, "--list"]
    failed = subprocess.run([*words, "--limit", "50"], capture_output=True, text=True)
    assert failed.returncode == 1, failed
    found = [line.split(": ")[0] for line in failed.stdout.splitlines() if line.startswith("rule")]
    assert found == ["rule:2", "rule.py:1", "rule.rs:1"]
    assert subprocess.run([*words, "--limit", "80"], capture_output=True).returncode == 0
