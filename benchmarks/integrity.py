"""What a check of files costs beside AIDE on the same tree, and whether both find every change.

python -m benchmarks integrity --files 50000

AIDE is measured where it is installed (`apt-get install aide`). Each run is a process of its own; the best of
`--reps` counts, and the most memory of ours. Attributes are alike: mode, owner, group, size, times, inode, links,
extended attributes and SHA-256.
"""

from __future__ import annotations

import argparse
import os
import py_compile
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from benchmarks.report import align

MOST_SECONDS = 1.0
"""Of AIDE's, for a check."""
MOST_MEGABYTES = 32.0
_IN_A_FOLDER = 60
_TIMEOUT = 900.0
_HEAD = ("tool", "init s", "check s", "incremental s", "CPU s of check", "max RSS MB", "found")
_PROGRAM = """\
import sys
from pathlib import Path
from cardoon.integrity.baseline import open_baseline, write_baseline
from cardoon.integrity.comparison import Comparison
from cardoon.integrity.manifest import Head
from cardoon.integrity.rules import Rules
from cardoon.integrity.walk import Walk
how, root, path = sys.argv[1:]
if how == "init":
    rules = Rules((root,))
    write_baseline(Path(path), Head(1, "*", "", rules), Walk(rules))
else:
    with open_baseline(Path(path)) as opened:
        for one in Comparison(opened.head.rules, opened.lines(), quick=how == "incremental"):
            print(one.shown_path)
with open("/proc/self/status") as status:
    print(*[line for line in status if line.startswith("VmHWM")])
"""
_AIDE = """\
database_in=file:{folder}/aide.db
database_out=file:{folder}/aide.new
gzip_dbout=no
num_workers={workers}
report_url=stdout
report_level=list_entries
All = p+u+g+s+m+c+i+n+l+ftype+acl+xattrs+caps+e2fsattrs+sha256
{root} All
"""


class Cost(NamedTuple):
    """Of one process: seconds, seconds of the processor, megabytes, and what it printed."""

    seconds: float
    cpu: float
    memory: float
    told: str


def make_tree(root: Path, files: int) -> None:
    """Files in folders of sixty, as large as those of Python packages: most are small, a few are not."""
    draw = random.Random(1)
    block = draw.randbytes(4 << 20)
    for number in range(files):
        folder = root / f"{number // 3600:03}" / f"{number // _IN_A_FOLDER:05}"
        if number % _IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        size = min(int(draw.lognormvariate(7.6, 1.9)), 4 << 20)
        start = draw.randrange(len(block) - size) if size < len(block) else 0
        (folder / f"module_{number}.py").write_bytes(block[start : start + size])


def run(*command: str) -> Cost:
    """Run it to its end; exit codes say what was found, and are not looked at."""
    before = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_environment()
        )
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0  # it has been waited for
        seconds = time.perf_counter() - before
        output.seek(0)
        told = output.read()
        return Cost(seconds, used.ru_utime + used.ru_stime, _megabytes(told), told)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _megabytes(told: str) -> float:
    """The peak that a process says of itself: the kernel's count for its parent includes that parent's memory."""
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    return int(found[1]) / 1024 if found else 0.0


class Ours:
    """Cardoon, in a fresh interpreter."""

    name = "cardoon"

    def __init__(self, folder: Path, root: Path) -> None:
        self._words = str(root), str(folder / "ours.baseline")

    def init(self) -> Cost:
        return run(sys.executable, "-c", _PROGRAM, "init", *self._words)

    def check(self) -> Cost:
        return run(sys.executable, "-c", _PROGRAM, "check", *self._words)

    def incremental(self) -> Cost | None:
        return run(sys.executable, "-c", _PROGRAM, "incremental", *self._words)


class Aide:
    """AIDE 0.18 or later, with the same attributes and SHA-256, and a worker for each core."""

    name = "aide"

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._config = folder / "aide.conf"
        workers = os.cpu_count() or 1
        self._config.write_text(_AIDE.format(folder=folder, root=root, workers=workers))

    def init(self) -> Cost:
        cost = run("aide", f"--config={self._config}", "--init")
        (self._folder / "aide.new").replace(self._folder / "aide.db")
        return cost

    def check(self) -> Cost:
        return run("aide", f"--config={self._config}", "--check")

    def incremental(self) -> Cost | None:
        return None


def main(options: argparse.Namespace) -> int:
    """Measure, print a table, and judge."""
    print("  ".join(f"{name} {value}" for name, value in machine.describe(options.dir).items()))
    with tempfile.TemporaryDirectory(dir=options.dir) as made:
        folder = Path(made)
        root = folder / "tree"
        make_tree(root, options.files)
        tools: list[Ours | Aide] = [Ours(folder, root)]
        if shutil.which("aide"):
            tools.append(Aide(folder, root))
        rows, checks = [], {}
        for tool in tools:
            costs = [(tool.init(), tool.check(), tool.incremental()) for _ in range(options.reps)]
            init, check = (min(one[step].seconds for one in costs) for step in (0, 1))  # type: ignore[union-attr]
            quick = min((one[2].seconds for one in costs if one[2]), default=None)
            cpu = min(one[1].cpu for one in costs)
            memory = max(cost.memory for one in costs for cost in one if cost)
            checks[tool.name] = check, memory
            found = mutate_all(tool, folder)
            shown = "-" if quick is None else f"{quick:.2f}"
            rows.append(
                (
                    tool.name,
                    f"{init:.2f}",
                    f"{check:.2f}",
                    shown,
                    f"{cpu:.2f}",
                    f"{memory:.0f}" if memory else "-",
                    found,
                )
            )
    print(align([_HEAD, *rows]))
    return judge(checks, rows[0][-1])


