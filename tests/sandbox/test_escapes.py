"""Some of the attempts to get out of a sandbox, against a real worker. `make test-sandbox` tries all of them.

They run as whoever runs the tests, in a process of their own, at both levels, one after another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from escapes.catalogue import QUICK, all_attempts
from escapes.trial import Row
from tests.e2e.cell import readable_python

ROOT = Path(__file__).parent.parent.parent
LEVELS = ("confined", "strict")
SECONDS = 300
ONLY = ",".join(("use_files", *QUICK))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's means are Linux's")


def _reached(environment: dict[str, str]) -> str:
    """The highest level that this machine has."""
    code = "from cardoon.sandbox.probing import probe; print(probe().reached.text)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What came of each, by who tried it and its name."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    levels = LEVELS[: {"process": 0, "confined": 1, "strict": 2}[_reached(environment)]]
    if not levels:
        pytest.skip("this machine holds no task to anything")
    if os.getuid() == 0:
        readable_python()  # or skip
    told = tmp_path_factory.mktemp("escapes") / "rows.json"
    person = "root" if os.getuid() == 0 else "user"
    command = [sys.executable, "-m", "escapes", "--as", person, "--only", ONLY]
    command += ["--level", ",".join(levels), "--json", str(told)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert told.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found = [Row(**one) for one in json.loads(told.read_text())]
    assert len(found) == (len(QUICK) + 1) * (1 + len(levels)), (
        done.stdout[-3000:] + done.stderr[-3000:]
    )
    return {(one.level, one.attempt): one for one in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_it_gets_out_where_there_is_no_sandbox(rows, name):
    assert rows["", name].gained


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", QUICK)
def test_it_does_not_get_out_of_a_sandbox(rows, level, name):
    if (level, name) not in rows:
        pytest.skip(f"this machine has not what level {level!r} needs")
    row = rows[level, name]

    assert not row.gained, row.told
    assert not row.complaint


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_what_is_granted_can_be_used_there(rows, level):
    if (level, "use_files") not in rows:
        pytest.skip(f"this machine has not what level {level!r} needs")
    assert rows[level, "use_files"].gained, rows[level, "use_files"].told


def test_there_are_many_ways():
    tried = all_attempts()

    assert len(tried) >= 200
    assert len({one.category for one in tried}) >= 10


def test_what_may_fail_or_succeed_says_why():
    for one in all_attempts():
        assert set(one.open_in) <= {"process", "confined", "strict"}
        assert all(len(reason) > 20 for reason in one.open_in.values()), one.name
