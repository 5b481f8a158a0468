"""A real worker whose code was changed: what was changed does not run, in any pool."""

from __future__ import annotations

import compileall
import contextlib
import importlib.machinery
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import cardoon
from tests.e2e.cell import cell_site
from tests.e2e.conftest import Site
from tests.unit.integrity.tree import Tree, times_kept

SHOP = """\
import json, os
from cardoon import Cardoon
import prices

app = Cardoon("work")
if "CELL_SANDBOX" in os.environ:
    app.conf.worker_sandbox = json.loads(os.environ["CELL_SANDBOX"])

@app.task(name="work.add")
def add(x, y):
    return x + y + prices.NOTHING

@app.task(name="work.late")
def late():
    import late_prices
    return late_prices.NOTHING

@app.task(name="work.native")
def native():
    import xxlimited
    return xxlimited.__name__
"""
EVIL = "open({!r}, 'w').close()\nNOTHING = 0\n"
POOLS = ["prefork", "threads", "asyncio", "solo"]
NATIVE = Path(
    sysconfig.get_config_var("DESTSHARED"), "xxlimited" + importlib.machinery.EXTENSION_SUFFIXES[0]
)


class Deployment:
    """An app with a baseline of its files, which a worker holds its imports against."""

    def __init__(self, site, **rules):
        self.site = site
        self.tree = Tree(site.folder, **rules)
        self.root = self.tree.root
        self.trace = site.folder / "place" / "trace"
        self.trace.parent.mkdir(exist_ok=True)
        self.tree.write("shop.py", SHOP)
        self.tree.write("prices.py", "NOTHING = 0\n")
        self.tree.write("late_prices.py", "NOTHING = 0\n")
        compileall.compile_dir(self.root, quiet=2)
        self.tree.make(host="*")
        environment = self.site.environment
        paths = [str(self.root), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def write_evil(self, name):
        return self.tree.write(name, EVIL.format(str(self.trace)))

    def start(self, *arguments, mode="covered", wait=True):
        words = ("--integrity-imports", mode, "--integrity-baseline", str(self.tree.baseline))
        key = ("--integrity-key", str(self.tree.public))
        kinds = arguments or ("-P", "prefork", "-c", "1")
        asked = (*words, *key) if mode else ()
        return self.site.start(*kinds, *asked, app="shop", wait=wait)

    def events(self, name="integrity.import_blocked"):
        path = self.site.folder / ".cardoon" / "audit.jsonl"
        found = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
        return [one for one in found if one["event"] == name]

    def assert_refused(self, worker, name):
        """The worker has ended, has said why, and the code has not run."""
        assert worker.wait(60) == 78, self.site.log.read_text()
        [found] = self.events()
        assert found["path"] == str(self.root / name)
        assert found["refused"] is True
        assert f"{self.root / name} is not what the baseline says" in self.site.log.read_text()
        assert not self.trace.exists()


@pytest.fixture
def deployment(site):
    return Deployment(site)


@pytest.mark.parametrize("kind", [*POOLS, "isolated"])
def test_an_app_that_is_as_it_was_runs_in_every_pool(tmp_path, kind):
    with contextlib.ExitStack() as stack:
        if kind == "isolated":
            site = stack.enter_context(cell_site("process", start=False))
        else:
            site = Site(tmp_path)
            stack.callback(site.stop)
        deployment = Deployment(site)
        deployment.start("-P", kind, "-c", "1")

        assert site.call("late") == 0
        assert deployment.events() == []


@pytest.mark.parametrize("kind", ["prefork", "solo"])
def test_a_changed_module_does_not_run_and_the_worker_does_not_start(deployment, kind):
    deployment.write_evil("prices.py")
    shutil.rmtree(deployment.root / "__pycache__")

    worker = deployment.start("-P", kind, "-c", "1", wait=False)

    deployment.assert_refused(worker, "prices.py")
    [found] = deployment.events()
    assert found["module"] == "prices"
    assert found["expected"].startswith("sha256:")
    assert found["found"].startswith("sha256:")


def poison(deployment, name):
    """Other code in a compiled file, which says of its untouched source what is so."""
    source = deployment.root / f"{name}.py"
    path = Path(importlib.util.cache_from_source(str(source)))
    before = path.read_bytes()
    with times_kept(source):
        kept = source.read_bytes()
        deployment.write_evil(f"{name}.py")
        compileall.compile_file(source, quiet=2, force=True)
        evil = path.read_bytes()
        source.write_bytes(kept)
    path.write_bytes(before[:16] + evil[16:])
    return path


@pytest.mark.parametrize("kind", ["prefork", "solo"])
def test_a_poisoned_cache_does_not_run_though_its_source_is_untouched(deployment, kind):
    path = poison(deployment, "prices")

    worker = deployment.start("-P", kind, "-c", "1", wait=False)

    deployment.assert_refused(worker, str(path.relative_to(deployment.root)))


def test_the_same_cache_runs_where_nothing_is_guarded(deployment):
    poison(deployment, "prices")

    deployment.start(mode="off")

    assert deployment.trace.exists(), "else the test above shows nothing"


def test_a_cache_that_the_baseline_does_not_list_is_not_read(deployment):
    shutil.rmtree(deployment.root / "__pycache__")
    deployment.tree.make(serial=2, host="*")
    compileall.compile_dir(deployment.root, quiet=2, force=True)
    poison(deployment, "prices")

    deployment.start()

    assert not deployment.trace.exists()
    assert deployment.events() == []


def test_a_new_module_that_shadows_another_does_not_run(deployment):
    deployment.write_evil("prices/__init__.py")

    worker = deployment.start(wait=False)

    deployment.assert_refused(worker, "prices/__init__.py")


def test_a_new_file_that_python_runs_when_it_starts_keeps_the_worker_from_starting(deployment):
    deployment.tree.write("sitecustomize.py", "NOTHING = 0\n")

    worker = deployment.start(wait=False)

    deployment.assert_refused(worker, "sitecustomize.py")
    assert "it was loaded before imports were guarded" in deployment.site.log.read_text()


@pytest.mark.parametrize("kind", POOLS)
def test_a_module_that_was_changed_later_does_not_run_in_a_task(deployment, kind):
    deployment.start("-P", kind, "-c", "1")
    deployment.write_evil("late_prices.py")
    shutil.rmtree(deployment.root / "__pycache__")

    with pytest.raises(Exception, match=r"late_prices\.py is not what the baseline says"):
        deployment.site.call("late")

    deployment.site.until(deployment.events)
    assert deployment.events()[0]["module"] == "late_prices"
    assert not deployment.trace.exists()


def test_what_an_isolated_task_may_not_import_is_on_record(tmp_path):
    with cell_site("process", start=False) as site:
        deployment = Deployment(site)
        deployment.start("-P", "isolated", "-c", "1")
        deployment.write_evil("late_prices.py")
        shutil.rmtree(deployment.root / "__pycache__")

        with pytest.raises(Exception, match=r"late_prices\.py is not what the baseline says"):
            site.call("late")

        site.until(deployment.events)


@pytest.mark.skipif(not NATIVE.exists(), reason="this Python has no xxlimited to load")
def test_a_shared_library_that_was_swapped_is_not_loaded(deployment):
    place = deployment.root / NATIVE.name
    shutil.copy(NATIVE, place)
    deployment.tree.make(serial=2, host="*")
    deployment.start("-P", "prefork", "-c", "1")
    assert deployment.site.call("native") == "xxlimited"
    deployment.site.stop()

    place.unlink()
    place.write_bytes(NATIVE.read_bytes() + b"\0")
    deployment.start("-P", "prefork", "-c", "1")
    with pytest.raises(Exception, match="is not what the baseline says"):
        deployment.site.call("native")
    deployment.site.until(deployment.events)
    assert deployment.events()[0]["path"] == str(place)


def test_an_import_that_the_app_can_do_without_stops_the_worker_where_drift_does(deployment):
    deployment.tree.write(
        "shop.py", SHOP + "try:\n    import more_prices\nexcept ImportError:\n    pass\n"
    )
    compileall.compile_dir(deployment.root, quiet=2, force=True)
    deployment.tree.make(serial=2, host="*")
    deployment.write_evil("more_prices.py")
    deployment.site.environment["CARDOON_INTEGRITY_ON_DRIFT"] = "stop"

    worker = deployment.start(wait=False)

    assert worker.wait(60) == 78
    assert deployment.events()[0]["module"] == "more_prices"
    assert not deployment.trace.exists()


def test_what_is_only_recorded_runs(deployment):
    deployment.write_evil("prices.py")

    deployment.start(mode="record")

    assert deployment.trace.exists()
    [found] = deployment.events()
    assert found["module"] == "prices"
    assert found["refused"] is False


def test_an_app_cannot_ask_for_what_must_stand_before_it(deployment):
    deployment.tree.write("shop.py", SHOP + "app.conf.integrity_imports = 'refuse'\n")

    worker = deployment.start(mode="", wait=False)

    assert worker.wait(60) == 1
    assert "say it with --integrity-imports or CARDOON_INTEGRITY_IMPORTS" in (
        deployment.site.log.read_text()
    )


def test_a_baseline_that_nobody_has_signed_lets_no_worker_start(deployment):
    deployment.tree.make(serial=2, host="*", key=None)
    deployment.tree.baseline.with_name("host.baseline.sig").unlink()

    worker = deployment.start(wait=False)

    assert worker.wait(60) == 1
    assert "sign the baseline with" in deployment.site.log.read_text()


def test_a_worker_that_lets_in_nothing_else_runs_and_keeps_out_what_lies_elsewhere(site):
    deployment = Deployment(site, **whole_interpreter())
    (site.folder / "elsewhere.py").write_text(EVIL.format(str(deployment.trace)))
    deployment.start(mode="refuse")
    assert site.call("late") == 0
    assert deployment.events() == []
    site.stop()

    deployment.tree.write("shop.py", "import elsewhere\n" + SHOP)
    compileall.compile_dir(deployment.root, quiet=2, force=True)
    deployment.tree.make(serial=2, host="*")
    worker = deployment.start(mode="refuse", wait=False)

    assert worker.wait(60) == 78
    assert deployment.events()[0]["expected"] == "no file outside its roots"
    assert not deployment.trace.exists()


def whole_interpreter():
    """Rules for what a worker imports besides its app: the library, Cardoon, and the packages that it needs."""
    program = (
        "import sys, cardoon.cli.worker, cardoon.worker.worker, cardoon.worker.zygote\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    packages = Path(sysconfig.get_path("purelib"))
    needed = [
        str(one)
        for one in packages.iterdir()
        if one.name.partition(".")[0] in done.stdout.split() or one.suffix == ".pth"
    ]
    roots = (sysconfig.get_path("stdlib"), str(Path(cardoon.__file__).parent), *needed)
    return {"more": roots, "exclude": ("**/site-packages", "**/test", "**/idlelib")}
