"""The scene: everything that checks look at, each by a reader that a test can put another in place of.

No check opens a file, a socket or a clock by itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cardoon.config import Settings, find_state_directory, follow
from cardoon.doctor.lures import Trial
from cardoon.doctor.server_facts import ServerFacts
from cardoon.endpoints import Access, Endpoint, kind_of, parse_endpoints
from cardoon.exceptions import CardoonError
from cardoon.firewall import judging as firewall
from cardoon.sandbox.layers import Layers
from cardoon.transparency.verifying import Finding

_MOST_READ = 1 << 20
"""Bytes of one file."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_ANY = stat.S_IRWXG | stat.S_IRWXO


class NotApplicableError(Exception):
    """The question makes no sense here; the text says why."""


class UncheckedError(Exception):
    """There is no answer to be had; the text says why."""


def _nothing_known(*_: object) -> Any:
    raise UncheckedError("nobody has looked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One deployment on one host, as the process sees it that asks."""

    settings: Settings
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    now: float = 0.0
    """Seconds since the epoch."""
    uid: int = 0
    """Who would run tasks."""
    root: Path = Path("/")
    """Below which /proc, /etc and their like are read."""
    folder: str = ""
    """Where the app is imported from."""
    sys_path: Sequence[str] = ()
    user_site: str = ""
    """The folder of packages of the user's own, if Python takes any from there."""
    openssl: str = ""
    """What `ssl.OPENSSL_VERSION` says."""
    complaints: Sequence[str] = ()
    """Of waivers that do not count."""
    packages: Callable[[], Mapping[str, str]] = _nothing_known
    """Versions of what is installed, by normalised name."""
    servers: Callable[[], Sequence[ServerFacts]] = _nothing_known
    """What the broker's servers and those of results answered."""
    layers: Callable[[], Layers] = _nothing_known
    """What this machine can enforce on tasks."""
    run: Callable[[Sequence[str]], str] = _nothing_known
    """What a program of the system says; `UncheckedError` where it is not there, or fails."""
    synchronised: Callable[[], bool] = _nothing_known
    """Whether the kernel takes the clock for synchronised."""
    connects: Callable[[str, int], bool] = _nothing_known
    """Whether a TCP connection comes about."""
    free: Callable[[Path], tuple[int, int]] = _nothing_known
    """Bytes that are free, and all bytes, where a path lies."""
    chain: Callable[[Path], Sequence[Finding]] = _nothing_known
    """What is wrong with an audit log, by its own files."""
    approved: Callable[[], float] = _nothing_known
    """When the baseline was made that files are held against; `SecurityError` for one that does not count."""
    rules: Callable[[], firewall.Finding] = _nothing_known
    """What was found of the firewall last."""
    canaries: Trial | None = None
    """What workers did with messages that they must refuse; None where none were sent."""

    @property
    def state_directory(self) -> Path:
        """Where the project keeps its keys and its own store."""
        return find_state_directory(self.settings)

    def url_of(self, name: str) -> str:
        """A setting that is a URL, its reference followed; empty where it is not set."""
        try:
            return follow(str(getattr(self.settings, name)), name=name, environ=self.environ)
        except CardoonError as error:
            raise UncheckedError(str(error)) from error

    def endpoints(self, *names: str) -> list[Endpoint]:
        """The servers that these settings name; `NotApplicableError` if there is none."""
        found: list[Endpoint] = []
        for name in names:
            url = self.url_of(name)
            if url and kind_of(url):
                use = self.settings.broker_use_ssl
                if name == "result_backend" and self.settings.redis_backend_use_ssl is not None:
                    use = self.settings.redis_backend_use_ssl
                access = Access(use_ssl=use, allow_plaintext=True, allow_unverified=True)
                try:
                    found += parse_endpoints(url, setting=name, access=access)
                except CardoonError as error:
                    raise UncheckedError(str(error)) from error
        if not found:
            raise NotApplicableError(
                "messages lie in the project's own file, and no server has them"
            )
        return found

    def require_shared(self) -> None:
        """`NotApplicableError` unless others than this project's user reach what holds the messages."""
        self.endpoints("broker_url")

    def read(self, path: str) -> str:
        """The beginning of a file of the system; empty where there is none."""
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return file.read(_MOST_READ).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise UncheckedError(f"{path}: {error.strerror}") from error

    def need(self, path: str) -> str:
        """`read`, and `UncheckedError` where there is nothing."""
        text = self.read(path)
        if not text:
            raise UncheckedError(f"{path}: there is none here")
        return text

    def status(self, path: str | Path) -> os.stat_result | None:
        """Owner and mode of a file; None where there is none."""
        try:
            return Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UncheckedError(f"{path}: {error.strerror}") from error

    def open_to_others(self, path: str | Path, forbidden: int) -> str:
        """What is wrong with owner and mode of a file; empty where all is well, or where it is not."""
        found = self.status(path)
        if found is None:
            return ""
        if found.st_uid not in {0, self.uid}:
            return f"{path} belongs to user {found.st_uid}"
        mode = stat.S_IMODE(found.st_mode)
        return f"{path} has mode {mode:04o}" if mode & forbidden else ""

    def process(self) -> Mapping[str, str]:
        """The fields of /proc/self/status."""
        lines = self.need("/proc/self/status").splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def sysctl(self, name: str) -> str:
        """The value of a kernel parameter; empty where the kernel has none of that name."""
        return self.read("/proc/sys/" + name.replace(".", "/")).strip()
