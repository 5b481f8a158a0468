"""A real worker holds what runs against the baseline, not files alone."""

from __future__ import annotations

import contextlib
import importlib.machinery
import json
import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.e2e.conftest import Site
from tests.unit.integrity.tree import Tree

NATIVE = Path(
    sysconfig.get_config_var("DESTSHARED"), "xxlimited" + importlib.machinery.EXTENSION_SUFFIXES[0]
)
SHOP = f"""\
import ctypes, os
from pathlib import Path
from cardoon import Cardoon

HERE = Path(__file__).parent
ctypes.CDLL(str(HERE / {NATIVE.name!r}))
app = Cardoon("work")

@app.task(name="work.add")
def add(x, y):
    return x + y

@app.task(name="work.plant")
def plant():
    path = HERE / "planted.py"
    path.write_text("")
    import planted
    path.unlink()

@app.task(name="work.from_memory")
def from_memory():
    found = os.memfd_create("planted")
    os.write(found, (HERE / {NATIVE.name!r}).read_bytes())
    ctypes.CDLL(f"/proc/self/fd/{{found}}")
"""


class Deployment:
    """A worker with a baseline of contents alone: files that are put back are no drift."""

    def __init__(self, folder):
        self.site = Site(folder)
        self.tree = Tree(folder, attributes="content")
        self.tree.write("shop.py", SHOP)
        self.library = self.tree.root / NATIVE.name
        shutil.copy(NATIVE, self.library)
        self.tree.make(host="*")
        self.site.environment = {
            "CARDOON_INTEGRITY_BASELINE": str(self.tree.baseline),
            "CARDOON_INTEGRITY_KEY": str(self.tree.public),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(self.tree.root), os.getenv("PYTHONPATH", "")]),
        }

    def start(self, kind, **settings):
        self.site.environment |= {f"CARDOON_{k.upper()}": v for k, v in settings.items()}
        return self.site.start("-P", kind, "-c", "1", app="shop")

    def replace_library(self):
        """By one with the same content, as who puts the right file back does."""
        shutil.copy(NATIVE, self.tree.folder / "x")
        (self.tree.folder / "x").replace(self.library)

    def check(self):
        """Ask for a full check."""
        control = self.site.app.control
        [told] = control.check_integrity(reply=True, timeout=20, limit=1)
        return next(iter(told.values()))

    def found(self):
        path = self.site.folder / ".cardoon" / "audit.jsonl"
        events = map(json.loads, path.read_text().splitlines())
        return [one for one in events if one["event"] == "integrity.drift"]


@pytest.fixture
def deployment(tmp_path):
    with contextlib.ExitStack() as stack:
        made = Deployment(tmp_path)
        stack.callback(made.site.stop)
        yield made


@pytest.mark.parametrize(
    ("kind", "where"), [("prefork", "the process that imports the app"), ("solo", "the worker")]
)
def test_a_library_that_was_replaced_since_it_was_loaded_is_drift(deployment, kind, where):
    worker = deployment.start(kind, integrity_on_drift="stop")
    deployment.replace_library()
    assert deployment.found() == []

    assert "ok" in deployment.check()

    assert worker.wait(30) == 78
    [found, *_] = deployment.found()
    assert (found["kind"], found["path"]) == ("loaded", str(deployment.library))
    assert found["detail"].startswith(f"mapped, in {where}, content sha256:")


def test_a_module_that_was_loaded_and_taken_away_is_drift(deployment):
    deployment.start("solo")
    deployment.site.call("plant")

    deployment.check()

    deployment.site.until(deployment.found)
    [found] = deployment.found()
    assert (found["kind"], found["path"]) == ("loaded", str(deployment.tree.root / "planted.py"))
    assert found["detail"].startswith("module planted, in the worker, content no file -> ")


def test_what_a_task_process_has_loaded_is_on_record_and_stops_nothing(deployment):
    worker = deployment.start("prefork", integrity_on_drift="stop")
    deployment.site.call("from_memory")

    deployment.check()

    deployment.site.until(deployment.found)
    [found] = deployment.found()
    assert (found["kind"], found["path"]) == ("task_loaded", "/memfd:planted")
    assert deployment.site.call("add", 2, 3) == 5
    assert worker.poll() is None
    [told] = deployment.site.app.control.inspect(timeout=20, limit=1).stats().values()
    assert (told["integrity"]["result"], told["integrity"]["findings"]) == ("drift", 1)


def test_what_runs_is_not_looked_at_where_that_is_off(deployment):
    deployment.start("solo", integrity_loaded="off")
    deployment.site.call("plant")
    [before] = deployment.site.app.control.inspect(timeout=20, limit=1).stats().values()

    deployment.check()

    def is_checked_again():
        [told] = deployment.site.app.control.inspect(timeout=20, limit=1).stats().values()
        return told["integrity"]["checked_at"] > before["integrity"]["checked_at"]

    deployment.site.until(is_checked_again)
    assert deployment.found() == []


def test_a_worker_without_a_baseline_says_that_there_is_nothing_to_check(site):
    site.start("-c", "1")
    [told] = site.app.control.check_integrity(reply=True, timeout=20, limit=1)
    [answer] = told.values()
    assert answer == {"error": "this worker has no baseline; set integrity_baseline"}
