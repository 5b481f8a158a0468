"""The fuzzer as a test: the same messages each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_thousands_of_changed_messages_end_in_refusals():
    script = Path(__file__).with_name("gate_fuzz.py")

    # In a process of its own, because its memory is measured.
    finished = subprocess.run(
        [sys.executable, str(script), "--count", "25000", "--seed", "0"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    for reason in ("accepted", "bad-signature", "bad-claims", "undecodable", "unknown-signer"):
        assert reason in finished.stdout
