"""Which sandbox jobs get, what a pool cannot hold, and what a result tells of it."""

from __future__ import annotations

import os

import pytest

from cardoon.broker import Kept
from cardoon.canvas import xmap, xstarmap
from cardoon.config import Conf
from cardoon.exceptions import ImproperlyConfigured, RefusedError, RemoteError
from cardoon.sandbox.layers import NEEDED, Layer, Layers
from cardoon.sandbox.merging import MAX_PROFILES, Profiles
from cardoon.sandbox.profile import Level, Sandbox
from cardoon.sandbox.violations import Violation
from cardoon.security.policyfile import parse_rules
from cardoon.worker.isolating import plan_isolation
from cardoon.worker.isolation import Isolation
from cardoon.worker.pool import Crashed
from tests.unit.stage import failed, held_of, rules, succeeded

STRICT = Sandbox(level="strict", tmp="1MiB")
FILE = b"""
version = 1
[[sandbox]]
task = "shop.pay"
queue = "celery"
level = "strict"
"""


def settings_of(**given):
    conf = Conf({})
    conf.update(given)
    return conf.settings()


def plan(catalogue=None, *, text=b"version = 1", queues=("celery",), **settings):
    known = {"shop.pay": rules(), "shop.mail": rules()} if catalogue is None else catalogue
    rows = parse_rules(text, source="policy.toml").sandboxes
    return plan_isolation(settings_of(**settings), known, rows=rows, queues=queues)


# What a pool can hold


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_a_pool_that_shares_processes_refuses_a_tasks_own_sandbox(pool):
    with pytest.raises(ImproperlyConfigured) as caught:
        plan({"shop.pay": rules(sandbox=STRICT)}, worker_pool=pool)

    assert str(caught.value) == (
        f"sandbox: worker_pool={pool!r} has no process for each task, and so no sandbox for "
        "shop.pay (the task's own, @app.task(sandbox=...)); use -P isolated, or "
        "unsafe_sandbox_best_effort=True to go without"
    )


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_a_pool_that_shares_processes_refuses_a_row_of_the_file(pool):
    with pytest.raises(ImproperlyConfigured, match=r"shop.pay \(\[\[sandbox\]\] 1 of the policy"):
        plan(text=FILE, worker_pool=pool)


def test_a_row_for_queues_that_are_not_consumed_here_is_no_objection():
    assert plan(text=FILE, queues=["mail"]).warnings == ()


def test_of_many_tasks_some_are_named():
    many = {f"shop.t{n:02}": rules(sandbox=STRICT) for n in range(20)}

    with pytest.raises(
        ImproperlyConfigured, match=r"shop.t07 \([^)]*\(sandbox=...\)\) and 12 more"
    ):
        plan(many)


def test_best_effort_goes_on_and_says_what_is_not_held():
    isolation = plan(
        {"shop.pay": rules(sandbox=STRICT)},
        unsafe_sandbox_best_effort=True,
        worker_sandbox={"cpu": 3},
    )

    assert len(isolation.warnings) == 2
    assert "cpu=3" in isolation.warnings[1]
    assert isolation.index_for("shop.pay", "celery", {}) == 0
    assert isolation.told(0) == "shared-confined/v1"


@pytest.mark.parametrize(
    ("pool", "sandbox", "complaint"),
    [
        ("prefork", {"level": "strict"}, "level='strict'"),
        ("threads", {"cpu": 1.5}, "cpu=1.5"),
        ("prefork", {"network": ["a:1"], "syscalls": "net"}, "a list of addresses"),
        ("solo", {}, "in the process that holds the keys"),
    ],
)
def test_what_long_lived_processes_cannot_be_held_to_is_refused(pool, sandbox, complaint):
    with pytest.raises(ImproperlyConfigured) as caught:
        plan(worker_pool=pool, worker_sandbox=sandbox)

    assert complaint in str(caught.value)
    assert str(caught.value).startswith(f"worker_sandbox: worker_pool={pool!r}")


def test_too_many_profiles_are_refused():
    many = {f"t{n}": rules(sandbox=Sandbox(cpu=n + 1)) for n in range(MAX_PROFILES)}

    with pytest.raises(ImproperlyConfigured, match="257 different profiles in one worker"):
        plan(many)


# What a job gets


def chosen(**wishes):
    profiles = Profiles(own={"shop.pay": STRICT}, **wishes)
    return Isolation(profiles, chooses=True, reached=["confined/v1", "strict/v1"])


def test_a_job_bears_the_number_of_its_tasks_profile(make_stage):
    stage = make_stage(catalogue={"shop.pay": rules(), "shop.mail": rules()}, isolation=chosen())
    stage.send()
    stage.send(task="shop.mail")

    jobs = stage.consume()

    assert {job.task: job.profile for job in jobs} == {"shop.pay": 1, "shop.mail": 0}


