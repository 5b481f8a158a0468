"""Sites whose tasks are isolated: what such tasks may reach, and an interpreter that they can read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import cardoon
from tests.e2e.sites import Site

NOBODY = 65534


@contextmanager
def cell_site(level: str, *arguments: str, start: bool = True, **profile) -> Iterator[Site]:
    """A worker whose tasks have a place where they may write, `site.place`."""
    folder = Path(tempfile.mkdtemp(prefix="cell-"))
    folder.chmod(0o755)
    place = folder / "place"
    place.mkdir()
    place.chmod(0o777)
    made = Site(folder)
    made.place = place
    made.kind = "isolated"
    made.arguments = ("-P", "isolated", "-c", "2", *arguments)
    if level != "process":
        profile = {"write": [str(place)], **profile}
    made.environment = {"CELL_SANDBOX": json.dumps({"level": level, **profile})}
    if level != "strict" and os.getuid() == 0:
        made.python, made.environment["PYTHONPATH"] = readable_python()
    try:
        if start:
            made.start(*made.arguments, app="cells")
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def readable_python() -> tuple[str, str]:
    """An interpreter that tasks of a root worker can read, who are nobody, and its path of modules."""
    packages = sysconfig.get_path("purelib")
    source = str(Path(cardoon.__file__).parents[1])
    version = ".".join(map(str, sys.version_info[:2]))
    for python in (sys.executable, f"/usr/bin/python{version}"):
        if can_run(python):
            return python, os.pathsep.join((source, packages))
    pytest.skip(f"uid {NOBODY} can read neither {sys.executable} nor /usr/bin/python{version}")


def can_run(python: str) -> bool:
    """Whether nobody can run that interpreter."""
    try:
        done = subprocess.run(
            [python, "-c", "import zipfile"],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
