"""The scene: what is planted to be stolen, reached, written to and killed, and how it is looked after."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from escapes.census import Census, end_all
from escapes.ears import Ears
from escapes.world import World

MIB = 1 << 20
_KINDS = ("key", "decoy", "opened", "store", "dotenv", "later", "environ", "memory")
_PLANTED = ("module", "readable", "outside_file")
_NOBODYS = 12345
_TOKEN_LENGTH = 11
_VICTIM_FILES = 500
LIMITS = {
    "memory": 64 * MIB,
    "kernel_memory": 24 * MIB,
    "cpu": 1,
    "processes": 0,
    "processes_granted": 8,
    "threads": 16,
    "files": 64,
    "file_size": MIB,
    "disk": 8 * MIB,
    "tmp": 4 * MIB,
    "names": 4_000,
    "locked": 16 * MIB,
    "output": MIB,
    "log": 64 * 1024,
}
"""What profiles say, and what may be held outside of what they count: buffers, a granted directory, names
of files, locked memory."""


def new_secret(kind: str) -> str:
    """A text that is nowhere else."""
    return f"SECRET-{kind}-{secrets.token_hex(8)}"


def prepare(base: Path) -> Path:
    """What only root can plant, if this is root; returns where a scene is to be."""
    base.chmod(0o755)
    foreign = base / "neighbour"
    foreign.mkdir(mode=0o755)
    diary = foreign / "diary.txt"
    diary.write_text(new_secret("neighbour"))
    diary.chmod(0o644)
    scene = base / "scene"
    scene.mkdir(mode=0o755)
    if os.getuid() == 0:
        for path in (foreign, diary):
            os.chown(path, _NOBODYS, _NOBODYS)
        program = base / "cat"
        shutil.copy("/bin/cat", program)
        program.chmod(0o4755)
        hidden = base / "setuid.secret"
        hidden.write_text(new_secret("setuid"))
        hidden.chmod(0o600)
        shadow = base / "setuid.copy"
        shadow.write_text(hidden.read_text())  # for the harness, which may be an ordinary user
        shadow.chmod(0o644)
    return scene


class Scene:
    """One, for all attempts of one runner. `planted` is where `prepare` was at work."""

    def __init__(self, folder: Path, *, planted: Path) -> None:
        self.folder = folder
        self._base = planted
        self.secrets = {kind: new_secret(kind) for kind in _KINDS}
        self.limits = {
            **LIMITS,
            "threads_at_most": LIMITS["threads"] + 1,
            "processes_at_most": LIMITS["processes_granted"] + LIMITS["threads"],
        }
        self.token = ""
        self.pids: dict[str, int] = {}
        """The runner's part: supervisor, parent, sibling."""
        self.planted: dict[str, Any] = {}
        self.gauges: dict[str, Callable[[], int]] = {}
        """The runner's, of its worker, and what they showed before the attempt."""
        self.before: dict[str, int] = {}
        self.log: Path | None = None
        self.census = Census()
        self._victim: subprocess.Popen[bytes] | None = None
        self._make_folders()
        self.ears = Ears(folder / "sockets", "escapes-" + secrets.token_hex(4))
        self.paths = self._name_paths()
        self._plant_secrets()

    def _make_folders(self) -> None:
        for name, mode in (
            *(("state", 0o700), ("store", 0o700), ("app", 0o755), ("readable", 0o755)),
            *(("work", 0o777), ("outside", 0o777), ("cwd", 0o777), ("sockets", 0o755)),
        ):
            path = self.folder / name
            path.mkdir()
            path.chmod(mode)
        here = Path(__file__).parent
        shutil.copytree(
            here, self.folder / "app" / "escapes", ignore=shutil.ignore_patterns("__pycache__")
        )

    def _name_paths(self) -> dict[str, str]:
        folder, base = self.folder, self._base
        return {
            "key": str(folder / "state" / "planted.key"),
            "opened": str(folder / "state" / "opened"),
            "decoy": str(folder / "state" / "decoy"),
            "store": str(folder / "store" / "planted.db"),
            "code": str(folder / "app"),
            "dotenv": str(folder / "app" / ".env"),
            "later": str(folder / "app" / ".env.later"),
            "module": str(folder / "app" / "prices.py"),
            "readable": str(folder / "readable" / "catalogue.txt"),
            "work": str(folder / "work"),
            "outside": str(folder / "outside"),
            "outside_file": str(folder / "outside" / "theirs.txt"),
            "cwd": str(folder / "cwd"),
            "neighbour": str(base / "neighbour" / "diary.txt"),
            "setuid": str(base / "cat"),
            "setuid_secret": str(base / "setuid.secret"),
            "unix": self.ears.unix,
            "unix_datagram": self.ears.unix_datagram,
            "abstract": self.ears.abstract,
            "tmp": "/tmp",
            "shm": "/dev/shm",
        }

    def _plant_secrets(self) -> None:
        for name in ("key", "opened", "decoy"):
            path = Path(self.paths[name])
            path.write_text(self.secrets[name] + "\n")
            path.chmod(0o600)
        with contextlib.closing(sqlite3.connect(self.paths["store"])) as store:
            store.execute("CREATE TABLE messages (body TEXT)")
            store.execute("INSERT INTO messages VALUES (?)", (self.secrets["store"],))
            store.commit()
        self.secrets["neighbour"] = Path(self.paths["neighbour"]).read_text()
        self.secrets["shadow"] = "root:"
        copy = self._base / "setuid.copy"
        self.secrets["setuid"] = copy.read_text() if copy.exists() else new_secret("setuid")
        for name, text in (
            ("module", "PRICE = 1\n"), ("readable", "shoes\n"), ("outside_file", "theirs\n")
        ):  # fmt: skip
            self._put(name, text)

    def _put(self, name: str, text: str) -> None:
        path = Path(self.paths[name])
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o666)
        self.planted[name] = self.fingerprint(name)

    def plant_dotenv(self) -> None:
        """Put `.env` beside the code."""
        Path(self.paths["dotenv"]).write_text(f"PASSWORD={self.secrets['dotenv']}\n")

    def world(self) -> World:
        """For the attempt that comes next; whatever the last one did is put right first."""
        self.token = "esc" + secrets.token_hex(4)
        Path(self.paths["later"]).write_text(f"PASSWORD={self.secrets['later']}\n")
        self.before = {name: gauge() for name, gauge in self.gauges.items()}
        self._log_offset = self.before.get("log", 0)
        return World(
            token=self.token,
            paths={**self.paths},
            pids={**self.pids, "victim": self._ready_victim()},
            ports=dict(self.ears.ports),
            limits=dict(self.limits),
        )

    def measure(self, what: str) -> int:
        """What a gauge shows; 0 without a worker."""
        return self.gauges[what]() if what in self.gauges else 0

    def read_log(self) -> str:
        """What the worker has logged since the attempt began."""
        if self.log is None:
            return ""
        time.sleep(0.3)
        with self.log.open("rb") as file:
            file.seek(self._log_offset)
            return file.read(1 << 24).decode("utf-8", "replace")

    def put_right(self) -> None:
        """Undo what the last attempt did, if there was one: without its token, all would seem to be its work."""
        if not self.token:
            return
        end_all(self.token)
        decoy = Path(self.paths["decoy"])
        if not decoy.exists() or decoy.read_text() != self.secrets["decoy"] + "\n":
            decoy.unlink(missing_ok=True)
            decoy.write_text(self.secrets["decoy"] + "\n")
        for place in ("work", "cwd"):
            _empty(Path(self.paths[place]))
        for place in ("outside", "code"):
            _remove_named(Path(self.paths[place]), self.token)
        for place in ("tmp", "shm"):
            _remove_named(Path(self.paths[place]), self.token)
        for name, text in zip(_PLANTED, ("PRICE = 1\n", "shoes\n", "theirs\n"), strict=True):
            if self.fingerprint(name) != self.planted[name]:
                self._put(name, text)
        if self._victim is not None and self.victim_limit_changed():
            self._victim.kill()

    def fingerprint(self, name: str) -> tuple[object, ...]:
        """What a file is: all that an attempt may change."""
        path = Path(self.paths[name])
        try:
            found = path.lstat()
            return (path.read_bytes(), stat.S_IMODE(found.st_mode), found.st_mtime_ns, found.st_uid)
        except OSError as error:
            return (str(error),)

    def has_died(self, who: str, *, seconds: float = 0.7) -> bool:
        """Whether a process is dead that the world named, at the latest after some seconds."""
        pid = self._victim.pid if who == "victim" and self._victim else self.pids[who]
        end = time.monotonic() + seconds
        while is_alive(pid):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def victim_limit_changed(self) -> bool:
        """Whether the victim's limit of files is another."""
        assert self._victim is not None
        try:
            return resource.prlimit(self._victim.pid, resource.RLIMIT_NOFILE)[0] != _VICTIM_FILES
        except ProcessLookupError:
            return False

    def _ready_victim(self) -> int:
        if self._victim is None or self._victim.poll() is not None:
            code = (
                "import resource, time; "
                f"resource.setrlimit(resource.RLIMIT_NOFILE, ({_VICTIM_FILES}, {_VICTIM_FILES})); "
                "print('ready', flush=True); time.sleep(3600)"
            )
            self._victim = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert self._victim.stdout is not None
            self._victim.stdout.readline()
        return self._victim.pid

    def close(self) -> None:
        """End what was started."""
        self.census.end()
        self.put_right()
        self.ears.close()
        if self._victim is not None:
            self._victim.kill()
            self._victim.wait()
            assert self._victim.stdout is not None
            self._victim.stdout.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs: it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        _remove(path)


def _remove_named(folder: Path, token: str) -> None:
    assert len(token) == _TOKEN_LENGTH, token
    for path in folder.iterdir():
        if token in path.name:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
