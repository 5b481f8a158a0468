"""Settings, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the service can be told."""

    tokens: Mapping[str, str] = field(repr=False)
    """User names by the token that each user shows: `WORDCOUNT_TOKENS="ada=TOKEN bob=TOKEN"`."""
    max_wait: float = 20.0
    """Seconds for which a client may wait for a result in one request: `WORDCOUNT_MAX_WAIT`."""


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process; `ValueError` for a token that is none."""
    tokens = {}
    for entry in environ.get("WORDCOUNT_TOKENS", "").split():
        user, _, token = entry.partition("=")
        if not user.isalnum() or not token:
            raise ValueError("WORDCOUNT_TOKENS: write name=token, with spaces between them")
        tokens[token] = user
    return Settings(tokens=tokens, max_wait=float(environ.get("WORDCOUNT_MAX_WAIT", "20")))
