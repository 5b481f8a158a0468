"""What tests fork and do not end is ended, and says of which test it was."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_fork_that_leaves_its_test_ends_there_and_is_named(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
        import os
        import pytest

        def end_of(child):
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        def test_returns():
            if child := os.fork():
                assert end_of(child) == 70

        def test_raises():
            if not (child := os.fork()):
                raise RuntimeError("in the child")
            assert end_of(child) == 70

        @pytest.fixture
        def forking():
            child = os.fork()
            return child and end_of(child)

        def test_in_a_fixture(forking):
            assert forking == 70
        """)
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "tests.forks", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, "3 passed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert done.stderr.count("a fork of this test did not end itself") == 3
    assert "RuntimeError: in the child" in done.stderr
    assert "test_raises" in done.stderr
    assert "fixture forking" in done.stderr
