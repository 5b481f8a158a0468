"""The Lua scripts, one for each idea, put together from the parts that each of them names."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field
from importlib import resources

_NEEDS = re.compile(r"^-- needs: (.*)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- flags: ?(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script as the server runs it."""

    name: str
    body: bytes = field(repr=False)
    digest: str
    only_reads: bool
    """Whether the server takes it from users who may not write."""


@functools.cache
def load(name: str) -> Script:
    """The script with this name, which stands in `lua/`."""
    text = _read(name)
    needs, flags = _NEEDS.search(text), _FLAGS.search(text)
    parts = ["prelude", *(needs[1].split() if needs else ()), name]
    said = flags[1].strip() if flags else ""
    # With this line the server refuses a script for lack of memory before its first step or not at all.
    head = f"#!lua flags={said}\n" if said else "#!lua\n"
    body = (head + "".join(map(_read, parts))).encode()
    # The server's own name for a script, no secret.
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    return Script(name, body, digest, "no-writes" in said)


def _read(name: str) -> str:
    return resources.files("cardoon.redis").joinpath("lua", f"{name}.lua").read_text("utf-8")
