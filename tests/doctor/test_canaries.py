"""`cardoon doctor --send-canaries` against real workers: some that refuse what they must, and some that do not."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import uuid

import pytest

from cardoon.broker import Kept
from cardoon.cli.codes import Exit
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.postgres.access import commands as postgres_commands
from cardoon.redis.access import commands
from tests.e2e.sites import PROJECT, Site
from tests.servers.ground import running
from tests.servers.postgres import PASSWORD, postgres
from tests.servers.redis import RedisServer

__all__ = ["postgres"]

JUDGED = ("--only", "MSG-01", "--only", "MSG-02", "--only", "MSG-03")
REFUSED = {
    "replayed": "replayed",
    "unsigned": "unsigned",
    "changed": "wrong-digest",
    "forged": "bad-signature",
    "expired": "expired",
    "astray": "wrong-audience",
}
LAWS = """
version = 1
[role.client]
ids = ["spiffe://cardoon.local/client"]
[role.worker]
ids = ["spiffe://cardoon.local/worker"]
[[allow]]
role = "worker"
action = ["result"]
[[allow]]
role = "client"
action = "send"
task = ["work.*"]
"""


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    run(made, "init", ".")
    yield made
    made.stop()


def run(site, *words, **environ):
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.getenv("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "cardoon", *words],
        cwd=site.folder,
        env={**os.environ, **site.environment, "PYTHONPATH": path, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def doctor(site, *words, app="work", **environ):
    """Its exit code, what it says of each check, and what became of each canary."""
    done = run(site, "-A", app, "doctor", *JUDGED, "--send-canaries", "--json", *words, **environ)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    checks = {one["id"]: one for one in told["checks"]}
    fates = {one["canary"]: (one["fate"], one["detail"]) for one in told["canaries"]["sent"]}
    return done.returncode, checks, fates, told["canaries"]


def check_that_all_are_well(checks, fates):
    assert fates.pop("genuine") == ("ran", "SUCCESS")
    assert fates == {name: ("refused", reason) for name, reason in REFUSED.items()}
    assert (checks["MSG-01"]["state"], checks["MSG-03"]["state"]) == ("ok", "ok")


def kept(site):
    """The ids of all that are kept."""
    broker = Deployment(site.app.settings, clock=SystemClock()).open_broker()
    with contextlib.closing(broker):
        return [one.id for where in Kept for one in broker.kept(where, limit=100)]


def depth(site):
    broker = Deployment(site.app.settings, clock=SystemClock()).open_broker()
    with contextlib.closing(broker):
        return sum(one.ready + one.leased + one.scheduled for one in broker.depths())


def test_what_a_worker_refuses_is_well_and_nothing_is_left_of_it(site):
    site.start("-c", "1")

    code, checks, fates, told = doctor(site)

    check_that_all_are_well(checks, fates)
    assert (code, told["doubt"], told["left"]) == (Exit.OK, "", "")
    assert (kept(site), depth(site)) == ([], 0)
    lines = (site.folder / ".cardoon" / "audit.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    [sent] = [one for one in records if one["event"] == "doctor.canaries"]
    assert (sent["queue"], sent["messages"]) == ("celery", f"{told['ids']}-*")
    refused = {one["message"] for one in records if one.get("kind") == "task"}
    assert refused == {f"{told['ids']}-{one}".replace("replayed", "genuine") for one in REFUSED}


def test_they_are_told_to_people_as_well(site):
    site.start("-c", "1")

    done = run(site, "-A", "work", "doctor", *JUDGED, "--send-canaries")

    assert done.returncode == Exit.OK, done.stdout
    assert "sent to queue 'celery'\n  genuine: ran (SUCCESS)\n" in done.stdout
    assert "  astray: refused (wrong-audience)\n" in done.stdout
    assert "left there" not in done.stdout


def test_a_worker_that_runs_what_nobody_has_signed_is_a_critical_finding(site):
    site.start("-c", "1", env={"CARDOON_ACCEPT_CONTENT": "auth,json"})

    code, checks, fates, told = doctor(site)

    assert fates["unsigned"] == ("ran", "SUCCESS")
    assert checks["MSG-01"]["state"] == "finding"
    assert checks["MSG-01"]["evidence"] == [
        f"a worker of queue 'celery' took canary {told['ids']}-unsigned: ran, SUCCESS"
    ]
    assert checks["MSG-03"]["state"] == "ok"
    assert code == Exit.CRITICAL


def test_a_worker_whose_clock_may_be_wrong_by_an_hour_runs_what_has_expired(site):
    site.start("-c", "1", env={"CARDOON_SECURITY_CLOCK_SKEW": "3600"})

    code, checks, fates, told = doctor(site)

    assert {name for name, (fate, _) in fates.items() if fate == "ran"} == {"genuine", "expired"}
    assert f"{told['ids']}-expired" in checks["MSG-03"]["evidence"][0]
    assert (checks["MSG-01"]["state"], checks["MSG-03"]["state"]) == ("ok", "finding")
    assert code == Exit.HIGH


def test_a_store_that_forgets_what_was_carried_out_is_found_by_a_replay(site):
    site.start("-c", "1")
    with contextlib.closing(sqlite3.connect(site.folder / ".cardoon" / "cardoon.db")) as store:
        store.execute(
            "CREATE TRIGGER forgets AFTER UPDATE OF done ON replay WHEN NEW.done BEGIN "
            "DELETE FROM replay WHERE session = NEW.session AND sequence = NEW.sequence; END"
        )
        store.commit()

    code, checks, fates, _ = doctor(site)

    assert fates["replayed"] == ("ran", "SUCCESS")
    assert "-replayed: ran" in checks["MSG-03"]["evidence"][0]
    assert code == Exit.HIGH


def test_nobody_who_takes_from_the_queue_leaves_it_unchecked(site):
    site.start("-c", "1", "-Q", "celery,mails")

    code, checks, fates, told = doctor(site, "--canary-queue", "nobodys")

    assert fates == {"genuine": ("waits", "ready")}
    assert code == Exit.UNCHECKED
    for one in ("MSG-01", "MSG-03"):
        assert checks[one]["state"] == "unchecked"
        assert (
            "nobody answered within 10 s: no worker takes from queue 'nobodys'"
            in (checks[one]["evidence"][0])
        )
    assert told["left"] == "genuine in the queue"
    assert depth(site) == 1


def test_a_worker_that_trusts_nobody_of_us_says_nothing_of_the_others(site):
    worker_only = {"CARDOON_SECURITY_DOMAIN": "elsewhere"}
    site.start("-c", "1", env=worker_only, wait=False)
    site.until(lambda: ". work.add" in site.log.read_text())

    code, checks, fates, _ = doctor(site)

    assert fates["genuine"] == ("refused", "bad-signature")
    assert fates["unsigned"] == ("refused", "unsigned")
    assert checks["MSG-01"]["state"] == "unchecked"
    assert checks["MSG-03"]["evidence"] == [
        (
            "of canaries it is not known: replayed: refused (bad-signature); "
            "expired: refused (bad-signature); astray: refused (bad-signature)"
        )
    ]
    assert code == Exit.UNCHECKED
    assert kept(site) == []


def test_a_policy_that_is_in_force_denies_and_one_that_is_not_is_found(site):
    policy = site.folder / "policy.toml"
    policy.write_text(LAWS)
    policy.chmod(0o600)
    laws = {"CARDOON_SECURITY_POLICY": str(policy)}
    worker = site.start("-c", "1", env=laws)

    code, checks, fates, _ = doctor(site, **laws)

    assert (fates["genuine"], fates["denied"]) == (("refused", "denied"), ("refused", "denied"))
    assert fates["replayed"] == ("refused", "replayed")
    assert {one["state"] for one in checks.values()} == {"ok"}
    assert code == Exit.OK
    assert kept(site) == []

    worker.terminate()
    worker.wait()
    site.start("-c", "1")
    code, checks, fates, _ = doctor(site, **laws)

    assert (fates["genuine"], fates["denied"]) == (("ran", "SUCCESS"), ("ran", "FAILURE"))
    assert (checks["MSG-01"]["state"], checks["MSG-02"]["state"]) == ("ok", "finding")
    assert code == Exit.HIGH


def test_who_wants_no_answer_sends_none(site):
    done = run(site, "-A", "work", "doctor", "--send-canaries", "--only", "KEY-01")
    idle = run(site, "-A", "work", "doctor", "--canary-queue", "celery")

    assert (done.returncode, idle.returncode) == (Exit.USAGE, Exit.USAGE)
    assert "--send-canaries is for MSG-01, MSG-02, MSG-03" in done.stderr
    assert "--canary-queue is for --send-canaries" in idle.stderr
    assert not (site.folder / ".cardoon" / "cardoon.db").exists()


def test_none_is_sent_to_a_queue_of_which_each_worker_gets_a_copy(site):
    words = ("doctor", *JUDGED, "--send-canaries", "--canary-queue", "caches")

    done = run(site, "-A", "announced", *words)

    assert done.returncode == Exit.ERROR
    assert "canaries: 'caches' is a Broadcast; name a queue that is none" in done.stderr


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    acl = [
        f"user {role} >{role} {' '.join(commands(role, username=role)[3:])}"
        for role in ("client", "worker")
    ]
    with running(RedisServer(tmp_path_factory.mktemp("redis"), acl=acl)) as server:
        yield server


def on_redis(site, redis, role):
    """A worker with its own account, and the environment of somebody with the account of a role."""
    urls = {one: redis.url_of(user=one, password=one) for one in ("client", "worker")}
    site.app.conf.update(broker_url=urls["worker"], result_backend=urls["worker"])
    names = ("CARDOON_BROKER_URL", "CARDOON_RESULT_BACKEND")
    site.start("-c", "1", env=dict.fromkeys(names, urls["worker"]))
    return dict.fromkeys(names, urls[role])


def test_on_redis_all_are_refused(site, redis):
    _, checks, fates, told = doctor(site, **on_redis(site, redis, "worker"))

    check_that_all_are_well(checks, fates)
    assert told["left"] == ""
    assert [one for one in kept(site) if one.startswith(told["ids"])] == []


def test_an_account_that_may_not_take_them_away_says_so(site, redis):
    _, checks, fates, told = doctor(site, **on_redis(site, redis, "client"))

    assert fates.pop("genuine") == ("ran", "SUCCESS")
    assert fates == dict.fromkeys(REFUSED, ("refused", ""))
    assert (checks["MSG-01"]["state"], checks["MSG-03"]["state"]) == ("ok", "ok")
    assert told["left"].startswith("6 that are kept, which this account may not see")
    assert len([one for one in kept(site) if one.startswith(told["ids"])]) == len(REFUSED)


def test_on_postgresql_all_are_refused(site, postgres):
    url = postgres.empty()
    site.environment = dict.fromkeys(("CARDOON_BROKER_URL", "CARDOON_RESULT_BACKEND"), url)
    site.app.conf.update(broker_url=url, result_backend=url)
    site.start("-c", "1")

    _, checks, fates, told = doctor(site)

    check_that_all_are_well(checks, fates)
    assert (told["left"], kept(site)) == ("", [])


def test_on_postgresql_a_client_sees_that_they_are_kept_and_no_more(site, postgres):
    url = postgres.empty()
    for statement in postgres_commands("client", username="canaries"):
        postgres.ask(statement)
    postgres.ask(f"ALTER ROLE canaries PASSWORD '{PASSWORD}'")
    names = ("CARDOON_BROKER_URL", "CARDOON_RESULT_BACKEND")
    site.app.conf.update(broker_url=url, result_backend=url)
    site.start("-c", "1", env=dict.fromkeys(names, url))

    _, checks, fates, told = doctor(
        site, **dict.fromkeys(names, postgres.server.url_of("canaries"))
    )

    assert fates.pop("genuine") == ("ran", "SUCCESS")
    assert fates == dict.fromkeys(REFUSED, ("refused", ""))
    assert (checks["MSG-01"]["state"], checks["MSG-03"]["state"]) == ("ok", "ok")
    assert told["left"].startswith("6 that are kept, which this account may not see")
    assert len(kept(site)) == len(REFUSED)


def test_on_rabbitmq_with_a_file_beside_it_all_are_refused(site, rabbitmq):
    store = f"sqlite:///{site.folder}/results.db"
    transport = {"global_keyprefix": f"c{uuid.uuid4().hex}", "store": store}
    site.environment = {
        "CARDOON_BROKER_URL": rabbitmq.url,
        "CARDOON_RESULT_BACKEND": store,
        "RABBITMQ_TEST_PREFIX": transport["global_keyprefix"],
        "RABBITMQ_TEST_STORE": store,
    }
    site.app.conf.update(
        broker_url=rabbitmq.url, result_backend=store, broker_transport_options=transport
    )
    site.start("-c", "1", app="rabbit")

    _, checks, fates, told = doctor(site, app="rabbit")

    check_that_all_are_well(checks, fates)
    assert (told["left"], kept(site)) == ("", [])


def test_on_rabbitmq_nobody_who_takes_from_the_queue_leaves_it_unchecked(site, rabbitmq):
    site.environment = {
        "CARDOON_BROKER_URL": rabbitmq.url,
        "CARDOON_RESULT_BACKEND": f"sqlite:///{site.folder}/results.db",
        "RABBITMQ_TEST_PREFIX": f"c{uuid.uuid4().hex}",
    }

    code, checks, fates, told = doctor(site, app="rabbit")

    assert fates == {"genuine": ("gone", "")}
    assert told["left"] == "genuine, perhaps, in the queue"
    assert code == Exit.HIGH  # MSG-02: there is no policy
    assert {checks[one]["state"] for one in ("MSG-01", "MSG-03")} == {"unchecked"}
    assert "nobody answered" in checks["MSG-01"]["evidence"][0]
