"""What a worker and its processes do to themselves, and how it shows where it is connected."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def protect_memory() -> None:
    """Keep this process's memory from others of the same user, and out of core dumps (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def allow_descriptors(wanted: int) -> None:
    """Have this process open as many files as that, as far as its hard limit lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that made it dies (Linux: prctl(2))."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def adopt_orphans() -> None:
    """Become the parent of what children leave behind when they die (Linux: prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def safe_url(url: str) -> str:
    """A URL, or several, without passwords and options, among which there may be one."""
    return ";".join(_safe(one) for one in url.split(";"))


def _safe(url: str) -> str:
    scheme, mark, rest = url.partition("?")[0].partition("://")
    if mark and "@" in rest:
        user, _, place = rest.rpartition("@")
        rest = f"{user.partition(':')[0]}:***@{place}"
    return scheme + mark + rest
