"""Proofs: what has to be seen, by others than the attempt, before it counts as a success.

Each is a function of the scene and of what the attempt told; it returns what was gained, or nothing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from escapes.scene import Scene

Proof = Callable[["Scene", Any], str]
ARRIVAL_SECONDS = 0.6


def secret(*kinds: str) -> Proof:
    """It told a secret that was planted."""

    def prove(scene: Scene, told: Any) -> str:
        found = [kind for kind in kinds if scene.secrets[kind] in str(told)]
        return f"read the secret {found[0]!r}" if found else ""

    return prove


def passed(_: Scene, told: Any) -> str:
    """The kernel did what was asked for: the attempt asserts results of system calls before it says so."""
    return str(told) if isinstance(told, str) and told.startswith("passed") else ""


def marker(*places: str) -> Proof:
    """A file with its token in its name is where it must not be."""

    def prove(scene: Scene, _: Any) -> str:
        for place in places:
            for name in os.listdir(scene.paths[place]):
                if scene.token in name:
                    return f"wrote {name} in {place}"
        return ""

    return prove


def ran(scene: Scene, _: Any) -> str:
    """A program has run that left its mark in the granted directory."""
    mark = Path(scene.paths["work"], scene.token + ".ran")
    end = time.monotonic() + ARRIVAL_SECONDS
    while not mark.exists():
        if time.monotonic() > end:
            return ""
        time.sleep(0.02)
    return "ran a program"


def changed(place: str) -> Proof:
    """A file is not what it was: its bytes, its mode, its times, or it is gone."""

    def prove(scene: Scene, _: Any) -> str:
        return f"changed {place}" if scene.fingerprint(place) != scene.planted[place] else ""

    return prove


def arrived(channel: str) -> Proof:
    """A listener heard its token."""

    def prove(scene: Scene, _: Any) -> str:
        heard = scene.ears.wait_for(channel, scene.token, seconds=ARRIVAL_SECONDS)
        return f"reached {channel}" if heard else ""

    return prove


def died(who: str) -> Proof:
    """A process is dead that was alive."""

    def prove(scene: Scene, _: Any) -> str:
        return f"killed the {who}" if scene.has_died(who) else ""

    return prove


def limits_changed(scene: Scene, _: Any) -> str:
    """The victim's limits are others."""
    return "changed limits of another process" if scene.victim_limit_changed() else ""


def at_least(limit: str, *, unit: str, slack: float = 1.0) -> Proof:
    """The number that it told is beyond the limit of that name, times `slack`."""

    def prove(scene: Scene, told: Any) -> str:
        bound = scene.limits[limit] * slack
        number = told if isinstance(told, (int, float)) and not isinstance(told, bool) else 0
        return f"took {number:g} {unit}, more than {bound:g}" if number > bound else ""

    return prove


def at_once(what: str, limit: str) -> Proof:
    """More processes or threads of its name were counted at once than the limit, by looking at /proc."""

    def prove(scene: Scene, _: Any) -> str:
        most = scene.census.most[what]
        bound = scene.limits[limit]
        return f"had {most} {what} at once, more than {bound}" if most > bound else ""

    return prove


def burned(limit: str, *, slack: float) -> Proof:
    """Its process used more processor time than the limit and some seconds, by /proc."""

    def prove(scene: Scene, _: Any) -> str:
        used = scene.census.most["seconds"]
        bound = scene.limits[limit] + slack
        return f"used {used:.1f} s of processor, more than {bound:g}" if used > bound else ""

    return prove


def lives(scene: Scene, _: Any) -> str:
    """A process or thread of its name is alive after its task has ended."""
    left = scene.census.wait_for_end(scene.token, seconds=2.0)
    return f"left {len(left)} processes alive" if left else ""


def core_file(scene: Scene, _: Any) -> str:
    """What a crashed process held is in a file."""
    time.sleep(ARRIVAL_SECONDS)
    for path in _files(Path(scene.paths["work"])):
        if path.name.startswith("core"):
            return f"left {path.stat().st_size} bytes of memory in {path.name}"
    return ""


def on_disk(limit: str) -> Proof:
    """Files in the granted directory hold more bytes than the limit."""

    def prove(scene: Scene, _: Any) -> str:
        found = [path.stat() for path in _files(Path(scene.paths["work"]))]
        size = max(
            sum(one.st_blocks * 512 for one in found), max((s.st_size for s in found), default=0)
        )
        bound = scene.limits[limit]
        return f"wrote {size} bytes, more than {bound}" if size > bound else ""

    return prove


def setuid_file(scene: Scene, _: Any) -> str:
    """A file that others run as root is in the granted directory."""
    for path in _files(Path(scene.paths["work"])):
        found = path.lstat()
        if found.st_mode & stat.S_ISUID and found.st_uid == 0:
            return f"left {path.name}, setuid root"
    return ""


def nothing_more(_: Scene, __: Any) -> str:
    """Damage is all that it is after: whether the worker, its memory and honest tasks are what they were."""
    return ""


def grown(what: str, *, by: int) -> Proof:
    """The worker's descriptors, or its log, are more than before."""

    def prove(scene: Scene, _: Any) -> str:
        growth = scene.measure(what) - scene.before[what]
        return f"{what} grew by {growth}" if growth > by else ""

    return prove


def others_answered(scene: Scene, _: Any) -> str:
    """Another task has a result although it is still at work."""
    return "answered for another task" if scene.measure("answered") else ""


def described_by_length(limit: str) -> Proof:
    """What it told is longer than the limit."""

    def prove(scene: Scene, told: Any) -> str:
        return (
            f"told {len(told)} bytes"
            if isinstance(told, str) and len(told) > scene.limits[limit]
            else ""
        )

    return prove


def forged_line(scene: Scene, _: Any) -> str:
    """A line of the log begins with its token, or an escape sequence is in the log as it is."""
    text = scene.read_log()
    lines = text.replace("\r", "\n").replace("\u2028", "\n").split("\n")
    if any(line.startswith(scene.token) for line in lines):
        return "wrote a line of the log"
    return "wrote control characters into the log" if set(text) & {"\x1b", "\x9b", "\r"} else ""


def either(*proofs: Proof) -> Proof:
    """One of several."""

    def prove(scene: Scene, told: Any) -> str:
        return "; ".join(filter(None, (one(scene, told) for one in proofs)))

    return prove


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place] if place.exists() else []
    return [path for path in place.iterdir() if not path.is_dir() and not path.is_symlink()]
