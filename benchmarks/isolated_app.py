"""The app whose task is measured in a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cardoon import Cardoon

FOLDER, SANDBOX = "BENCH_FOLDER", "BENCH_SANDBOX"


def noop() -> int:
    """Do nothing."""
    return 1


def make_app(folder: Path) -> Cardoon:
    """The app, with its files in a folder."""
    made = Cardoon("benchmarks.isolated_app", set_as_current=False)
    made.conf.state_directory = str(folder / ".cardoon")
    made.task(name="benchmarks.isolated_app.noop")(noop)
    return made


app = make_app(Path(os.environ.get(FOLDER, ".")))
if sandbox := os.environ.get(SANDBOX):
    app.conf.worker_sandbox = json.loads(sandbox)
