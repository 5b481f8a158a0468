"""Which version of the tables and functions this Cardoon works with."""

from __future__ import annotations

from cardoon.exceptions import ImproperlyConfigured

VERSION = 4


def check_version(found: int, where: str) -> None:
    """Raise `ImproperlyConfigured` for another one than ours, with what to do."""
    if found > VERSION:
        raise ImproperlyConfigured(
            f"{where}: its tables have version {found}, and this Cardoon knows {VERSION}; upgrade Cardoon"
        )
    if found < VERSION:
        raise ImproperlyConfigured(
            f"{where}: its tables have version {found}, and this Cardoon needs {VERSION}; run "
            "`cardoon db upgrade` with the same URL"
        )
