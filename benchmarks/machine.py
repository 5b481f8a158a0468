"""What the machine is, how fast its disk is, and who uses its processors."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import psutil  # type: ignore[import-untyped]

Processes: TypeAlias = list[psutil.Process]

_PACKAGES = (
    "cryptography", "celery", "SQLAlchemy", "huey", "dramatiq", "taskiq", "taskiq-redis", "rq", "pgqueuer",
    "procrastinate", "redis", "hiredis", "psycopg", "pika",
)  # fmt: skip
_FLUSHES = 200
_BLOCK = b"\0" * 4096


def describe(folder: Path) -> dict[str, Any]:
    """The machine and the versions, with the time of a flush in `folder`."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **_versions(),
        "flush_us": round(measure_flush(folder) * 1e6),
        "load_before": round(os.getloadavg()[0], 2),
    }


def measure_flush(folder: Path) -> float:
    """Median seconds until 4 KiB more of a file are on the disk."""
    path = folder / "flush"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_FLUSHES):
            file.write(_BLOCK)
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    path.unlink()
    return statistics.median(times)


def family(pid: int) -> Processes:
    """A process and all below it."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def cpu_seconds(processes: Processes) -> float:
    """What these have used; children that ended count with their parent."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += sum(times[:4])
    return total


def precise_cpu_seconds(processes: Processes) -> float:
    """As `cpu_seconds`, to the microsecond where Linux tells, of threads that live."""
    total = 0
    try:
        for process in processes:
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
    except OSError:
        return cpu_seconds(processes)
    return total / 1e9


def kill(processes: Processes) -> None:
    """End those that still live."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def busy_seconds() -> float:
    """Processor time that the whole machine has used since it started."""
    times = psutil.cpu_times()
    return float(sum(times)) - times.idle - getattr(times, "iowait", 0.0)


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
