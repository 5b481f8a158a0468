"""Looks at the host and the servers of a deployment: the scene as it is, for the process that asks."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import site
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.doctor.probing import probe
from cardoon.doctor.scene import NotApplicableError, Scene, UncheckedError
from cardoon.doctor.server_facts import ServerFacts
from cardoon.firewall.state import read_state
from cardoon.integrity.approved import judge_approved, make_place
from cardoon.sandbox.probing import probe as probe_layers
from cardoon.transparency.places import Places
from cardoon.transparency.verifying import Finding, verify_log

T = TypeVar("T")

_PROGRAMS = "/usr/sbin:/sbin:/usr/bin:/bin"
_RUN_SECONDS = 2.0
_CONNECT_SECONDS = 0.5
_TIME_ERROR = 5
"""What adjtimex(2) returns of a clock that nobody keeps."""
_MOST_JUDGED = 64 << 20
"""Bytes of an audit log: some two seconds."""
_DISTRIBUTION = re.compile(r"(.+)-([^-]+)\.(?:dist|egg)-info")


def look(
    settings: Settings,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    folder: str = "",
    complaints: Sequence[str] = (),
) -> Scene:
    """The scene here. Nothing is read or asked before a check wants to know it, and nothing twice.

    `folder` is where the app is imported from, `complaints` is what is wrong with waivers.
    """

    def servers() -> Sequence[ServerFacts]:
        try:
            endpoints = scene.endpoints("broker_url", "result_backend")
        except NotApplicableError:
            return ()
        prefix = str(settings.broker_transport_options.get("global_keyprefix", "cardoon"))
        return probe(endpoints, prefix=prefix)

    scene = Scene(
        settings=settings,
        environ=environ,
        now=clock.now(),
        uid=os.geteuid(),
        folder=folder,
        complaints=complaints,
        sys_path=tuple(sys.path),
        user_site=site.getusersitepackages() if site.ENABLE_USER_SITE else "",
        openssl=ssl.OPENSSL_VERSION,
        packages=Once(find_packages),
        servers=Once(servers),
        layers=Once(probe_layers),
        run=run,
        synchronised=is_synchronised,
        connects=connects,
        free=free,
        chain=judge_chain,
        approved=Once(lambda: find_approved(scene)),
        rules=Once(lambda: read_state(Path(settings.firewall_state), now=clock.now())),
    )
    return scene


class Once(Generic[T]):
    """Asks when the first one wants to know, and tells all the same. Safe from threads."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()  # protects what was found
        self._found: list[T] = []

    def __call__(self) -> T:
        """What was found."""
        with self._lock:
            if not self._found:
                self._found.append(self._ask())
            return self._found[0]


def judge_chain(path: Path) -> Sequence[Finding]:
    """What is wrong with an audit log; `UncheckedError` for one that takes longer than a doctor has."""
    files = [one for one in [*Places(path).earlier(), path] if one.exists()]
    if not files:
        raise NotApplicableError(f"{path} has no record yet")
    if sum(one.stat().st_size for one in files) > _MOST_JUDGED:
        raise UncheckedError(f"{path} is too long to be judged here; use `cardoon audit verify`")
    return verify_log(path).findings


def find_approved(scene: Scene) -> float:
    """When the baseline of this host was made; `SecurityError` unless it is approved, ours, and the newest."""
    settings = scene.settings
    place = make_place(settings.integrity_baseline, settings.integrity_key, scene.state_directory)
    with judge_approved(place) as baseline:
        return datetime.fromisoformat(baseline.head.created).timestamp()


def find_packages(folders: Sequence[str] | None = None) -> Mapping[str, str]:
    """Versions of what is installed, by normalised name (PEP 503), as names of folders tell them.

    Of two, the one counts that Python would import.
    """
    found: dict[str, str] = {}
    for folder in sys.path if folders is None else folders:
        try:
            names = [one.name for one in Path(folder or ".").iterdir()]
        except OSError:
            continue
        for name in names:
            if matched := _DISTRIBUTION.fullmatch(name):
                normal = re.sub(r"[-_.]+", "-", matched[1]).lower()
                found.setdefault(normal, matched[2])
    return found


def run(words: Sequence[str]) -> str:
    """What a program of the system says within two seconds; `UncheckedError` for anything else."""
    program = shutil.which(words[0], path=_PROGRAMS)
    if program is None:
        raise UncheckedError(f"there is no {words[0]} here")
    try:
        done = subprocess.run(
            [program, *words[1:]],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_RUN_SECONDS,
            check=False,
            env={"PATH": _PROGRAMS, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UncheckedError(f"{words[0]}: {error}") from error
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise UncheckedError(f"{words[0]}: {told or f'exit code {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")


def is_synchronised() -> bool:
    """What the kernel says (adjtimex(2)); `UncheckedError` where it says nothing."""
    adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if adjtimex is None:
        raise UncheckedError(f"{sys.platform} has no adjtimex")
    told = adjtimex(ctypes.create_string_buffer(512))  # no modes: it reads, and changes nothing
    if told < 0:
        raise UncheckedError(f"adjtimex: {os.strerror(ctypes.get_errno())}")
    return int(told) != _TIME_ERROR


def connects(host: str, port: int) -> bool:
    """Whether a TCP connection comes about within half a second."""
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def free(path: Path) -> tuple[int, int]:
    """Bytes that are free for us, and all bytes, of the file system of a path."""
    try:
        found = os.statvfs(path)
    except OSError as error:
        raise UncheckedError(f"{path}: {error.strerror}") from error
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
