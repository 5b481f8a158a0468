"""Which file a URL means, and whether a database may lie there."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from urllib.parse import unquote

from cardoon.exceptions import ImproperlyConfigured

# SQLite's WAL needs memory that all processes share, and locks that work; over a network neither
# holds (sqlite.org/wal.html). 9p has no coherent shared memory either.
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "afs", "ceph", "cifs", "coda", "davfs", "fuse.davfs", "fuse.ceph", "fuse.glusterfs",
        "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4",
        "smb2", "smb3", "smbfs",
    }
)  # fmt: skip

_creating = threading.Lock()


def parse_database_url(url: str, *, setting: str) -> Path:
    """The absolute path that `sqlite:///relative.db` or `sqlite:////absolute.db` means.

    Raises `ImproperlyConfigured` that names the setting.
    """
    _, _, rest = url.partition("://")
    host, _, quoted = rest.partition("/")
    path = unquote(quoted)
    if path in {"", ":memory:"} or "\0" in path:
        raise ImproperlyConfigured(
            f"{setting}: the URL names no file; use sqlite:///cardoon.db for one beside the"
            " program, sqlite:////var/lib/cardoon.db for an absolute path, or memory://"
        )
    if host:
        raise ImproperlyConfigured(
            f"{setting}: SQLite has no host, and the URL names one; use three slashes before a"
            " relative path and four before an absolute one"
        )
    if "?" in quoted:
        raise ImproperlyConfigured(f"{setting}: SQLite takes no options in the URL; remove the '?'")
    return Path(path).resolve()


def check_file_system(path: Path, *, mounts: str | None = None) -> None:
    """Raise `ImproperlyConfigured` when the path lies on a network file system.

    `mounts` is the text of Linux's `/proc/mounts`; elsewhere nothing is known and nothing checked.
    """
    kind = file_system_of(path, _read_mounts() if mounts is None else mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise ImproperlyConfigured(
            f"database {path} lies on a network file system ({kind}), where locks cannot be relied"
            " on; use a local disk, or another broker"
        )


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds a path; empty when it is not listed."""
    real = str(path.resolve())
    found, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _unescape(fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # A later line covers an earlier one with the same mount point.
        if inside and len(point) >= len(found):
            found, kind = point, fields[2]
    return kind


def create_private(path: Path) -> None:
    """Create an empty file that only its owner may read, unless there is a file already.

    Its directory is made if missing. SQLite gives its companions `-wal` and `-shm` the same mode.
    Everyone calls this before connecting, so that no connection of this process exists yet when
    the descriptor is closed, which would drop the locks of one (they belong to process and file).
    """
    with _creating:
        if path.exists():
            return
        make_private_directory(path.parent)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except FileExistsError:
            return
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)


def make_private_directory(path: Path) -> None:
    """Make a directory and those above it, as far as they are missing, for their owner alone."""
    for ancestor in reversed([path, *path.parents]):
        if not ancestor.is_dir():
            ancestor.mkdir(mode=0o700, exist_ok=True)


def _read_mounts() -> str:
    try:
        return Path("/proc/mounts").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _unescape(field: str) -> str:
    """A field of `/proc/mounts`, where blanks and backslashes are octal escapes."""
    for code in (" ", "\t", "\n", "\\"):
        field = field.replace(f"\\{ord(code):03o}", code)
    return field
