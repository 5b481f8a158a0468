"""Installed packages against their RECORD."""

from __future__ import annotations

import base64
import hashlib
import os

import pytest

from cardoon.integrity.findings import Kind
from cardoon.integrity.records import RecordCheck


@pytest.fixture
def site(tmp_path):
    """A folder with one package, as an installer leaves it."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("x = 1\n")
    (tmp_path / "shop.pth").write_text("# of the wheel\n")
    write_record(tmp_path, "shop/__init__.py", "shop.pth")
    return tmp_path


def write_record(site, *names, more=""):
    info = site / "shop-1.0.dist-info"
    info.mkdir(exist_ok=True)
    lines = [f"{name},sha256={digest_of(site / name)},1\n" for name in names]
    unhashed = "shop/__pycache__/gone.pyc,,\nshop-1.0.dist-info/RECORD,,\n"
    (info / "RECORD").write_text("".join(lines) + unhashed + more)


def digest_of(path):
    raw = hashlib.sha256(path.read_bytes()).digest()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def find(site):
    return [(one.kind, os.path.relpath(one.path, site)) for one in RecordCheck([str(site)])]


def test_a_package_as_it_was_installed_is_no_finding(site):
    looked = RecordCheck([str(site), f"{site}/"])
    assert list(looked) == []
    assert (looked.records, looked.files) == (1, 2)


def test_a_changed_file_is_found_though_its_size_and_time_are_the_old_ones(site):
    path = site / "shop" / "__init__.py"
    before = path.stat()
    path.write_text("x = 2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert find(site) == [(Kind.CHANGED, "shop/__init__.py")]


def test_a_file_that_is_gone_is_found(site):
    (site / "shop" / "__init__.py").unlink()
    assert find(site) == [(Kind.REMOVED, "shop/__init__.py")]


@pytest.mark.parametrize("name", ["x.pth", "sitecustomize.py", "json.py", "json.so", "json.pyc"])
def test_what_python_runs_and_no_record_lists_is_found(site, name):
    (site / name).write_text("")
    assert find(site) == [(Kind.ADDED, name)]


@pytest.mark.parametrize("target", ["/nowhere", "x.pth"])
def test_a_link_to_nowhere_or_to_itself_is_found_as_well(site, target):
    (site / "x.pth").symlink_to(target)
    assert find(site) == [(Kind.ADDED, "x.pth")]


def test_a_folder_without_a_record_is_passed_over(tmp_path):
    (tmp_path / "script.py").write_text("")
    assert find(tmp_path) == []
    assert find(tmp_path / "missing") == []


def test_a_pipe_in_place_of_a_file_does_not_hold_the_check_up(site):
    path = site / "shop" / "__init__.py"
    path.unlink()
    os.mkfifo(path)
    assert find(site) == [(Kind.UNREADABLE, "shop/__init__.py")]


@pytest.mark.parametrize("line", ["shop.pth,md5=abc,1\n", 'shop.pth,"",1\nshop.pth,rot13,\n'])
def test_a_weak_or_unknown_digest_does_not_count(site, line):
    write_record(site, "shop/__init__.py", more=line)
    assert find(site) == [(Kind.UNREADABLE, "shop.pth")]


@pytest.mark.parametrize("content", [b"\xff\xfe,x\n", b"a\0b,sha256=x,1\n"])
def test_a_record_of_nonsense_is_a_finding_and_no_error(site, content):
    (site / "shop.pth").unlink()
    (site / "shop-1.0.dist-info" / "RECORD").write_bytes(content)
    assert [kind for kind, _ in find(site)] == [Kind.UNREADABLE]


def test_a_record_that_is_a_folder_is_a_finding(site):
    record = site / "shop-1.0.dist-info" / "RECORD"
    record.unlink()
    record.mkdir()
    assert (Kind.UNREADABLE, "shop-1.0.dist-info/RECORD") in find(site)
