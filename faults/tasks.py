"""The app under test: default settings, and tasks that write down that they began and ended."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from cardoon import Cardoon
from faults import ledger

app = Cardoon("faults")


@app.task(name="faults.work")
def work(ident: str, seconds: float = 0.002) -> str:
    """Take a while."""
    ledger.write("begin", ident)
    time.sleep(seconds)
    ledger.write("end", ident)
    return ident


@app.task(name="faults.kill")
def kill(ident: str, times: int) -> str:
    """Kill its own process, in as many runs as `times` says; 0 for in each."""
    ledger.write("begin", ident)
    path = Path(f"{os.environ[ledger.PATH_VARIABLE]}.{ident}")
    runs = path.stat().st_size if path.exists() else 0
    if times == 0 or runs < times:
        with path.open("ab", buffering=0) as file:
            file.write(b".")
        os.kill(os.getpid(), signal.SIGKILL)
    ledger.write("end", ident)
    return ident


@app.task(name="faults.gather")
def gather(results: list[Any], ident: str, expected: int) -> int:
    """A chord's body: it must be given each header's result once."""
    ledger.write("begin", ident)
    if len(results) == expected == len(set(results)):
        ledger.write("end", ident)
    else:
        ledger.write("other", ident, f"{len(results)} results instead of {expected}")
    return len(results)
