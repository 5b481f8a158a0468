"""What runs is held against the baseline: modules, and files that processes have mapped."""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from cardoon.integrity.findings import Kind
from cardoon.integrity.running import Mapped, parse_maps
from tests.unit.integrity.tree import Tree

NATIVE = Path(
    sysconfig.get_config_var("DESTSHARED"), "xxlimited" + importlib.machinery.EXTENSION_SUFFIXES[0]
)
PROGRAM = """\
import ctypes, importlib, os, shutil, sys
from pathlib import Path
from cardoon.integrity.baseline import open_baseline
from cardoon.integrity.findings import Kind
from cardoon.integrity.running import Runner, Scope, find_running
baseline, scope, root, *pids = sys.argv[1:]
root = Path(root)
sys.dont_write_bytecode = True
sys.path.insert(0, str(root))
def look():
    runners = [Runner("a task process", int(pid), Kind.TASK_LOADED) for pid in pids]
    with open_baseline(Path(baseline)) as opened:
        for one in find_running(opened, Scope(scope), runners):
            [change] = one.changes
            print(one.kind, Path(one.path).name, one.where, change.old[:9], change.new[:9], sep="|")
"""
SLEEPER = """\
import ctypes, sys
ctypes.CDLL(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    (made.root / "pkg.py").unlink()
    shutil.copy(NATIVE, made.root / NATIVE.name)
    made.make()
    return made


def run(tree, lines, *, scope="covered", pids=()):
    """What is found of a program, line by line."""
    words = [str(tree.baseline), scope, str(tree.root), *map(str, pids)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + lines + "\nlook()", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@contextlib.contextmanager
def sleeper(library, *before):
    """A process that has loaded a library."""
    words = [*before, sys.executable, "-c", SLEEPER, str(library)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()


def test_what_runs_as_the_baseline_says_is_no_finding(tree):
    assert run(tree, "import tasks, pkg.more, xxlimited") == []


def test_a_module_that_was_loaded_and_taken_away_is_found(tree):
    tree.write("evil.py", "")

    told = run(tree, "import evil; (root / 'evil.py').unlink()")

    assert told == ["loaded|evil.py|module evil, in the worker|no file|a file th"]


def test_a_module_that_the_baseline_does_not_list_is_found(tree):
    tree.write("evil.py", "")
    assert run(tree, "import evil") == [
        "loaded|evil.py|module evil, in the worker|no file|sha256:e3"
    ]


def test_a_module_whose_file_is_another_now_is_found(tree):
    [told] = run(tree, "import tasks; (root / 'tasks.py').write_text('evil')")
    assert told.startswith("loaded|tasks.py|module tasks, in the worker|sha256:")


@pytest.mark.parametrize("how", ["removed", "replaced by an equal one"])
def test_a_library_whose_file_is_gone_since_it_was_loaded_is_found(tree, how):
    name = NATIVE.name
    change = "(root / name).unlink()"
    if how != "removed":
        change = "shutil.copy(root / name, root / 'x'); os.replace(root / 'x', root / name)"

    told = run(tree, f"name = {name!r}; ctypes.CDLL(str(root / name)); {change}")

    assert [one.rpartition("|")[2] for one in told] == ["a file th"]
    assert told[0].startswith(f"loaded|{name}|mapped, in the worker|sha256:")


def test_a_library_that_the_baseline_does_not_list_is_found(tree):
    shutil.copy(NATIVE, tree.root / "evil.so")
    [told] = run(tree, "ctypes.CDLL(str(root / 'evil.so'))")
    assert told.startswith("loaded|evil.so|mapped, in the worker|no file|sha256:")


@pytest.mark.parametrize(("scope", "count"), [("off", 0), ("covered", 0), ("all", 1)])
def test_a_library_elsewhere_is_found_where_all_has_to_be_listed(tree, scope, count):
    elsewhere = tree.folder / "evil.so"
    shutil.copy(NATIVE, elsewhere)

    told = run(tree, f"ctypes.CDLL({str(elsewhere)!r})", scope=scope)

    assert sum("|evil.so|" in one for one in told) == count


def test_a_library_that_never_had_a_file_is_found_wherever_files_may_lie(tree):
    load = (
        "found = os.memfd_create('evil')\n"
        f"os.write(found, Path({str(NATIVE)!r}).read_bytes())\n"
        "ctypes.CDLL(f'/proc/self/fd/{found}')"
    )

    [told] = run(tree, load)

    assert told == "loaded|memfd:evil|mapped, in the worker|no file|a file th"
    assert run(tree, load, scope="off") == []


def test_another_process_is_looked_at_and_what_is_found_there_has_a_kind_of_its_own(tree):
    library = tree.root / NATIVE.name
    with sleeper(library) as pid:
        assert run(tree, "", pids=[pid]) == []
        library.unlink()

        [told] = run(tree, "", pids=[pid])

    assert told.startswith(f"{Kind.TASK_LOADED}|{NATIVE.name}|mapped, in a task process|sha256:")


def test_a_process_that_has_ended_is_passed_over(tree):
    with sleeper(tree.root / NATIVE.name) as pid:
        pass
    assert run(tree, "", pids=[pid]) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts of its own are for root")
def test_a_process_with_mounts_of_its_own_is_passed_over_for_its_paths_mean_something_else(tree):
    library = tree.root / NATIVE.name
    with sleeper(library, "unshare", "--mount") as pid:
        library.unlink()
        assert run(tree, "", pids=[pid]) == []


def test_mappings_are_read_as_the_kernel_writes_them():
    lines = (
        b"55d0-55d2 r-xp 00000000 fe:00 11                         /usr/bin/python3\n"
        b"7f00-7f10 r--p 00000000 fe:00 12                         /usr/lib/data.so\n"
        b"7f10-7f20 r-xp 00001000 fe:00 13                         /usr/lib/gone.so (deleted)\n"
        b"7f20-7f30 rwxs 00001000 fe:00 14                         /srv/odd (deleted)\n"
        b"7f30-7f40 r-xp 00001000 fe:00 15                         /srv/two\\012lines \n"
        b"7f40-7f50 r-xp 00000000 00:00 0 \n"
        b"7f50-7f60 r-xp 00000000 00:00 0                          [vdso]\n"
        b"7f60-7f70 --xp 00000000 00:01 16                         /memfd:evil (deleted)\n"
    )

    found = parse_maps(
        lines, is_named=lambda path, inode: (path, inode) == ("/srv/odd (deleted)", 14)
    )

    assert found == {
        Mapped("/usr/bin/python3", is_gone=False),
        Mapped("/usr/lib/gone.so", is_gone=True),
        Mapped("/srv/odd (deleted)", is_gone=False),
        Mapped("/srv/two\nlines ", is_gone=False),
        Mapped("/memfd:evil", is_gone=True),
    }
