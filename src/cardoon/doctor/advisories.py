"""A small table of faults that others have made known: what has them, and the versions that mended them.

Last edited on 2026-12-02. It names what stands near a task queue and can be told from a version alone. It is no
substitute for a scanner with a current database.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

EDITED = "2026-12-02"
OPENSSL = (3, 0)
"""Of series before this one, no release gets repairs in public."""


class Advisory(NamedTuple):
    """One fault, by its public id."""

    name: str
    """Of a package, normalised; or `redis`, `valkey`, `postgresql`, `rabbitmq`."""
    id: str
    fixed_in: tuple[str, ...]
    """The first version of each series that has the repair, in ascending order."""

    def fix_for(self, version: str) -> str:
        """The version to go to: that of the same series, or else the next one."""
        return next(one for one in self.fixed_in if _key(version) < _key(one))


PACKAGES: Sequence[Advisory] = (
    Advisory("aiohttp", "CVE-2024-23334", ("3.9.2",)),
    Advisory("certifi", "CVE-2023-37920", ("2023.7.22",)),
    Advisory("cryptography", "CVE-2024-26130", ("42.0.4",)),
    Advisory("cryptography", "CVE-2024-12797", ("44.0.1",)),
    Advisory("django", "CVE-2025-64459", ("4.2.26", "5.1.14", "5.2.8")),
    Advisory("gunicorn", "CVE-2024-1135", ("22.0.0",)),
    Advisory("h11", "CVE-2025-43859", ("0.16.0",)),
    Advisory("idna", "CVE-2024-3651", ("3.7",)),
    Advisory("jinja2", "CVE-2025-27516", ("3.1.6",)),
    Advisory("pillow", "CVE-2023-50447", ("10.2.0",)),
    Advisory("pyyaml", "CVE-2020-14343", ("5.4",)),
    Advisory("requests", "CVE-2024-47081", ("2.32.4",)),
    Advisory("setuptools", "CVE-2025-47273", ("78.1.1",)),
    Advisory("sqlparse", "CVE-2024-4340", ("0.5.0",)),
    Advisory("tornado", "CVE-2025-47287", ("6.5",)),
    Advisory("urllib3", "CVE-2025-66418", ("2.6.0",)),
    Advisory("werkzeug", "CVE-2024-34069", ("3.0.3",)),
)
SERVERS: Sequence[Advisory] = (
    Advisory("redis", "CVE-2025-49844", ("6.2.20", "7.2.11", "7.4.6", "8.0.4", "8.2.2")),
    Advisory("postgresql", "CVE-2026-6473", ("14.23", "15.18", "16.14", "17.10", "18.4")),
    Advisory("rabbitmq", "CVE-2023-46118", ("3.11.24", "3.12.7")),
)


def is_older(version: str, fixed_in: Sequence[str]) -> bool:
    """Whether a version lacks a repair that these have, each the first of its series.

    A series is what the versions agree in, but for the last number. One that no repair names is judged by
    the newest: older than that, it lacks it.
    """
    own = _key(version)
    for one in fixed_in:
        fixed = _key(one)
        series = len(fixed) - 1
        if len(fixed_in) > 1 and own[:series] == fixed[:series]:
            return own < fixed
    return own < _key(fixed_in[-1])


def _key(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with; what follows, such as `rc1`, counts for nothing."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(one) for one in found.group().split(".")) if found else ()
