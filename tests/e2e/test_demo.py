"""The demo does what it shows, and says so when it does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cardoon.audit import REFUSAL_EVENTS
from cardoon.exceptions import Refusal
from demo import attacks, indexing

DEMO = Path(attacks.__file__).parent
REFUSED = {
    "one bit of the arguments flipped": Refusal.WRONG_DIGEST,
    "claims changed: valid for ten more years": Refusal.BAD_SIGNATURE,
    "claims changed: the task is tasks.erase now": Refusal.BAD_SIGNATURE,
    "the signature taken off": Refusal.UNSIGNED,
    "signed with an unknown key": Refusal.UNKNOWN_SIGNER,
    "signed as `client` of the attacker's authority": Refusal.UNKNOWN_SIGNER,
    "a task for queue `archive` moved to this one": Refusal.WRONG_AUDIENCE,
    "4 KiB of random bytes": Refusal.MALFORMED,
    "an empty message": Refusal.MALFORMED,
    "9 MiB of zeros": Refusal.TOO_LARGE,
    "stolen key: a small body that inflates to 64 MiB": Refusal.BOMB,
    "stolen key: JSON nested 100,000 deep": Refusal.UNDECODABLE,
    "a completed task put back in the queue": Refusal.REPLAYED,
    "a worker's signed result as a task": Refusal.WRONG_KIND,
    "a forged result for a task that waits": Refusal.UNKNOWN_SIGNER,
    "another task's genuine result for this one": Refusal.WRONG_REQUEST,
}


@pytest.fixture
def folder(tmp_path):
    """Some sources, and a text of each other kind."""
    made = tmp_path / "texts"
    shutil.copytree(Path(json.__file__).parent, made / "json")
    (made / "guide.md").write_text("Decode a thistle. See [the guide](other.md).")
    (made / "page.html").write_text('<a href="other.md">thistle</a>')
    (made / "page.rst").write_text("The :mod:`json` module.")
    return made


def run_demo(demo, folder, out, *arguments):
    return subprocess.run(
        [sys.executable, demo / "run.py", "--folder", folder, "--out", out, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # A broker that does not exist: the demo must never touch one that the environment names.
        env={**os.environ, "CARDOON_BROKER_URL": "redis://nowhere.invalid"},
    )


def row_of(output, what):
    """The line of the table on one attack."""
    [row] = [line for line in output.splitlines() if f" {what} " in line]
    return row


@pytest.mark.slow
def test_the_demo_does_its_job_and_repels_every_attack(folder, tmp_path):
    out = tmp_path / "out"

    done = run_demo(DEMO, folder, out, "--query", "decode thistle", "--workers", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout, "no colour where there is no terminal"
    assert "guide.md:1" in done.stdout
    assert re.search(r"\bre +#+ 3\n", done.stdout), "of the files that import it"
    for what, reason in REFUSED.items():
        row = row_of(done.stdout, what)
        assert row.strip().startswith("ok "), row
        assert f" {reason.value} " in row
        assert row.endswith(REFUSAL_EVENTS[reason])
    assert f"{len(REFUSED)} of {len(REFUSED)} attacks" in done.stdout
    assert not out.exists()


@pytest.mark.slow
def test_the_demo_fails_where_an_attack_succeeds(folder, tmp_path):
    demo, out = tmp_path / "demo", tmp_path / "out"
    shutil.copytree(DEMO, demo, ignore=shutil.ignore_patterns("out", "__pycache__"))
    source = (demo / "tasks.py").read_text()
    careless = source.replace(
        'Cardoon("tasks")', 'Cardoon("tasks", accept_content=["auth", "json"])'
    )
    (demo / "tasks.py").write_text(careless)

    done = run_demo(demo, folder, out)

    assert done.returncode == 1, done.stdout + done.stderr
    row = row_of(done.stdout, "the signature taken off")
    assert row.strip().startswith("FAIL")
    assert "NOT REFUSED" in row
    assert "FAIL  4 notes were asked for, and 5 were written" in done.stdout
    assert (out / ".cardoon" / "audit.jsonl").exists(), "what went wrong can be looked at"


def test_a_folder_in_use_is_left_alone(folder, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("do not delete")

    done = run_demo(DEMO, folder, precious)

    assert done.returncode == 1
    assert f"{precious} is not empty" in done.stderr
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]


ATTACK = attacks.Attack(what="a test", id="one", expected=Refusal.REPLAYED)
KEPT = {"id": "one", "reason": "replayed", "number": 7}
AUDITED = {"message": "one", "reason": "replayed", "event": "message.replay"}


def test_a_refusal_that_is_kept_and_audited_counts():
    [verdict] = attacks.judge([ATTACK], [KEPT], [AUDITED])

    assert verdict.repelled


@pytest.mark.parametrize(
    ("quarantine", "audit"),
    [
        ([], [AUDITED]),
        ([KEPT], []),
        ([KEPT], [{**AUDITED, "message": "two"}]),
        ([KEPT], [{**AUDITED, "event": "message.malformed"}]),
        ([{**KEPT, "reason": "malformed"}], [AUDITED]),
        ([{**KEPT, "id": "two"}], [AUDITED]),
    ],
)
def test_anything_less_counts_as_a_success_of_the_attacker(quarantine, audit):
    [verdict] = attacks.judge([ATTACK], quarantine, audit)

    assert not verdict.repelled


@pytest.mark.parametrize(
    ("path", "text", "links"),
    [
        ("a.py", "import os.path, re\nfrom json import x\nfrom . import y", {"os", "re", "json"}),
        ("a.py", "this is no Python", set()),
        ("a.html", "<a href='b.html#part'>b</a> <A HREF=\"c.html\">", {"b.html", "c.html"}),
        ("a.md", "[b](b.md) and https://example.org/x", {"b.md", "example.org"}),
        ("a.rst", ":mod:`json` and :func:`~os.walk`", {"json", "os.walk"}),
    ],
)
def test_links_are_found_in_each_kind_of_text(path, text, links):
    assert indexing.find_links(path, text) == links


def test_a_merged_index_answers_as_one_of_all_texts_would():
    texts = ["a thistle in the field", "the field", "thistle thistle", "nothing of that"]
    parts = [
        indexing.index_text(str(number), f"{number}.txt", text) for number, text in enumerate(texts)
    ]

    merged = indexing.merge_indexes([indexing.merge_indexes(parts[:2]), *parts[2:]])

    assert merged == indexing.merge_indexes(parts)
    hits = indexing.search_index(merged, "Thistle", 10)
    assert [hit.number for hit in hits] == ["2", "0"]
    assert indexing.search_index(merged, "cardoon", 10) == []


def test_the_excerpt_is_the_line_with_most_of_the_words():
    assert indexing.find_excerpt("one\ntwo one\n  one two three\n", "three two") == (
        3,
        "one two three",
    )
    assert indexing.find_excerpt("one\n", "four") == (1, "")
