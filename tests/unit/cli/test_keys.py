"""`cardoon keys`."""

from __future__ import annotations

import json
import stat
from types import SimpleNamespace

import pytest

from cardoon.security.keyholding import RECORD


@pytest.fixture
def keyset(project):
    """Where the project's keyset lies."""
    folder = project.state / "keyset"
    return SimpleNamespace(folder=folder, private_keys=lambda: sorted(folder.glob("*.key")))


def test_a_keyset_is_made_and_shown_without_its_private_keys(project, keyset):
    assert project.answer("keys", "init").endswith("keyset: made\n")
    assert project.answer("keys", "init").endswith("keyset: kept\n")

    [path] = keyset.private_keys()
    shown = project.answer("keys", "show")
    told = project.json("keys", "show", "--json")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "workers, version 1" in shown
    assert "signed by CN=client" in shown
    [key] = told["keys"]
    assert (key["id"], key["state"], key["private"]) == (path.stem, "sealed to now", True)
    secret = path.read_text().splitlines()[1]
    assert secret not in shown + json.dumps(told)


def test_a_keyset_is_made_where_the_settings_ask_for_encryption_already(
    project, keyset, monkeypatch
):
    project.answer("init")
    monkeypatch.setenv("CARDOON_BROKER_URL", "rediss://broker.example")
    monkeypatch.setenv("CARDOON_SECURITY_ENCRYPT", "body")

    assert project.answer("keys", "init").endswith("keyset: made\n")
    assert project.json("keys", "show", "--json")["version"] == 1


def test_keys_take_over_one_after_the_other(project, keyset):
    project.answer("keys", "init")
    [first] = keyset.private_keys()

    project.answer("keys", "rotate", "--overlap", "0")
    told = project.answer("keys", "rotate")

    assert "takes over at" in told
    shown = project.json("keys", "show", "--json")
    assert shown["version"] == 3
    assert [key["state"] for key in shown["keys"]] == [
        "superseded",
        "sealed to now",
        "takes over then",
    ]
    assert "has not taken over yet" in project.error("keys", "rotate")
    assert "kept for 37 days" in project.answer("keys", "retire")
    assert project.answer("keys", "retire", "--at-once") == f"deleted key {first.stem}\n"
    assert first not in keyset.private_keys()
    assert len(keyset.private_keys()) == 2
    trail = (project.state / "audit.jsonl").read_text()
    assert [trail.count(f"keyset.{one}") for one in ("created", "rotated", "retired")] == [1, 2, 1]


def test_a_record_is_renewed_also_where_only_the_record_is(project, keyset):
    project.answer("keys", "init", "--days", "1")
    [path] = keyset.private_keys()
    path.unlink()
    before = project.json("keys", "show", "--json")

    project.answer("keys", "renew", "--days", "30")

    after = project.json("keys", "show", "--json")
    assert after["version"] == 2
    assert after["valid_until"] - before["valid_until"] >= 29 * 86_400 - 60
    assert [key["private"] for key in after["keys"]] == [False]
    assert "not here" in project.answer("keys", "show")


def test_the_clients_keys_lie_where_the_settings_say(project, tmp_path):
    assert "security_reply_keyset is not set" in project.error("keys", "init", "--for", "clients")

    folder = str(tmp_path / "reply")
    project.answer("keys", "init", "--for", "clients", "--folder", folder)

    assert (
        project.json("keys", "show", "--for", "clients", "--folder", folder, "--json")["name"]
        == "clients"
    )
    assert "keyset of 'clients', and 'workers' is wanted" in project.error(
        "keys", "show", "--folder", folder
    )


def test_what_is_no_keyset_is_said_so(project, keyset):
    assert "no keyset here; make one with `cardoon keys init`" in project.error("keys", "show")
    keyset.folder.mkdir()
    (keyset.folder / RECORD).write_bytes(b"nothing")

    assert "malformed" in project.error("keys", "show")
