"""Whatever finds a module, its bytes are held against the baseline before they run."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from cardoon.integrity.baseline import open_baseline
from cardoon.integrity.importing import Blocked
from cardoon.integrity.listing import read_listing
from cardoon.worker.import_guard import read_blocked, write_blocked
from cardoon.worker.ipc import Frame, FrameType, IpcError
from tests.unit.integrity.tree import Tree

PROGRAM = """\
import sys, importlib, importlib.util
from pathlib import Path
from cardoon.integrity.baseline import open_baseline
from cardoon.integrity.importing import ImportGuard, Mode
from cardoon.integrity.listing import read_listing
baseline, mode, root = sys.argv[1:]
with open_baseline(Path(baseline)) as opened:
    guard = ImportGuard(read_listing(opened), Mode(mode))
guard.on_blocked = lambda found: print("blocked", found.module, found.expected)
guard.install()
sys.path.insert(0, root)
"""


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    (made.root / "pkg.py").unlink()
    return made


def run(tree, lines, *, mode="covered"):
    """What a program prints, and the last line of its complaint, in a process with a guard."""
    words = [str(tree.baseline), mode, str(tree.root)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + lines, *words], capture_output=True, text=True, check=False
    )
    return (done.stdout + "".join(done.stderr.splitlines()[-1:])).strip()


def test_a_module_that_is_listed_is_imported(tree):
    tree.make()
    assert run(tree, "import tasks, pkg.more; print(tasks.add(1, 2))") == "3"


IMPORTS = {
    "import": "import tasks",
    "by its path": "s = importlib.util.spec_from_file_location('tasks', root + '/tasks.py')\n"
    "s.loader.exec_module(importlib.util.module_from_spec(s))",
    "a loader of its own": "from importlib.machinery import SourceFileLoader as L\n"
    "class Mine(L): pass\n"
    "Mine('tasks', root + '/tasks.py').load_module()",
    "lazily": "s = importlib.util.find_spec('tasks'); s.loader = importlib.util.LazyLoader(s.loader)\n"
    "m = importlib.util.module_from_spec(s); s.loader.exec_module(m); m.add",
}


@pytest.mark.parametrize("how", IMPORTS)
def test_a_changed_module_is_not_imported_whoever_finds_it(tree, how):
    tree.make()
    tree.write("tasks.py", "print('evil')")

    told = run(tree, IMPORTS[how])

    assert told.startswith("blocked tasks sha256:")
    assert "BlockedImportError: module tasks: " in told
    assert "evil" not in told


@pytest.mark.parametrize("swap", ["the file that a link led to", "the link"])
def test_a_module_that_is_a_link_is_what_the_baseline_says_of_the_link(tree, swap):
    (tree.root / "linked.py").symlink_to("tasks.py")
    tree.make()
    assert run(tree, "import linked; print(linked.add(1, 2))") == "3"

    if swap == "the link":
        (tree.root / "linked.py").unlink()
        (tree.root / "linked.py").symlink_to("pkg/more.py")
    else:
        tree.write("tasks.py", "print('evil')")

    assert run(tree, "import linked").startswith("blocked linked sha256:")


def test_a_folder_that_is_reached_by_a_link_above_the_roots_is_covered(tree):
    tree.make()
    current = tree.folder / "current"
    current.symlink_to("app")
    import_it = f"sys.path[0] = {str(current)!r}; import tasks; print(tasks.add(1, 2))"
    assert run(tree, import_it) == "3"

    tree.write("tasks.py", "print('evil')")

    assert run(tree, import_it).startswith("blocked tasks sha256:")


def test_a_folder_that_a_new_link_brings_in_is_not_listed(tree):
    outside = tree.folder / "outside"
    outside.mkdir()
    (outside / "evil.py").write_text("print('evil')")
    tree.make()
    (tree.root / "brought").symlink_to(outside)

    assert run(tree, "import brought.evil").startswith("blocked brought.evil no file")


def test_a_file_without_source_is_held_against_the_baseline(tree):
    tree.write("bare.py", "print('good')")
    compileall.compile_file(tree.root / "bare.py", quiet=2, legacy=True, force=True)
    (tree.root / "bare.py").unlink()
    tree.make()
    assert run(tree, "import bare") == "good"

    tree.write("bare.py", "print('evil')")
    compileall.compile_file(tree.root / "bare.py", quiet=2, legacy=True, force=True)
    (tree.root / "bare.py").unlink()

    assert run(tree, "import bare").startswith("blocked bare sha256:")


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_archive_is_held_against_the_baseline(tree, is_listed):
    path = tree.root / "more.zip"
    import_it = "sys.path.insert(0, root + '/more.zip'); import packed"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("packed.py", "print('good')")
    if is_listed:
        tree.make()
        assert run(tree, import_it) == "good"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("packed.py", "print('evil')")
    else:
        path.rename(tree.folder / "more.zip")
        tree.make()
        (tree.folder / "more.zip").rename(path)

    told = run(tree, import_it)

    assert told.startswith("blocked packed sha256:" if is_listed else "blocked packed no file")
    assert "evil" not in told


@pytest.mark.parametrize(
    ("mode", "told"),
    [("record", "out"), ("covered", "out"), ("refuse", "blocked out no file outside its roots")],
)
def test_what_lies_elsewhere_is_refused_where_that_is_asked_for(tree, mode, told):
    (tree.folder / "out.py").write_text("print('out')")
    tree.make()

    assert run(tree, f"sys.path.insert(0, {str(tree.folder)!r}); import out", mode=mode).startswith(
        told
    )


def test_what_is_recorded_is_imported(tree):
    tree.make()
    tree.write("tasks.py", "print('changed')")

    told = run(tree, "import tasks", mode="record")

    assert told.startswith("blocked tasks sha256:")
    assert told.endswith("changed")


def test_no_compiled_files_are_written(tree):
    tree.make()
    run(tree, "import tasks")
    assert not (tree.root / "__pycache__").exists()


def test_a_resource_of_a_package_is_nobody_s_code(tree):
    tree.make()
    tree.write("pkg/data.txt", "anything")
    read = "import pkgutil, pkg; print(pkgutil.get_data('pkg', 'data.txt').decode())"
    assert run(tree, read) == "anything"


SWAPS = {
    "put in its place": "import os; os.replace(root + '/other.so', path)",
    "written into it": "open(path, 'ab').write(b'x')",
}


@pytest.mark.parametrize("swap", SWAPS)
def test_a_library_that_is_swapped_while_it_is_loaded_is_told(tree, swap):
    import _ctypes  # noqa: PLC0415 - a file that can be loaded, where this Python has it

    native = getattr(_ctypes, "__file__", None)
    if native is None:
        pytest.skip("this Python has no shared libraries to load")
    shutil.copy(native, tree.root / "lib.so")
    shutil.copy(native, tree.root / "other.so")
    tree.make()
    load = (
        "import ctypes\npath = root + '/lib.so'\nwith guard.hold('lib', path):\n    {}\n"
        "    ctypes.CDLL(path)\nprint('well')"
    )

    assert run(tree, load.format("pass")) == "well"
    assert "blocked lib" in run(tree, load.format(SWAPS[swap]))


def test_a_name_with_a_quote_in_it_is_not_listed_and_none_is_taken_for_another(tree):
    tree.write('a",b.py', "")
    tree.write("ü.py", "")
    tree.make()
    with open_baseline(tree.baseline) as opened:
        listing = read_listing(opened)

    assert not listing.ask(str(tree.root / 'a",b.py')).digest
    assert not listing.ask(str(tree.root / "a")).digest
    assert listing.ask(str(tree.root / "ü.py")).digest
    assert listing.ask(os.path.join(tree.root, "pkg", "..", "tasks.py")).digest  # noqa: PTH118
    assert listing.ask(str(tree.root)).is_covered
    assert not listing.ask(str(tree.root) + "2/tasks.py").is_covered


def test_what_a_process_tells_comes_through_and_nonsense_does_not():
    found = Blocked("m", "/p", "sha256:1", "sha256:2")
    assert read_blocked(Frame(FrameType.BLOCKED, write_blocked(found))) == found
    with pytest.raises(IpcError, match="path is not str"):
        read_blocked(Frame(FrameType.BLOCKED, {**write_blocked(found), "path": 1}))
