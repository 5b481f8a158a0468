"""The highest serial of a baseline that this host has seen, so that an older one is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cardoon.exceptions import SecurityError
from cardoon.security.files import load_guarded
from cardoon.security.placing import SECRET, locked, make_folder, replace

NAME = "baseline.serial"
_MAX_BYTES = 256


def highest_serial(folder: Path) -> int:
    """The highest one that was noted in a state directory; 0 for none. `SecurityError` where it cannot be known."""
    path = folder / NAME
    if not os.path.lexists(path):
        return 0
    try:
        match json.loads(load_guarded(path, max_bytes=_MAX_BYTES)):
            case {"serial": int() as serial} if serial > 0:
                return serial
    except ValueError:
        pass
    raise SecurityError(
        f"{path}: does not say which baseline was seen; find out who wrote it, then remove it"
    )


def note_serial(folder: Path, serial: int) -> bool:
    """Remember a serial; tells whether it is a higher one. `SecurityError` for a lower one."""
    highest = highest_serial(folder)
    if serial == highest:
        return False
    try:
        make_folder(folder)
        with locked(folder / NAME):
            highest = highest_serial(folder)
            refuse_older(serial, highest)
            if serial > highest:
                replace(folder / NAME, json.dumps({"serial": serial}).encode(), mode=SECRET)
    except OSError as error:
        raise SecurityError(f"{folder}: the serial cannot be noted: {error.strerror}") from error
    return serial > highest


def refuse_older(serial: int, highest: int) -> None:
    """Raise `SecurityError` for a baseline that is older than one that was seen."""
    if serial < highest:
        raise SecurityError(
            f"baseline: serial {serial} is older than {highest}, which this host has seen; put the newest one here, or find "
            "out who brought back the old one"
        )