@pytest.mark.parametrize("kind", [xmap, xstarmap])
def test_a_map_runs_in_the_sandbox_of_the_task_that_it_maps(make_stage, kind):
    catalogue = {"cardoon.map": rules(), "cardoon.starmap": rules()}
    stage = make_stage(catalogue=catalogue, isolation=chosen())
    kind(stage.app.signature("shop.pay"), [[1], [2]]).apply_async()
    kind(stage.app.signature("shop.mail"), [[1], [2]]).apply_async()

    jobs = stage.consume()

    assert [job.profile for job in jobs] == [1, 0]


@pytest.mark.parametrize("headers", [b"{}", b'{"inner":"cardoon.map"}', b'{"inner":5}'])
def test_a_map_that_hides_its_task_is_refused(make_stage, headers):
    stage = make_stage(catalogue={"cardoon.map": rules()}, isolation=chosen())
    stage.send_raw(task="cardoon.map", headers=headers)

    assert stage.consume() == []
    [kept] = stage.kept(Kept.QUARANTINE)
    assert kept.reason == "denied"
    assert "whose sandbox it needs" in kept.detail


def test_where_one_sandbox_is_for_all_a_map_may_hide_its_task():
    assert plan().index_for("cardoon.map", "celery", {}) == 0


def test_a_row_decides_by_the_queue(make_stage):
    rows = parse_rules(FILE, source="p").sandboxes
    isolation = Isolation(Profiles(rows=rows), chooses=True)

    assert isolation.index_for("shop.pay", "celery", {}) == 1
    assert isolation.index_for("shop.pay", "mail", {}) == 0
    with pytest.raises(RefusedError):
        isolation.index_for("cardoon.starmap", "celery", {"inner": "cardoon.starmap"})


# What a result tells


def test_a_result_tells_what_its_task_was_held_to(make_stage):
    stage = make_stage(isolation=chosen())
    sent = stage.send()
    [job] = stage.consume()

    stage.end(job, succeeded(3))

    assert sent.get(timeout=1) == 3
    assert sent.isolation == "strict/v1"
    assert sent.violations == ()


def test_a_task_that_has_not_run_was_held_to_nothing(make_stage):
    stage = make_stage(isolation=chosen())
    sent = stage.send(task="shop.pay", expires=1)
    stage.clock.advance(5)

    assert stage.consume() == []

    assert sent.state == "REVOKED"
    assert sent.isolation is None


def test_a_failure_tells_what_was_refused(make_stage):
    stage = make_stage(isolation=chosen())
    sent = stage.send()
    [job] = stage.consume()
    held_of(stage, job).violations.add(Violation("read", "/etc/shadow", "kernel"))

    stage.end(job, failed(PermissionError("no")))

    with pytest.raises(PermissionError) as caught:
        sent.get(timeout=1)
    assert caught.value.__notes__ == ["sandbox: read /etc/shadow refused"]
    assert sent.violations == (Violation("read", "/etc/shadow", "kernel", 1),)


def test_so_does_the_end_of_a_process(make_stage):
    stage = make_stage(
        catalogue={"shop.pay": rules(reject_on_worker_lost=False)}, isolation=chosen()
    )
    sent = stage.send()
    [job] = stage.consume()
    held_of(stage, job).violations.add(Violation("syscall", "ptrace", "kernel", 2))

    stage.end(job, Crashed("task process 7: signal 31"))

    with pytest.raises(Exception, match="signal 31") as caught:
        sent.get(timeout=1)
    assert caught.value.__notes__ == ["sandbox: syscall ptrace refused (2 times)"]


def test_a_remote_error_bears_it_too(make_stage):
    class OwnError(Exception):
        pass

    stage = make_stage(isolation=chosen())
    sent = stage.send()
    [job] = stage.consume()
    held_of(stage, job).violations.add(Violation("open", "/x", "task"))

    stage.end(job, failed(OwnError("no")))

    with pytest.raises(RemoteError) as caught:
        sent.get(timeout=1)
    assert caught.value.__notes__ == ["sandbox: open /x refused, as the task says"]


def test_a_sealed_tasks_violations_are_told_without_details(make_stage):
    stage = make_stage(isolation=chosen(), settings={"security_encrypt": "body"})
    sent = stage.send()
    [job] = stage.consume()
    held_of(stage, job).violations.add(Violation("read", "/home/ada", "task"))

    stage.end(job, failed(ValueError("no")))

    assert stage.app.AsyncResult(sent.id).violations == (Violation("read", "", "task", 1),)


def test_nothing_is_told_where_nothing_is_held(stage):
    sent = stage.send()
    [job] = stage.consume()

    stage.end(job, succeeded(3))

    assert sent.get(timeout=1) == 3
    assert sent.isolation is None


# What the machine can hold


def machine(*missing):
    return Layers(
        Layer(one, one not in missing, "EPERM" if one in missing else "") for one in NEEDED
    )


