"""What is covered where nobody has written rules: the code that this Python runs, and whom it trusts."""

from __future__ import annotations

import glob
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from cardoon.integrity.rules import Rules

SYSTEM = (
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
)
"""What decides which native code runs. One that is not there is not to come."""
UNITS = ("/etc/systemd/system/cardoon*", "/lib/systemd/system/cardoon*")
"""Which services and drop-ins start a worker."""


def default_rules(more: Iterable[str], *, apart: Iterable[str]) -> Rules:
    """Rules for this interpreter: itself, all of `sys.path`, system files, and `more`; without `apart`.

    Where a name is a link, both it and what it leads to are covered. Call it with the app imported, so that
    `sys.path` is what tasks have.
    """
    named = [
        sys.executable,
        str(Path(sys.prefix, "pyvenv.cfg")),
        sysconfig.get_path("stdlib"),
        *(path or "." for path in sys.path),
        *SYSTEM,
        *(path for pattern in UNITS for path in sorted(glob.glob(pattern))),  # noqa: PTH207 - absolute
        *more,
    ]
    roots: dict[str, None] = {}
    for name in named:
        path = os.path.abspath(Path(name).expanduser())  # noqa: PTH100 - without following links
        roots[path] = None
        roots[os.path.realpath(path)] = None
    left_out = (escape_glob(os.path.abspath(path)) for path in apart)  # noqa: PTH100
    return Rules(tuple(roots), exclude=(*left_out, "**/.git"))


def escape_glob(path: str) -> str:
    """A pattern that fits one path; a wildcard in its name stands for one character."""
    return path.replace("*", "?")
