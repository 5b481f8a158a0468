"""Every way to change a file that file integrity is to notice, one test each."""

from __future__ import annotations

import array
import fcntl
import os
import shutil
import socket

import pytest

from cardoon.integrity.baseline import open_baseline
from cardoon.integrity.comparison import Comparison
from cardoon.integrity.findings import Kind
from tests.unit.integrity.tree import Tree, times_kept

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do that")
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.make()
    return made


def same_size_and_times(root):
    path = root / "tasks.py"
    with times_kept(path):
        path.write_text(path.read_text().replace("x + y", "x - y"))


def grown(root):
    with (root / "tasks.py").open("a") as file:
        file.write("# more\n")


def emptied(root):
    (root / "log.txt").write_text("")


def opened_to_others(root):
    (root / "tasks.py").chmod(0o666)


def set_user_id(root):
    (root / "tasks.py").chmod(0o4755)


def given_away(root):
    os.chown(root / "tasks.py", 1234, 4321)


def touched(root):
    os.utime(root / "tasks.py", ns=(1, 1))


def replaced_by_a_copy(root):
    path = root / "tasks.py"
    status = path.stat()
    shutil.copy2(path, root / ".new")
    (root / ".new").rename(path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def added_in_secret(root):
    with times_kept(root / "pkg"):
        (root / "pkg" / "new.py").write_text("")


def hidden_path_file(root):
    (root / ".x.pth").write_text("import os")


def deleted(root):
    (root / "pkg" / "more.py").unlink()


def link_leads_elsewhere(root):
    (root / "link").unlink()
    (root / "link").symlink_to("pkg.py")


def file_became_a_link(root):
    (root / "tasks.py").rename(root.parent / "moved.py")
    (root / "tasks.py").symlink_to(root.parent / "moved.py")


def linked_once_more(root):
    (root.parent / "other").hardlink_to(root / "tasks.py")


def access_list(root):
    # user::rw-, user:1234:rw-, group::r--, mask::rw-, other::r-- (acl(5), as the kernel stores it)
    rows = ((1, 6, -1), (2, 6, 1234), (4, 4, -1), (16, 6, -1), (32, 4, -1))
    told = b"".join(
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + (who % 2**32).to_bytes(4, "little")
        for tag, perm, who in rows
    )
    set_extended(root / "tasks.py", "system.posix_acl_access", (2).to_bytes(4, "little") + told)


def folder_opened(root):
    (root / "empty").chmod(0o777)


def pipe(root):
    os.mkfifo(root / "pipe")


def socket_left(root):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "socket"))


def log_grown(root):
    with (root / "log.txt").open("a") as file:
        file.write("two\n")


def two_swapped(root):
    one, other, third = root / "pkg.py", root / "log.txt", root / "third"
    one.rename(third)
    other.rename(one)
    third.rename(other)


def user_attribute(root):
    set_extended(root / "tasks.py", "user.note", b"1")


def capability(root):
    # cap_net_raw+ep, version 2 (linux/capability.h)
    told = (0x02000001).to_bytes(4, "little") + (1 << 13).to_bytes(4, "little") + bytes(12)
    set_extended(root / "tasks.py", "security.capability", told)


def file_became_a_folder(root):
    (root / "pkg.py").unlink()
    (root / "pkg.py").mkdir()


def large_file_changed_in_the_middle(root):
    with times_kept(root / "data.bin"), (root / "data.bin").open("r+b") as file:
        file.seek(150_000)
        file.write(b"y")


def set_extended(path, name, value):
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"this file system has no {name}: {error.strerror}")


