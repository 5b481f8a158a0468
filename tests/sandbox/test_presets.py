"""Ordinary work of the standard library works under each preset, in each Python that is here."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.children import NOBODY, USERS, give

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")

PROFILES = {
    "compute": {},
    "compute, strict": {"level": "strict"},
    "net, strict": {"level": "strict", "syscalls": "net", "network": "loopback"},
    "subprocess": {"syscalls": "subprocess", "processes": 20},
    "subprocess, strict": {"level": "strict", "syscalls": "subprocess", "processes": 20},
}
WIDEST = ("net, strict", "subprocess")
"""Each does the work of `compute` as well."""


@functools.cache
def pythons() -> dict[str, str]:
    """An interpreter for each version that is installed; this one, the one on PATH, pyenv's."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = {"this": sys.executable}
    for version in VERSIONS:
        for path in (
            shutil.which(f"python{version}", path="/usr/bin:/usr/local/bin"),
            *sorted(kept.glob(f"{version}.*/bin/python{version}")),
        ):
            if path is not None and can_run(str(path), os.geteuid()):
                found.setdefault(version, str(path))
    return found


@functools.cache
def can_run(python: str, uid: int) -> bool:
    """Whether that user can run that interpreter with its own library."""
    become = {"user": uid, "group": uid, "extra_groups": []} if uid != os.geteuid() else {}
    try:
        tried = subprocess.run(
            [python, "-c", "import zipfile"], capture_output=True, cwd="/", check=False, **become
        )
    except PermissionError:
        return False
    return tried.returncode == 0


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize(
    ("name", "version"),
    [(name, "this") for name in PROFILES]
    + [(name, version) for name in WIDEST for version in VERSIONS],
)
def test_the_standard_library_works(name: str, version: str, uid: int, reachable: Path) -> None:
    python = pythons().get(version)
    if python is None:
        pytest.skip(f"no Python {version} is installed")
    if not can_run(python, uid):
        pytest.skip(f"user {uid} may not read {python}")
    folder = reachable / "work"
    folder.mkdir()
    give(folder, uid)
    reads = ["/bin", "/usr/bin"] if "subprocess" in name else []
    profile = {"write": [str(folder)], "memory": "1GiB", "read": reads, **PROFILES[name]}

    done = subprocess.run(
        [
            *(python, "-W", "error", "-m", "tests.sandbox.library_work"),
            *(json.dumps(profile), str(folder), str(uid)),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == {}, "\n".join(found["failed"].values())
    assert found["done"] >= 22
    assert done.stderr == ""


def test_nobody_can_run_some_python() -> None:
    """Else the tests above would all be skipped for an ordinary user."""
    assert any(can_run(python, NOBODY) for python in pythons().values()) or os.geteuid() != 0
