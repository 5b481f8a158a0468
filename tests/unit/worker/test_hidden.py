"""What of the worker no task sees."""

from __future__ import annotations

import pytest

from cardoon.clock import SystemClock
from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.worker.hidden import find_secrets


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def find(**given):
        conf = Conf({})
        conf.update({"state_directory": str(tmp_path / "state"), **given})
        return set(find_secrets(Deployment(conf.settings(), clock=SystemClock())))

    return find


def test_the_projects_own_state_is_hidden(hidden, tmp_path):
    assert str(tmp_path / "state") in hidden()


def test_keys_and_keysets_are_hidden_wherever_they_are(hidden, tmp_path):
    found = hidden(
        security_key="keys/worker.key",
        security_certificate="keys/worker.pem",
        security_keyset="/srv/keyset",
        security_reply_keyset="/srv/replies",
        security_audit_log="/var/log/audit.jsonl",
    )

    assert {
        str(tmp_path / "keys/worker.key"),
        "/srv/keyset",
        "/srv/replies",
        "/var/log/audit.jsonl",
        "/var/log/audit.jsonl.key",
    } <= found
    assert str(tmp_path / "keys/worker.pem") not in found


def test_files_that_hold_a_secret_setting_are_hidden(hidden, tmp_path):
    (tmp_path / "url").write_text("redis://:secret@localhost/0")
    (tmp_path / "password").write_text("x")

    found = hidden(
        broker_url=f"file:{tmp_path}/url", security_key_password=f"file:{tmp_path}/password"
    )

    assert {str(tmp_path / "url"), str(tmp_path / "password")} <= found


def test_stores_and_what_stands_beside_them_are_hidden(hidden, tmp_path):
    found = hidden(broker_url="sqlite:///tasks.db", result_backend="sqlite:////srv/results.db")

    assert {f"{tmp_path}/tasks.db{part}" for part in ("", "-wal", "-shm")} <= found
    assert {f"/srv/results.db{part}" for part in ("", "-wal", "-shm")} <= found


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (
            {"security_key": "unix:/run/signer.sock", "security_certificate": "c"},
            "/run/signer.sock",
        ),
        ({"broker_url": "redis+socket:///run/redis.sock"}, "/run/redis.sock"),
        (
            {
                "broker_url": "rediss://queue.example/0",
                "broker_use_ssl": {"ssl_certfile": "/srv/c.pem", "ssl_keyfile": "/srv/k.key"},
            },
            "/srv/k.key",
        ),
    ],
    ids=["agent", "socket", "tls"],
)
def test_sockets_and_keys_of_connections_are_hidden(hidden, settings, path):
    assert path in hidden(**settings)