def judge(checks: dict[str, tuple[float, float]], found: str) -> int:
    """Say what is within its budget; 1 if anything is not."""
    seconds, memory = checks["cardoon"]
    verdicts = [memory <= MOST_MEGABYTES, found.split(maxsplit=1)[0] == found.split()[2]]
    print(f"memory {memory:.0f} MB of {MOST_MEGABYTES:.0f}; changes found: {found}")
    if "aide" in checks:
        ratio = seconds / checks["aide"][0]
        verdicts.append(ratio <= MOST_SECONDS)
        print(f"a check takes {ratio:.2f} of AIDE's time, at most {MOST_SECONDS:.1f}")
    return int(not all(verdicts))


def mutate_all(tool: Ours | Aide, folder: Path) -> str:
    """Make each change on a small tree of its own; how many were found, and which were not."""
    missed = []
    for number, (name, mutate) in enumerate(MUTATIONS.items()):
        root = folder / f"{tool.name}-{number}"
        prepare(root)
        small = type(tool)(folder, root)
        small.init()
        mutate(root)
        if str(root) not in small.check().told:
            missed.append(name)
        subprocess.run(["chattr", "-i", str(root / "a.py")], check=False, capture_output=True)
    told = f"{len(MUTATIONS) - len(missed)} of {len(MUTATIONS)}"
    return told + (f", not {', '.join(missed)}" if missed else "")


def prepare(root: Path) -> None:
    """A few files of each kind."""
    (root / "empty").mkdir(parents=True)
    for name in ("a.py", "b.py", "c.py"):
        (root / name).write_text(f"name = {name!r}\n")
    (root / "log.txt").write_text("one\n")
    (root / "link").symlink_to("a.py")
    py_compile.compile(str(root / "a.py"), doraise=True)


def _keeping_times(change: Callable[[Path], object], name: str) -> Callable[[Path], None]:
    def mutate(root: Path) -> None:
        status = (root / name).stat()
        change(root)
        os.utime(root / name, ns=(status.st_atime_ns, status.st_mtime_ns))

    return mutate


def _poison(root: Path) -> None:
    """Another code in the compiled file, which says of the source what is so."""
    [path] = (root / "__pycache__").iterdir()
    other = root.parent / "other.py"
    other.write_text("name = 'b.py'\n")
    head = path.read_bytes()[:16]
    made = Path(
        py_compile.compile(str(other), cfile=str(root.parent / "other.pyc"), doraise=True) or ""
    )
    path.write_bytes(head + made.read_bytes()[16:])


def _swap(root: Path) -> None:
    (root / "b.py").rename(root / "x")
    (root / "c.py").rename(root / "b.py")
    (root / "x").rename(root / "c.py")


def _copy(root: Path) -> None:
    shutil.copy2(root / "a.py", root / "x")
    (root / "x").rename(root / "a.py")


def _relink(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("b.py")


def _to_link(root: Path) -> None:
    (root / "a.py").unlink()
    (root / "a.py").symlink_to("b.py")


def _acl(root: Path) -> None:
    rows = ((1, 6, -1), (2, 6, 1234), (4, 4, -1), (16, 6, -1), (32, 4, -1))
    told = b"".join(
        a.to_bytes(2, "little") + b.to_bytes(2, "little") + (c % 2**32).to_bytes(4, "little")
        for a, b, c in rows
    )
    os.setxattr(root / "a.py", "system.posix_acl_access", (2).to_bytes(4, "little") + told)


def _capability(root: Path) -> None:
    told = (0x02000001).to_bytes(4, "little") + (1 << 13).to_bytes(4, "little") + bytes(12)
    os.setxattr(root / "a.py", "security.capability", told)


def _grow(root: Path) -> None:
    with (root / "log.txt").open("a") as file:
        file.write("two\n")


def _flag(root: Path) -> None:
    subprocess.run(["chattr", "+i", str(root / "a.py")], check=False)


def _link_elsewhere(root: Path) -> None:
    os.link(root / "a.py", root.parent / f"{root.name}.link")


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "same size, times kept": _keeping_times(
        lambda root: (root / "a.py").write_text("name = 'x.py'\n"), "a.py"
    ),
    "grown": lambda root: (root / "a.py").write_text("name = 'a.py'\nmore = 1\n"),
    "mode": lambda root: (root / "a.py").chmod(0o600),
    "setuid": lambda root: (root / "a.py").chmod(0o4755),
    "owner": lambda root: os.chown(root / "a.py", 1234, 1234),
    "mtime only": lambda root: os.utime(root / "a.py", (1, 1)),
    "identical copy": _copy,
    "new file, times of the folder kept": _keeping_times(
        lambda root: (root / "empty/new").write_text(""), "empty"
    ),
    "hidden .pth": lambda root: (root / ".x.pth").write_text("import os"),
    "extra .pth": lambda root: (root / "x.pth").write_text("import os"),
    "deleted": lambda root: (root / "c.py").unlink(),
    "link led elsewhere": _relink,
    "file to link": _to_link,
    "extra hard link": _link_elsewhere,
    "access list": _acl,
    "mode of a folder": lambda root: (root / "empty").chmod(0o777),
    "pipe": lambda root: os.mkfifo(root / "pipe"),
    "log grown": _grow,
    "log cut": lambda root: (root / "log.txt").write_text(""),
    "two swapped": _swap,
    "user attribute": lambda root: os.setxattr(root / "a.py", "user.x", b"1"),
    "capability": _capability,
    "chattr +i": _flag,
    "poisoned .pyc": _poison,
}
