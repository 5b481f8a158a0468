"""Layers: what this machine can enforce, and which level that makes. Values; `probing` finds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from cardoon.sandbox.profile import Level

NEEDED: Mapping[str, Level] = {
    "ids": Level.PROCESS,
    "limits": Level.PROCESS,
    "privileges": Level.CONFINED,
    "landlock": Level.CONFINED,
    "seccomp": Level.CONFINED,
    "users": Level.STRICT,
    "processes": Level.STRICT,
    "room": Level.STRICT,
    "network": Level.STRICT,
}
"""Each layer, and the lowest level that is not without it."""

HELPFUL = ("notifications", "cgroup")
"""Layers that no level needs: refusals that are told, and memory and processes counted for all of a task."""

REMEDIES: Mapping[str, str] = {
    "ids": "a root worker has to become somebody else: CAP_SETUID and CAP_SETGID, or start it as a user",
    "limits": "setrlimit(2)",
    "privileges": "Linux 3.5",
    "landlock": "Linux 5.13 with landlock among the active security modules (lsm=...)",
    "seccomp": "Linux 4.14 with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64",
    "users": "user namespaces: sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1 "
    "where there is one, no AppArmor rule against them, and no container that refuses unshare(2)",
    "processes": "pid namespaces, as users",
    "room": "mount namespaces, tmpfs and a /proc that is not covered; Linux 5.12",
    "network": "network namespaces, as users",
    "notifications": "Linux 5.9",
    "cgroup": "a cgroup v2 of its own with the controllers memory and pids: Delegate=yes in the unit of systemd (251)",
}
"""What would bring a missing layer."""


class Layer(NamedTuple):
    """Something that the kernel does or does not enforce here."""

    name: str
    is_on: bool
    detail: str
    """What was seen."""


class Layers(Mapping[str, Layer]):
    """The layers by name. One that was not tried is missing."""

    def __init__(self, found: Iterable[Layer]) -> None:
        tried = {one.name: one for one in found}
        self._found = {
            name: tried.get(name, Layer(name, is_on=False, detail="was not tried"))
            for name in (*NEEDED, *HELPFUL)
        }

    def __getitem__(self, name: str) -> Layer:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def reached(self) -> Level:
        """The highest level that misses nothing."""
        return max((one for one in Level if not self.missing_for(one)), default=Level.PROCESS)

    def missing_for(self, level: Level) -> list[Layer]:
        """The layers that a level needs and this machine does not have."""
        return [
            self[name]
            for name, lowest in NEEDED.items()
            if lowest <= level and not self[name].is_on
        ]

    def to_mapping(self) -> dict[str, Any]:
        """As JSON can say it; `from_mapping` reads it back."""
        return {one.name: [one.is_on, one.detail] for one in self.values()}

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Self:
        """The layers that a frame describes."""
        return cls(Layer(name, bool(is_on), str(text)) for name, (is_on, text) in found.items())
