"""Which file a URL means, and where a database may lie."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cardoon.exceptions import ImproperlyConfigured
from cardoon.sqlite.location import (
    check_file_system,
    create_private,
    file_system_of,
    parse_database_url,
)

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
host:/a /mnt/with\\040blank cifs rw 0 0
tmpfs /over tmpfs rw 0 0
share /over 9p rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/cardoon.db", "/var/lib/cardoon.db"),
        ("sqlite:////a/b/../c.db", "/a/c.db"),
        ("sqlite:////with%20blank%23.db", "/with blank#.db"),
        ("db+sqlite:////x.db", "/x.db"),
    ],
)
def test_four_slashes_are_an_absolute_path(url, path):
    assert parse_database_url(url, setting="broker_url") == Path(path)


def test_three_slashes_are_a_path_beside_the_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    path = parse_database_url("sqlite:///cardoon.db", setting="broker_url")

    assert path == tmp_path.resolve() / "cardoon.db"


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("sqlite://", "sqlite:///cardoon.db"),
        ("sqlite:///", "sqlite:///cardoon.db"),
        ("sqlite:////a%00b.db", "sqlite:///cardoon.db"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://host/file.db", "three slashes"),
        ("sqlite:///file.db?timeout=3", "remove the '?'"),
    ],
)
def test_a_url_without_a_usable_file_is_refused_with_a_remedy(url, remedy):
    with pytest.raises(ImproperlyConfigured, match="result_backend: ") as refused:
        parse_database_url(url, setting="result_backend")

    assert remedy in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite://me:secret@host/file.db", "sqlite://me:secret@host"])
def test_a_host_with_a_password_is_not_repeated(url):
    with pytest.raises(ImproperlyConfigured) as refused:
        parse_database_url(url, setting="broker_url")

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/x.db", "ext4"),
        ("/tmp/x.db", "tmpfs"),
        ("/tmpfile", "ext4"),
        ("/home/x.db", "nfs4"),
        ("/home/local/x.db", "ext4"),
        ("/mnt/with blank/x.db", "cifs"),
        ("/over/x.db", "9p"),
    ],
)
def test_the_innermost_and_latest_mount_holds_a_path(path, kind):
    assert file_system_of(Path(path), MOUNTS) == kind


def test_nothing_is_known_without_mounts():
    assert file_system_of(Path("/x.db"), "") == ""


@pytest.mark.parametrize("path", ["/home/x.db", "/mnt/with blank/x.db", "/over/x.db"])
def test_a_network_file_system_is_refused(path):
    with pytest.raises(ImproperlyConfigured, match="use a local disk"):
        check_file_system(Path(path), mounts=MOUNTS)


def test_a_local_file_system_is_accepted(tmp_path):
    check_file_system(Path("/home/local/x.db"), mounts=MOUNTS)
    check_file_system(tmp_path / "x.db")


def test_a_new_file_and_its_directories_are_private_whatever_the_umask(tmp_path):
    path = tmp_path / "one" / "two" / "x.db"
    before = os.umask(0)
    try:
        create_private(path)
    finally:
        os.umask(before)

    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, path.parents[1])]
    assert modes == [0o600, 0o700, 0o700]


def test_an_existing_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"content")
    path.chmod(0o640)

    create_private(path)

    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