@pytest.mark.parametrize(
    ("mutate", "told"),
    [
        (same_size_and_times, "changed: tasks.py (status_changed "),
        (grown, "changed: tasks.py (size "),
        (emptied, "changed: log.txt (size 4 -> 0"),
        (opened_to_others, "changed: tasks.py (mode 0644 -> 0666"),
        (set_user_id, "changed: tasks.py (mode 0644 -> 4755"),
        pytest.param(
            given_away, "changed: tasks.py (owner 0 -> 1234, group 0 -> 4321", marks=needs_root
        ),
        (touched, "changed: tasks.py (modified "),
        (replaced_by_a_copy, "changed: tasks.py (status_changed "),
        (added_in_secret, "added: pkg/new.py"),
        (hidden_path_file, "added: .x.pth"),
        (deleted, "removed: pkg/more.py"),
        (link_leads_elsewhere, "content tasks.py -> pkg.py"),
        (file_became_a_link, "changed: tasks.py (kind file -> link"),
        (linked_once_more, "changed: tasks.py (links 1 -> 2"),
        (access_list, "system.posix_acl_access none -> "),
        (folder_opened, "changed: empty (mode 0755 -> 0777)"),
        (pipe, "added: pipe"),
        (socket_left, "added: socket"),
        (log_grown, "changed: log.txt (size 4 -> 8"),
        (two_swapped, "changed: log.txt ("),
        (user_attribute, "user.note none -> 31"),
        pytest.param(capability, "security.capability none -> 01", marks=needs_root),
        (file_became_a_folder, "changed: pkg.py (kind file -> folder"),
        (large_file_changed_in_the_middle, "changed: data.bin (status_changed "),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
@pytest.mark.parametrize("quick", [False, True], ids=["full", "incremental"])
def test_a_change_is_found(tree, mutate, told, quick):
    mutate(tree.root)

    found = tree.check(quick=quick)

    assert any(told in one for one in found), found
    assert {one.split(":")[0] for one in found} <= {kind.value for kind in Kind}


@needs_root
def test_a_flag_of_the_file_system_is_found(tree):
    path = tree.root / "tasks.py"
    flags = array.array("l", [0])
    with path.open("rb") as file:
        try:
            fcntl.ioctl(file, FS_IOC_GETFLAGS, flags)
            before = flags[0]
            flags[0] |= IMMUTABLE
            fcntl.ioctl(file, FS_IOC_SETFLAGS, flags)
        except OSError as error:
            pytest.skip(f"this file system has no flags: {error.strerror}")
        try:
            found = tree.check()
        finally:
            flags[0] = before
            fcntl.ioctl(file, FS_IOC_SETFLAGS, flags)

    assert [one.split(" (")[0] for one in found] == ["changed: tasks.py"]


def test_nothing_is_found_where_nothing_changed(tree):
    assert tree.check() == tree.check(quick=True) == []


def test_content_that_times_and_inode_hide_is_found_by_a_full_check(tmp_path):
    """As if a block had been written beneath the file system: here the baseline has none of these."""
    tree = Tree(tmp_path, attributes="content")
    tree.make()
    same_size_and_times(tree.root)

    [found] = tree.check()

    assert found.startswith("changed: tasks.py (content ")


def test_an_incremental_check_reads_a_sample_of_what_looks_unchanged(tree):
    counts = {}
    for sampled in (0.0, 1.0):
        with open_baseline(tree.baseline) as opened:
            comparison = Comparison(tree.rules, opened.lines(), quick=True, sampled=sampled)
            assert list(comparison) == []
            counts[sampled] = comparison.files

    assert counts == {0.0: 0, 1.0: 6}


def test_a_growing_file_may_grow_and_nothing_else(tmp_path):
    tree = Tree(tmp_path, growing=("**/*.txt",))
    tree.make()
    log_grown(tree.root)
    assert tree.check() == []

    (tree.root / "log.txt").write_text("ONE\ntwo\nthree\n")
    [found] = tree.check()
    assert found.startswith("changed: log.txt (beginning ")

    emptied(tree.root)
    [found] = tree.check()
    assert found.startswith("changed: log.txt (size 4 -> 0")


def test_what_is_excluded_is_not_looked_at(tmp_path):
    tree = Tree(tmp_path, exclude=("**/pkg", "**/*.txt"))
    tree.make()
    deleted(tree.root)
    log_grown(tree.root)
    (tree.root / "pkg2").mkdir()

    assert tree.check() == ["added: pkg2"]
