"""Plans: what a profile grants on this machine, path by path, without what is hidden. Changes nothing.

Links are followed here, once; what is built or granted later follows none, since their targets may have
changed by then. A directory with something hidden in it is granted entry by entry. So what is hidden
stays so when it is replaced, which no cover would outlive; and what is new there is not seen either,
until the nest is made anew.
"""

from __future__ import annotations

import contextlib
import errno as errors
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cardoon.sandbox.ground import Ground, find_hidden, granted_paths, is_within, real_secrets
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.profile import Level, Sandbox

LAYER = "room"

MAX_GRANTS = 2_000
"""Each strict task copies as many mounts, at about a microsecond each."""
MAX_LINKS = 40
"""Links on the way to one path, as many as the kernel follows."""


class Grant(NamedTuple):
    """A file or directory, and all below it, by its real path."""

    path: str
    is_directory: bool
    is_writable: bool = False
    is_device: bool = False


@dataclass(slots=True)
class Plan:
    """What is granted. `plan_for` makes one."""

    grants: dict[str, Grant] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    """Those granted entry by entry; their names may be listed."""
    links: dict[str, str] = field(default_factory=dict)
    """Symbolic links on the way to what is granted, and in such directories."""
    covers: dict[str, bool] = field(default_factory=dict)
    """Paths in writable directories to cover with an empty file, or directory (True)."""

    def add(self, path: str, *, is_writable: bool = False, hidden: Sequence[str] = ()) -> None:
        """Grant a path without what is hidden; `ConfinementError` if it is missing, or is the root."""
        real = self.follow(path)
        if real == "/":
            raise ConfinementError(LAYER, f"{path!r} is the root; name the directories it takes")
        below = [one for one in hidden if is_within(one, real)]
        if is_writable:
            self._put(Grant(real, is_directory=_is_directory(real), is_writable=True))
            self.covers.update((one, _is_directory(one)) for one in below)
        else:
            self._split(real, below)

    def add_device(self, path: str) -> None:
        """Grant a device. `ConfinementError` if it is none."""
        real = self.follow(path)
        with told(path):
            mode = os.lstat(real).st_mode
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            raise ConfinementError(LAYER, f"{path!r} is no device; take it out of the profile")
        self._put(Grant(real, is_directory=False, is_device=True))

    def follow(self, path: str) -> str:
        """The path without links; those on the way become part of the plan."""
        rest, done, count = path.split("/"), "", 0
        while rest:
            name = rest.pop(0)
            if name in {"", "."}:
                continue
            if name == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{name}"
            try:
                if not stat.S_ISLNK(os.lstat(here).st_mode):
                    done = here
                    continue
                target = str(Path(here).readlink())
            except OSError as error:
                raise ConfinementError(
                    LAYER, f"{path!r} is not to be reached; create it or leave it out", error.errno or 0
                ) from error  # fmt: skip
            count += 1
            if count > MAX_LINKS:
                raise ConfinementError(LAYER, f"{path!r} has too many links", errors.ELOOP)
            self.links[here] = target
            rest[:0] = target.split("/")
            if target.startswith("/"):
                done = ""
        return done or "/"

    def ordered(self) -> list[Grant]:
        """The grants, those above first, without what one above gives already."""
        kept: dict[str, Grant] = {}
        for path in sorted(self.grants):
            grant, above = self.grants[path], path.rpartition("/")[0]
            while above and above not in self.directories and above not in kept:
                above = above.rpartition("/")[0]
            nearest = None if above in self.directories else kept.get(above)
            if (
                nearest is None
                or grant.is_device
                or (grant.is_writable and not nearest.is_writable)
            ):
                kept[path] = grant
        return list(kept.values())

    def shows(self, path: str) -> bool:
        """Whether something is planned there, above, or below."""
        every = (*self.grants, *self.directories, *self.links)
        return any(is_within(path, one) or is_within(one, path) for one in every)

    def _put(self, grant: Grant) -> None:
        if len(self.grants) >= MAX_GRANTS:
            raise ConfinementError(
                LAYER,
                f"{grant.path!r}: more than {MAX_GRANTS} paths to grant one by one; keep what is hidden "
                "in a directory of its own, or grant less",
            )
        self.grants[grant.path] = grant

    def _split(self, path: str, hidden: Sequence[str]) -> None:
        """Grant the path, or its entries if something below it is hidden."""
        if path in hidden:
            return
        below = [one for one in hidden if is_within(one, path)]
        if not below:
            self._put(Grant(path, is_directory=_is_directory(path)))
            return
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda one: one.name)
        except PermissionError:
            return  # nor can the task see it
        except NotADirectoryError:
            raise ConfinementError(LAYER, f"{path!r} was a directory a moment ago") from None
        self.directories.add(path)
        for entry in entries:
            with told(entry.path):
                if entry.is_symlink():
                    if entry.path not in below:
                        self.links[entry.path] = str(Path(entry.path).readlink())
                elif entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
                    self._split(entry.path, below)


def plan_for(profile: Sandbox, ground: Ground) -> Plan:
    """What a profile grants. `ConfinementError` names what it grants that could not be held.

    Code that is missing is left out; what the profile names has to be there.
    """
    hidden = find_hidden(profile, ground)
    plan = Plan()
    _check_is_no_secret(profile, ground)
    _check_writing(profile, ground, hidden)
    for path in granted_paths(profile, ground):
        is_named = path in profile.read
        if path in profile.write or not (is_named or os.path.lexists(path)):
            continue
        plan.add(path, hidden=hidden)
    for path in profile.write:
        plan.add(path, is_writable=True, hidden=hidden)
    for path in profile.devices:
        plan.add_device(path)
    return plan


def _check_is_no_secret(profile: Sandbox, ground: Ground) -> None:
    """What lies in a directory that is secret as a whole cannot be granted."""
    secrets = real_secrets(ground)
    for path in granted_paths(profile, ground):
        real = os.path.realpath(path)
        for one in secrets:
            if is_within(real, one) and os.path.lexists(path):
                raise ConfinementError(
                    LAYER,
                    f"{path!r} is, or lies in, {one!r}, which no task may see; move one of them",
                )


def _check_writing(profile: Sandbox, ground: Ground, hidden: Sequence[str]) -> None:
    """Nothing can be taken out of a directory that is written: neither code nor, for good, a secret."""
    secrets = real_secrets(ground)
    for path in profile.write:
        real = os.path.realpath(path)
        for code in ground.code:
            if is_within(os.path.realpath(code), real):
                raise ConfinementError(
                    LAYER, f"write={path!r} holds code, {code!r}; name a directory without it"
                )
        for one in hidden:
            if not is_within(one, real):
                continue
            if one in secrets:
                raise ConfinementError(
                    LAYER, f"write={path!r} holds a secret, {one!r}; move it, or name another directory"
                )  # fmt: skip
            if profile.level is not Level.STRICT:
                raise ConfinementError(
                    LAYER,
                    f"write={path!r} holds {one!r}, which the profile's mask hides and level "
                    f"{profile.level.text!r} cannot; move it, use level='strict', or change the mask",
                )


def _is_directory(path: str) -> bool:
    with told(path):
        return stat.S_ISDIR(os.lstat(path).st_mode)


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """Errors of files are ours, with the path."""
    try:
        yield
    except OSError as error:
        raise ConfinementError(LAYER, repr(path), error.errno or 0) from error
