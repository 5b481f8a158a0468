"""`cardoon integrity`: from a first baseline to one that is approved, checked and renewed."""

from __future__ import annotations

import json
import signal

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.unit.integrity.tree import pem_of, private_pem_of


@pytest.fixture
def approver(project):
    """A key of somebody else's; the host has its public half."""
    project.answer("init")
    key = Ed25519PrivateKey.generate()
    private = project.folder / "approver.key"
    private.write_bytes(private_pem_of(key))
    private.chmod(0o600)
    (project.folder / "approver.pem").write_bytes(pem_of(key))
    code = project.folder / "code"
    code.mkdir()
    (code / "tasks.py").write_text("x = 1\n")
    return key


NAMED = ("--baseline", "host.baseline")
JUDGED = (*NAMED, "--public-key", "approver.pem")


def check(project, *words):
    done = project.run("integrity", "check", *JUDGED, *words)
    return done.exit_code, done.stdout


def test_a_baseline_is_made_signed_and_checked(project, approver):
    made = project.json("integrity", "init", *NAMED, "--root", "code", "--json")
    signed = project.answer("integrity", "sign", "host.baseline", "--key", "approver.key")
    code, told = check(project, "--json")

    assert (made["serial"], made["entries"], made["unreadable"]) == (1, 2, 0)
    assert made["digest"] in signed
    assert (code, json.loads(told)["findings"]) == (0, [])


def test_what_was_changed_is_told_and_is_the_exit_code(project, approver):
    project.answer("integrity", "init", *NAMED, "--root", "code", "--key", "approver.key")
    (project.folder / "code" / "new.pth").write_text("import os\n")
    (project.folder / "code" / "tasks.py").chmod(0o600)

    code, told = check(project)
    quick, as_json = check(project, "--incremental", "--json")

    assert code == quick == 4 + 16
    assert f"added: {project.folder}/code/new.pth\n" in told
    assert "tasks.py (mode 0644 -> 0600, " in told
    assert json.loads(as_json)["found"] == {"added": 1, "removed": 0, "changed": 1, "unreadable": 0}
    audit = (project.state / "audit.jsonl").read_text()
    assert '"event":"integrity.drift"' in audit
    assert "new.pth" in audit


def test_the_next_baseline_has_to_be_signed_again(project, approver):
    project.answer("integrity", "init", *NAMED, "--root", "code", "--key", "approver.key")
    assert check(project)[0] == 0
    (project.folder / "code" / "tasks.py").unlink()

    told = project.answer("integrity", "update", *NAMED)

    assert "removed: " in told
    assert "serial 2 of host" in told
    assert "sign the baseline with" in project.error("integrity", "check", *JUDGED)
    project.answer("integrity", "sign", "host.baseline", "--key", "approver.key")
    assert check(project)[0] == 0


def test_an_older_one_is_refused(project, approver):
    project.answer("integrity", "init", *NAMED, "--root", "code", "--key", "approver.key")
    kept = {one: one.read_bytes() for one in project.folder.glob("host.baseline*")}
    project.answer("integrity", "update", *NAMED, "--key", "approver.key")
    check(project)
    for path, content in kept.items():
        path.write_bytes(content)

    assert "serial 1 is older than 2" in project.error("integrity", "check", *JUDGED)


def test_a_baseline_is_shown_with_whether_it_counts(project, approver):
    project.answer("integrity", "init", *NAMED, "--root", "code")
    done = project.run("integrity", "show", *JUDGED)
    assert done.exit_code == 1
    assert "does not count: " in done.stdout

    project.answer("integrity", "sign", "host.baseline", "--key", "approver.key")
    told = project.json("integrity", "show", *JUDGED, "--json")
    assert (told["counts"], told["rules"]["roots"]) == (True, [str(project.folder / "code")])


def test_rules_may_be_in_a_file(project, approver):
    (project.folder / "rules.toml").write_text(
        f"roots = ['{project.folder}/code']\nexclude = ['**/*.py']\n"
    )

    made = project.json("integrity", "init", *NAMED, "--rules", "rules.toml", "--json")

    assert made["entries"] == 1
    project.usage("integrity", "init", "--baseline", "x", "--rules", "rules.toml", "--root", "code")


def test_one_that_is_there_is_not_made_again(project, approver):
    project.answer("integrity", "init", *NAMED, "--root", "code")

    assert "use `cardoon integrity update`" in project.error(
        "integrity", "init", *NAMED, "--root", "code"
    )


def test_without_a_name_it_says_where_to_put_one(project):
    assert "integrity_baseline is not set" in project.error("integrity", "check")
    assert "name the private key" in project.usage("integrity", "sign", "x")


def test_a_key_that_others_may_read_signs_nothing(project, approver):
    (project.folder / "approver.key").chmod(0o644)
    project.answer("integrity", "init", *NAMED, "--root", "code")

    assert "open to others" in project.error(
        "integrity", "sign", "host.baseline", "--key", "approver.key"
    )


def test_changes_are_told_as_they_happen(project, approver):
    project.answer("integrity", "init", *NAMED, "--root", "code", "--key", "approver.key")
    (project.folder / "code" / "first.py").write_text("")
    with project.start("integrity", "watch", *JUDGED, "--json") as process:
        first = json.loads(process.stdout.readline())
        (project.folder / "code" / "second.py").write_text("")
        second = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)

    assert first["path"] == str(project.folder / "code" / "first.py")
    assert second["path"] == str(project.folder / "code" / "second.py")
    assert (rest, errors, process.returncode) == ("", "", 4)


def test_packages_are_held_against_their_records_without_a_baseline(project):
    info = project.folder / "site" / "shop-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("shop.py,sha256=abc,1\nshop-1.0.dist-info/RECORD,,\n")
    (project.folder / "site" / "shop.py").write_text("x = 1\n")
    (project.folder / "site" / "x\x1b.pth").write_text("")

    done = project.run("integrity", "records", "site")
    as_json = json.loads(project.run("integrity", "records", "site", "--json").stdout)

    assert done.exit_code == 4 + 16
    assert "shop.py (RECORD sha256=abc -> sha256=" in done.stdout
    assert "x\\x1b.pth (RECORD no line -> a file)\n" in done.stdout
    assert done.stdout.endswith("1 packages, 1 files, 2 findings\n")
    assert [one["kind"] for one in as_json["findings"]] == ["changed", "added"]