def plan_here(layers, **wishes):
    """A worker with the pool `isolated` on such a machine."""
    settings = settings_of(worker_pool="isolated", **wishes.pop("settings", {}))
    known = wishes.pop("catalogue", {"shop.pay": rules()})
    rows = parse_rules(wishes.pop("text", b"version = 1"), source="p").sandboxes
    queues = wishes.pop("queues", ["celery"])
    return plan_isolation(settings, known, rows=rows, queues=queues, find_layers=lambda: layers)


def test_each_profile_has_its_level_in_the_results():
    isolation = plan_here(machine(), catalogue={"shop.pay": rules(sandbox=STRICT)})

    assert isolation.reached == ("confined/v1", "strict/v1")
    assert isolation.describe() == "confined/v1; some tasks strict/v1"
    assert isolation.index_for("shop.pay", "celery", {}) == 1
    assert isolation.warnings == ()


def test_a_machine_that_lacks_a_layer_is_refused_with_all_of_them():
    with pytest.raises(ImproperlyConfigured) as caught:
        plan_here(machine("landlock", "seccomp"))

    told = str(caught.value).splitlines()
    assert told[0] == (
        "sandbox: level 'confined', which every task without a sandbox of its own needs, is not to "
        "be had here"
    )
    assert [line.strip().partition(": EPERM; needs ")[0] for line in told[1:3]] == [
        "landlock",
        "seccomp",
    ]
    assert "unsafe_sandbox_best_effort=True" in told[3]


def test_what_nobody_asks_for_may_be_missing():
    isolation = plan_here(machine("users", "room"))

    assert (isolation.reached, isolation.warnings) == (("confined/v1",), ())


def test_the_task_that_needs_a_level_is_named():
    with pytest.raises(ImproperlyConfigured, match=r"'strict', which shop.pay \(the task's own"):
        plan_here(machine("users"), catalogue={"shop.pay": rules(sandbox=STRICT)})


def test_a_row_for_other_queues_needs_nothing_here():
    isolation = plan_here(machine("users"), text=FILE, queues=["mail"])

    assert isolation.warnings == ()


def test_best_effort_runs_with_what_there_is_and_says_so_in_results(caplog):
    isolation = plan_here(
        machine("landlock"), settings={"unsafe_sandbox_best_effort": True}, catalogue={}
    )

    assert isolation.reached == ("process/v1",)
    assert isolation.describe() == "process/v1; LESS than was asked for"
    assert [line for line in caplog.messages if line.startswith("not held: landlock: EPERM")]


@pytest.mark.parametrize("name", ["uid", "gid"])
def test_a_worker_that_is_not_root_cannot_make_somebody_else_of_its_tasks(name, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, f"get{name}", lambda: 1000)

    with pytest.raises(
        ImproperlyConfigured, match=f"{name}=1001, which every task .* needs, takes"
    ):
        plan_here(machine(), settings={"worker_sandbox": {name: 1001}})
    assert plan_here(machine(), settings={"worker_sandbox": {name: 1000}}).warnings == ()


def test_a_worker_that_is_root_can(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert plan_here(machine(), settings={"worker_sandbox": {"uid": 1001}}).warnings == ()


def test_another_system_has_the_level_process_at_most():
    other = Layers([Layer("limits", is_on=True, detail="of darwin"), Layer("ids", True, "")])

    with pytest.raises(ImproperlyConfigured, match="level 'confined'"):
        plan_here(other)
    asked = {"worker_sandbox": {"level": "process"}}
    assert plan_here(other, settings=asked).reached == ("process/v1",)


def test_long_lived_processes_are_held_to_the_workers_sandbox():
    isolation = plan_isolation(
        settings_of(worker_sandbox={"read": ["/srv"]}),
        {"shop.pay": rules()},
        rows=(),
        queues=["celery"],
        secrets=["/srv/key"],
        find_layers=machine,
    )

    assert isolation.reached == ("shared-confined/v1",)
    assert isolation.secrets == ("/srv/key",)
    assert not isolation.chooses


def test_best_effort_holds_them_to_what_such_processes_can_be_held_to():
    isolation = plan_isolation(
        settings_of(
            worker_sandbox={"level": "strict", "tmp": "1MiB", "cpu": 1},
            unsafe_sandbox_best_effort=True,
        ),
        {},
        rows=(),
        queues=["celery"],
        find_layers=machine,
    )

    held = Sandbox.from_mapping(isolation.tell_holder()["profile"])
    assert (held.level, held.tmp, held.cpu) == (Level.CONFINED, 0, None)
    assert isolation.reached == ("shared-confined/v1",)


def test_a_worker_without_a_sandbox_tries_nothing():
    def find_layers():
        raise AssertionError("tried")

    isolation = plan_isolation(
        settings_of(), {"shop.pay": rules()}, rows=(), queues=[], find_layers=find_layers
    )

    assert isolation.describe() == "none: tasks can do what the worker's user can"


def test_this_machine_can_be_asked():
    isolation = plan_isolation(
        settings_of(worker_pool="isolated", worker_sandbox={"level": "process"}),
        {},
        rows=(),
        queues=[],
    )

    assert isolation.layers is not None
    assert isolation.reached == ("process/v1",)
