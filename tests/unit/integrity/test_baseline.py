"""A baseline counts only as it was approved, on its host, and if it is no older than one that was seen."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cardoon.exceptions import ImproperlyConfigured, SecurityError
from cardoon.integrity.approval import signature_path
from cardoon.integrity.approved import make_place, open_approved
from cardoon.integrity.baseline import write_baseline
from cardoon.integrity.manifest import Head, parse_entry
from cardoon.integrity.rules import Rules, read_rules, sort_key
from cardoon.integrity.serials import highest_serial
from cardoon.integrity.walk import Walk
from tests.unit.integrity.tree import Tree


@pytest.fixture
def tree(tmp_path):
    made = Tree(tmp_path)
    made.make()
    return made


def refused(tree):
    with pytest.raises(SecurityError) as caught:
        tree.check()
    return str(caught.value)


def test_a_walk_comes_in_the_order_of_path_parts(tree):
    paths = [path for path, _ in Walk(tree.rules)]

    assert paths == sorted(paths, key=sort_key)
    assert [parse_entry(line).path for _, line in Walk(tree.rules)] == paths
    assert f"{tree.root}/pkg/more.py" in paths


def test_one_that_was_changed_is_refused(tree):
    content = tree.baseline.read_bytes()
    tree.baseline.write_bytes(content.replace(b"tasks.py", b"tasks.PY"))

    assert "changed after it was signed" in refused(tree)


def test_one_that_is_not_signed_is_refused(tree):
    signature_path(tree.baseline).unlink()

    assert "sign the baseline with `cardoon integrity sign`" in refused(tree)


def test_one_that_somebody_else_has_signed_is_refused(tree):
    tree.sign(Ed25519PrivateKey.generate())

    assert "a key that integrity_key does not name" in refused(tree)


@pytest.mark.parametrize("content", [b"", b"\xd2\x84", b"x" * 5000, bytes(70)])
def test_a_signature_file_of_other_bytes_is_refused(tree, content):
    signature_path(tree.baseline).write_bytes(content)

    assert "the signature file holds no signature" in refused(tree)


def test_a_forged_signature_is_refused(tree):
    path = signature_path(tree.baseline)
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)

    assert "forged or damaged" in refused(tree)


def test_one_of_another_host_is_refused(tree):
    tree.make(host="elsewhere", serial=2)

    assert "the baseline of host 'elsewhere'" in refused(tree)


def test_one_of_any_host_counts(tree):
    tree.make(host="*", serial=2)

    assert tree.check() == []


def test_an_older_one_is_refused(tree):
    old = tree.baseline.read_bytes(), signature_path(tree.baseline).read_bytes()
    tree.make(serial=2)
    assert tree.check() == []
    tree.baseline.write_bytes(old[0])
    signature_path(tree.baseline).write_bytes(old[1])

    assert "serial 1 is older than 2" in refused(tree)


def test_a_serial_that_somebody_has_made_unreadable_is_no_way_back(tree):
    tree.check()
    note = tree.place.state / "baseline.serial"
    assert highest_serial(tree.place.state) == 1
    note.write_text("{}")

    assert "does not say which baseline was seen" in refused(tree)


def test_one_that_does_not_count_does_not_raise_the_serial(tree):
    tree.make(serial=9, key=Ed25519PrivateKey.generate())
    refused(tree)

    assert highest_serial(tree.place.state) == 0


def test_one_that_is_cut_off_is_not_signed(tree):
    lines = tree.baseline.read_bytes().splitlines(keepends=True)
    tree.baseline.write_bytes(b"".join(lines[:-1]))

    with pytest.raises(SecurityError, match="cut off"):
        tree.sign()


def test_one_that_changes_while_it_is_read_is_refused(tree):
    for number in range(1500):
        tree.write(f"z/{number}", "")
    tree.make(serial=2)
    with open_approved(tree.place) as opened, tree.baseline.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(content.replace(b"z/999", b"z/998"))
        file.flush()
        with pytest.raises(SecurityError, match="changed while it was read"):
            list(opened.lines())


def test_a_new_baseline_has_no_signature_of_the_last(tree):
    write_baseline(tree.baseline, Head(2, "here", "", tree.rules), Walk(tree.rules))

    assert not signature_path(tree.baseline).exists()


@pytest.mark.parametrize(
    "line", [b"[]", b"{", b"[1]", b'["/x","f",1,2,3,4,5,6,7,8,"no digest",{}]']
)
def test_a_line_that_describes_no_file_is_an_error(line):
    with pytest.raises(SecurityError):
        parse_entry(line)


def test_names_cannot_forge_a_line_of_a_report(tree):
    (tree.root / os.fsdecode(b"x\n\x1b[2J\xff\xe2\x80\xae")).mkdir()

    [found] = tree.check()

    assert found == r"added: x\n\x1b[2J\udcff\u202e"


def test_a_loop_of_links_is_not_followed(tree):
    (tree.root / "loop").symlink_to("..")

    assert tree.check() == ["added: loop"]


def test_a_root_that_is_not_there_is_not_to_come(tmp_path):
    tree = Tree(tmp_path)
    late = tmp_path / "preload"
    tree.rules = Rules((str(tree.root), str(late)))
    tree.make()
    assert tree.check() == []
    late.write_text("evil.so")

    assert tree.check() == [
        f"changed: {late} (kind nothing -> file, content  -> {sha(b'evil.so')})"
    ]


def test_a_root_that_is_gone_is_told(tmp_path):
    tree = Tree(tmp_path)
    single = tmp_path / "policy.toml"
    single.write_text("")
    tree.rules = Rules((str(single),))
    tree.make()
    single.unlink()

    assert tree.check() == [f"changed: {single} (kind file -> nothing, content {sha(b'')} -> )"]


def test_roots_within_others_are_walked_once(tree):
    rules = Rules((str(tree.root), f"{tree.root}/pkg", f"{tree.root}2"))

    assert rules.outermost_roots() == [str(tree.root), f"{tree.root}2"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("root = ['/x']", "unknown key 'root'"),
        ("roots = []", "no roots"),
        ("roots = ['x']", "name it by its absolute path"),
        ("roots = ['/x/../y']", "name it by its absolute path"),
        ("roots = '/x'", "roots is not a list of strings"),
        ("roots = ['/x']\nexclude = ['*.log']", "begin it with / or"),
        ("roots = ['/x']\nattributes = 'some'", "use 'all' or 'content'"),
        ("roots = ['/x']\nattributes = 1", "attributes is not text"),
        ("roots = [", "no TOML"),
    ],
)
def test_rules_that_mean_nothing_are_errors(tmp_path, content, told):
    path = tmp_path / "rules.toml"
    path.write_text(content)

    with pytest.raises(ImproperlyConfigured, match=told):
        read_rules(str(path))


def test_without_a_key_nothing_counts(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="integrity_key is not set"):
        make_place("x", (), tmp_path)


def sha(content):
    return hashlib.sha256(content).hexdigest()
