"""Control groups (v2): memory and processes of a whole task, counted and ended together, where delegated.

A worker that has a subtree of its own, as systemd gives with `Delegate=yes`, makes a group for each task in
it. Elsewhere there is none, and limits of single processes are all there is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.profile import Sandbox

LAYER = "cgroup"

CONTROLLERS = frozenset({"memory", "pids"})
_MOST_MOVES = 100
"""Looks at what is still outside of the leaf, since a process may be born meanwhile."""
_LEAF = "worker"
"""Where the worker's own processes go: a group that gives controllers to others may hold none itself."""


def find_own(*, process: Path = Path("/proc/self")) -> Path:
    """The directory of this process's own group in v2; `ConfinementError` if there is none."""
    place = next(
        (
            line.split("::", 1)[1]
            for line in _read(process / "cgroup").splitlines()
            if line.startswith("0::")
        ),
        None,
    )
    if place is None:
        raise ConfinementError(LAYER, "this process is in no group of v2")
    for line in _read(process / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            fields = before.split()
            root, mounted = fields[3], fields[4]
            inside = place.removeprefix(root.rstrip("/"))
            return Path(mounted + inside.rstrip("/"))
    raise ConfinementError(LAYER, "cgroup v2 is not mounted")


def is_delegated(place: Path) -> bool:
    """Whether systemd (251 or later) says that a group is left to who runs in it."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(place, name) == b"1":
                return True
    return False


class Subtree:
    """A delegated subtree in which tasks get groups. Its owner is the worker, whom tasks cannot reach."""

    def __init__(self, place: Path, *, controllers: frozenset[str] = CONTROLLERS) -> None:
        """`ConfinementError` if the directory is not ours to write, or lacks a controller."""
        self.place = place
        found = set(_read(place / "cgroup.controllers").split())
        missing = sorted(controllers - found)
        if missing:
            raise ConfinementError(
                LAYER, f"{str(place)!r} lacks the controllers {', '.join(missing)}"
            )
        # Root may write everywhere, so what it may write says nothing of whose it is.
        if not is_delegated(place) or not os.access(place / "cgroup.procs", os.W_OK):
            raise ConfinementError(LAYER, f"{str(place)!r} is not delegated to this worker")
        self._controllers = controllers

    def prepare(self) -> None:
        """Move what runs here to a leaf, and give the controllers to the groups of tasks.

        Once, before the worker starts other processes: a group with processes of its own gives none.
        """
        leaf = self.place / _LEAF
        _make(leaf, is_new=False)
        for _ in range(_MOST_MOVES):
            found = _read(self.place / "cgroup.procs").split()
            if not found:
                break
            for pid in found:
                # One that has ended meanwhile cannot be moved, and need not be.
                with contextlib.suppress(ConfinementError):
                    _write(leaf / "cgroup.procs", pid)
        if self._controllers:
            told = " ".join(f"+{one}" for one in sorted(self._controllers))
            _write(self.place / "cgroup.subtree_control", told)

    def make(self, name: str, profile: Sandbox) -> Group:
        """A group for one task, with the limits of its profile; may be made ahead."""
        _make(self.place / name)
        group = Group(self.place / name)
        if "pids" in self._controllers:
            group.limit("pids.max", profile.processes + profile.threads + 1)
        if "memory" in self._controllers and profile.memory is not None:
            group.limit("memory.max", profile.memory)
            with contextlib.suppress(ConfinementError):  # a kernel without swap has no such file
                group.limit("memory.swap.max", 0)
        return group


class Group:
    """The group of one task: ended and removed with it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def limit(self, name: str, most: int) -> None:
        """Set a limit: `memory.max`, `pids.max`."""
        _write(self.place / name, str(most))

    def open_door(self) -> int:
        """A descriptor through which a process enters it (`enter`), with the rights of who opened it."""
        return os.open(self.place / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def processes(self) -> list[int]:
        """Who is in it."""
        return [int(one) for one in _read(self.place / "cgroup.procs").split()]

    def kill(self) -> None:
        """End all that is in it; nothing is born meanwhile (Linux 5.14)."""
        _write(self.place / "cgroup.kill", "1")

    def is_empty(self) -> bool:
        """Whether nothing lives in it."""
        return "populated 0" in _read(self.place / "cgroup.events")

    def remove(self) -> None:
        """Remove it, when it is empty; one that is gone already is no error."""
        try:
            self.place.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfinementError(LAYER, f"{str(self.place)!r} stays", error.errno or 0) from error


def enter(door: int) -> None:
    """Move this process into the group whose door it is, and close that; what it starts is born there."""
    try:
        os.write(door, b"0")
    except OSError as error:
        raise ConfinementError(LAYER, "cannot be entered", error.errno or 0) from error
    finally:
        os.close(door)


def probe() -> str:
    """For `probing`: where a subtree is, after a group was made and removed in it."""
    subtree = Subtree(find_own())
    place = subtree.place / f"probe-{os.getpid()}"
    _make(place)
    Group(place).remove()
    return f"{subtree.place} with {', '.join(sorted(CONTROLLERS))}"


def _make(place: Path, *, is_new: bool = True) -> None:
    """A group that is there already may hold something, so it is an error unless it may be old."""
    try:
        place.mkdir(exist_ok=not is_new)
    except OSError as error:
        raise ConfinementError(LAYER, f"{str(place)!r} cannot be made", error.errno or 0) from error


def _read(place: Path) -> str:
    try:
        return place.read_text("utf-8", "replace")
    except OSError as error:
        raise ConfinementError(LAYER, str(place), error.errno or 0) from error


def _write(place: Path, text: str) -> None:
    try:
        place.write_text(text, "utf-8")
    except OSError as error:
        raise ConfinementError(LAYER, f"{text!r} to {place}", error.errno or 0) from error
