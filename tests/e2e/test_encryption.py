"""A real worker with encryption: what lies on the disk says nothing, and keys change while it runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cardoon import chain, chord, group
from tests.e2e.conftest import DEADLINE, Site
from tests.servers.ground import running
from tests.servers.redis import RedisServer

SECRET = "rosebud-4711"
ON = {"CARDOON_SECURITY_ENCRYPT": "body"}


@pytest.fixture
def sealed_site(tmp_path) -> Site:
    """A project whose client and workers seal all that they send."""
    site = Site(tmp_path)
    site.app.conf.security_encrypt = "body"
    yield site
    site.stop()


def run(site, *words, env=None, status=0):
    """What a command says, to whom it may concern."""
    done = subprocess.run(
        [sys.executable, "-m", "cardoon", *words],
        cwd=site.folder,
        env={**os.environ, **ON, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def on_disk(site):
    """What the broker's and the result store's files hold, and the logs of the audit trail."""
    folder = site.folder / ".cardoon"
    files = [*folder.glob("cardoon.db*"), folder / "audit.jsonl"]
    return b"".join(path.read_bytes() for path in files if path.is_file())


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_nothing_that_tasks_are_given_or_say_is_readable_on_the_disk(sealed_site, pool):
    site = sealed_site
    site.start("-c", "2" if pool == "prefork" else "1", "-P", pool, env=ON)
    add, fail, echo = (site.app.signature(f"work.{name}") for name in ("add", "fail", "echo"))

    kept = echo.clone([SECRET])
    tree = chord(group(kept, kept), echo, app=site.app).apply_async()
    line = chain(echo.clone([f"{SECRET}-1"]), echo, app=site.app).apply_async()
    failed = fail.clone([SECRET]).apply_async()
    sums = site.app.send_many([add.clone([number, number]) for number in range(3)])

    assert tree.get(timeout=DEADLINE) == [SECRET, SECRET]
    assert line.get(timeout=DEADLINE) == f"{SECRET}-1"
    with pytest.raises(ValueError, match=SECRET):
        failed.get(timeout=DEADLINE)
    assert [one.get(timeout=DEADLINE) for one in sums] == [0, 2, 4]
    if pool == "prefork":
        assert site.call("ask_other", 3) == 4
    held = on_disk(site)
    assert SECRET.encode() not in held
    assert failed.id.encode() in held


def test_keys_change_while_a_worker_runs_and_nothing_is_lost(sealed_site):
    site = sealed_site
    site.start("-c", "1", env=ON)
    before = site.send("echo", "before", countdown=3)

    run(site, "keys", "rotate", "--overlap", "0")
    site.app.close()  # the client hears of it within seconds, or with the next connection
    after = site.send("echo", "after")

    assert after.get(timeout=DEADLINE) == "after"
    assert before.get(timeout=DEADLINE) == "before"
    run(site, "keys", "retire", "--at-once")
    site.app.close()
    assert site.call("echo", "later") == "later"
    assert run(site, "result", after.id).strip() == '"after"'
    assert "refused" not in site.log.read_text()


def test_on_a_server_clients_have_no_private_key_of_the_workers(tmp_path):
    """As it is set up in earnest: Redis, identities, the folder for workers, the record for clients."""
    with running(RedisServer(tmp_path / "redis")) as server:
        site = Site(tmp_path / "project")
        site.folder.mkdir()
        run(site, "init", ".")
        run(site, "keys", "init")
        record = site.folder / "for-clients" / "keyset.cose"
        record.parent.mkdir(mode=0o700)
        record.write_bytes((site.folder / ".cardoon" / "keyset" / record.name).read_bytes())
        stores = {"broker_url": server.url, "result_backend": server.url}
        client = {**stores, "security_encrypt": "body", "security_keyset": str(record.parent)}
        site.app.conf.update(client)
        try:
            environment = {f"CARDOON_{name.upper()}": url for name, url in stores.items()}
            site.start("-c", "1", env={**ON, **environment})
            failed = site.send("fail", SECRET)
            with pytest.raises(ValueError, match=SECRET):
                failed.get(timeout=DEADLINE)
            told = site.send("echo", SECRET)
            assert told.get(timeout=DEADLINE) == SECRET

            assert run(site, "result", told.id, env=environment).strip() == f'"{SECRET}"'
            other = {f"CARDOON_{name.upper()}": value for name, value in client.items()}
            refused = run(site, "result", told.id, env=other, status=1)
            assert "its state is SUCCESS, but this process cannot read its result" in refused
            assert SECRET not in refused
        finally:
            site.stop()
