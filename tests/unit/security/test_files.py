"""Which files are read, and which are refused for who could have written them."""

from __future__ import annotations

import os

import pytest

from cardoon.exceptions import SecurityError
from cardoon.security import files


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "client.key"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    return path


def test_a_file_of_ours_is_read(secret):
    assert files.load_secret(secret) == files.load_guarded(secret) == b"secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660, 0o644, 0o666, 0o610])
def test_a_key_that_others_may_touch_is_refused_with_the_remedy(secret, mode):
    secret.chmod(mode)

    with pytest.raises(SecurityError, match=f"mode {mode:04o}.*chmod 600 {secret}"):
        files.load_secret(secret)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o664, 0o666])
def test_a_certificate_that_others_may_write_is_refused_with_the_remedy(secret, mode):
    secret.chmod(mode)

    with pytest.raises(SecurityError, match=f"mode {mode:04o}.*chmod go-w {secret}"):
        files.load_guarded(secret)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444])
def test_a_certificate_that_others_may_read_is_read(secret, mode):
    secret.chmod(mode)

    assert files.load_guarded(secret) == b"secret"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_file_in_a_folder_that_others_may_write_is_refused(secret, mode):
    secret.parent.chmod(mode)

    with pytest.raises(SecurityError, match=f"chmod go-w {secret.parent}"):
        files.load_secret(secret)


def test_a_file_in_a_sticky_folder_is_read(secret):
    secret.parent.chmod(0o1777)

    assert files.load_secret(secret) == b"secret"


def test_a_sticky_folder_is_no_place_for_a_store(secret):
    secret.parent.chmod(0o1777)

    with pytest.raises(SecurityError, match="others may write into this directory"):
        files.check_directory(secret.parent)


def test_a_link_is_judged_by_where_it_leads(secret, tmp_path):
    elsewhere = tmp_path / "open"
    elsewhere.mkdir()
    target = elsewhere / "target.key"
    secret.rename(target)
    secret.symlink_to(target)
    assert files.load_secret(secret) == b"secret"
    elsewhere.chmod(0o777)

    with pytest.raises(SecurityError, match=f"chmod go-w {elsewhere}"):
        files.load_secret(secret)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("given", ["file", "folder"])
def test_what_belongs_to_somebody_else_is_refused(secret, given):
    os.chown(secret if given == "file" else secret.parent, 12_345, -1)

    with pytest.raises(SecurityError, match=r"belongs to user 12345.*chown 0"):
        files.load_secret(secret)


@pytest.fixture
def lent(secret):
    """A key of root's, beside an ordinary user who is in its group."""
    if os.geteuid() != 0:
        pytest.skip("only root can lend a file")
    os.chown(secret, 0, 12_345)
    secret.chmod(0o440)
    open_way_to(secret)
    return secret


@pytest.mark.parametrize(
    ("mode", "owner", "remedy"),
    [
        (0o440, 0, None),
        (0o640, 0, None),
        (0o460, 0, "chmod 600"),
        (0o444, 0, "chmod 600"),
        (0o450, 0, "chmod 600"),
        (0o440, 12_345, "chmod 600"),
        (0o440, 12_346, "belongs to user 12346"),
    ],
)
def test_a_key_of_roots_may_be_lent_to_our_group_for_reading(lent, mode, owner, remedy):
    os.chown(lent, owner, 12_345)
    lent.chmod(mode)

    said = as_user(12_345, lambda: files.load_secret(lent).decode())

    assert remedy in said if remedy else said == "secret"


def test_a_key_of_roots_that_a_group_may_read_is_refused_by_root(lent):
    with pytest.raises(SecurityError, match=r"mode 0440.*chmod 600"):
        files.load_secret(lent)


def open_way_to(path):
    """Let everybody through the folders above, which pytest makes for their owner alone."""
    for folder in path.parents:
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)


def as_user(number, work):
    """What `work` says, or why it is refused, in a process of that user and group."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(number, number, number)
            os.setresuid(number, number, number)
            try:
                said = work()
            except SecurityError as error:
                said = str(error)
            os.write(theirs, said.encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said


def test_a_file_larger_than_agreed_is_refused(secret):
    assert files.load_guarded(secret, max_bytes=6) == b"secret"

    with pytest.raises(SecurityError, match="more than 5 bytes"):
        files.load_guarded(secret, max_bytes=5)


def test_a_named_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe", mode=0o600)

    with pytest.raises(SecurityError, match="no regular file"):
        files.load_secret(tmp_path / "pipe")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SecurityError):
        files.load_guarded(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SecurityError, match=r"nobody\.key: cannot be read: No such file"):
        files.load_secret(tmp_path / "nobody.key")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SecurityError, match="nowhere: cannot be looked at: No such file"):
        files.load_secret(tmp_path / "nowhere" / "client.key")
