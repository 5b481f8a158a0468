"""What a worker does to its own process, and how it shows where it is connected."""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def protect_memory() -> None:
    """Keep this process's memory from others of the same user, and out of core dumps (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def safe_url(url: str) -> str:
    """A URL, or several, without passwords and options, among which there may be one."""
    return ";".join(_safe(one) for one in url.split(";"))


def _safe(url: str) -> str:
    scheme, mark, rest = url.partition("?")[0].partition("://")
    if mark and "@" in rest:
        user, _, place = rest.rpartition("@")
        rest = f"{user.partition(':')[0]}:***@{place}"
    return scheme + mark + rest
