"""A real worker with encryption: what lies on the disk says nothing, and keys change while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pika
import pytest

from cardoon import chain, chord, group
from cardoon.clock import SystemClock
from cardoon.security.authority import ensure_identity
from tests.e2e.conftest import DEADLINE, PROJECT, Site
from tests.e2e.test_postgres import PostgresSite
from tests.servers.ground import running
from tests.servers.postgres import postgres
from tests.servers.redis import RedisServer

__all__ = ["postgres"]

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


def test_the_outcomes_that_a_killed_worker_had_not_stored_are_sealed_by_the_next(sealed_site):
    site = sealed_site
    first = site.start("-c", "2", "-n", "one", env=ON)
    late = site.app.signature("work.say_late", (SECRET, site.path("started"), site.path("gate")))
    alone, waited_for = late.apply_async(), chain(late, site.app.signature("work.echo"))()
    site.until(lambda: len(site.lines("started")) == 2)
    first.send_signal(signal.SIGSTOP)
    Path(site.path("gate")).touch()
    site.until(lambda: sum(SECRET.encode() in one.read_bytes() for one in outcomes(site)) == 2)
    assert all(one.stat().st_mode & 0o077 == 0 for one in outcomes(site))

    first.kill()
    first.wait()
    second = site.start("-c", "2", "-n", "one", env=ON)

    assert alone.get(timeout=DEADLINE) == waited_for.get(timeout=DEADLINE) == SECRET
    assert len(site.lines("started")) == 2, "they ran again"
    assert "2 tasks had ended when the worker was killed here" in site.log.read_text()
    assert SECRET.encode() not in on_disk(site)
    second.send_signal(signal.SIGTERM)
    second.wait(DEADLINE)
    left = [one for one in site.folder.rglob(".cardoon/**/*") if one.is_file()]
    assert not [one for one in left if SECRET.encode() in one.read_bytes()]


def outcomes(site):
    """Where task processes write down how tasks ended, for a worker that cannot hear them."""
    return list(site.folder.rglob("*.outcomes"))


@pytest.fixture
def postgres_site(tmp_path, postgres):
    site = PostgresSite(tmp_path, postgres.empty())
    site.environment |= ON
    site.app.conf.security_encrypt = "body"
    run(site, "keys", "init")
    yield site
    site.stop()


def test_nothing_is_readable_in_postgresql(postgres_site, postgres):
    site = postgres_site
    waiting = site.send("echo", SECRET, countdown=3600)
    site.start("-c", "2")
    told = site.send("echo", SECRET)
    failed = site.send("fail", SECRET)
    echo = site.app.signature("work.echo")
    tree = chord([echo.clone([SECRET])] * 2, echo, app=site.app).apply_async()

    assert told.get(timeout=DEADLINE) == SECRET
    assert tree.get(timeout=DEADLINE) == [SECRET, SECRET]
    with pytest.raises(ValueError, match=SECRET):
        failed.get(timeout=DEADLINE)
    tables = postgres.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'cardoon'")
    held = "".join(
        str(row)
        for (table,) in tables
        for row in postgres.ask(f'SELECT t::text FROM cardoon."{table}" t')
    )
    for one in (waiting, told, failed):
        assert one.id in held
    # What is bytes is shown in hexadecimal.
    assert b"work.echo".hex() in held
    assert SECRET not in held
    assert SECRET.encode().hex() not in held


def test_nothing_is_readable_in_rabbitmq_or_in_the_file_beside_it(tmp_path, rabbitmq):
    site = Site(tmp_path)
    for role in ("client", "worker"):
        ensure_identity(tmp_path / ".cardoon", role, clock=SystemClock())
    file = tmp_path / "results.db"
    prefix = f"e{uuid.uuid4().hex}"
    site.app.conf.update(
        broker_url=rabbitmq.url,
        result_backend=f"sqlite:///{file}",
        broker_transport_options={"global_keyprefix": prefix, "store": f"sqlite:///{file}"},
        security_encrypt="body",
    )
    run(site, "keys", "init")
    environment = {
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
        "CARDOON_BROKER_URL": rabbitmq.url,
        "CARDOON_RESULT_BACKEND": f"sqlite:///{file}",
        "RABBITMQ_TEST_PREFIX": prefix,
        "RABBITMQ_TEST_STORE": f"sqlite:///{file}",
    }
    try:
        told, failed = site.send("echo", SECRET), site.send("fail", SECRET)
        frames = taken_from(rabbitmq, prefix)
        assert {b"work.echo" in one or b"work.fail" in one for one in frames} == {True}
        assert len(frames) == 2
        assert not [one for one in frames if SECRET.encode() in one]
        site.start("-c", "2", env={**ON, **environment}, app="rabbit")
        later = site.send("echo", SECRET, countdown=3600)

        assert told.get(timeout=DEADLINE) == SECRET
        with pytest.raises(ValueError, match=SECRET):
            failed.get(timeout=DEADLINE)
        held = b"".join(one.read_bytes() for one in tmp_path.glob("results.db*") if one.is_file())
        assert SECRET.encode() not in held
        assert later.id.encode() in held
        assert told.id.encode() in held
    finally:
        site.stop()


def taken_from(rabbitmq, prefix):
    """What the two messages in a queue are, to somebody who may read it; they stay there."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    try:
        channel = connection.channel()
        got = [channel.basic_get(f"{prefix}.0.celery") for _ in range(2)]
        return [body for method, _, body in got if method is not None]
    finally:
        connection.close()
