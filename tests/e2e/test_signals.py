"""Every signal of a real worker, as an app receives it that writes them all down."""

from __future__ import annotations

import json
import signal

import pytest

from cardoon.exceptions import TimeLimitExceeded

BEFORE_TASKS = [
    "import_modules",
    "celeryd_init",
    "worker_init",
    "after_setup_logger",
    "after_setup_task_logger",
    "celeryd_after_setup",
]


@pytest.fixture
def heard(site):
    """What was written down, and of one signal."""

    def read(name=None):
        lines = [json.loads(line) for line in site.lines("signals.jsonl")]
        return [line for line in lines if name in {None, line["signal"]}]

    return read


def names(lines):
    return [line["signal"] for line in lines]


def start(site, *arguments):
    return site.start("-n", "w1@here", *arguments, app="signalled")


def stop(worker):
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_a_worker_tells_its_life(site, heard):
    worker = start(site, "-c", "1")
    stop(worker)

    told = names(heard())
    assert told[: len(BEFORE_TASKS)] == BEFORE_TASKS
    for name in (
        "worker_before_create_process",
        "worker_process_init",
        "worker_ready",
        "worker_shutting_down",
        "worker_process_shutdown",
        "worker_shutdown",
    ):
        assert told.count(name) == 1, name
    zygote = {line["pid"] for line in heard("worker_init")}
    assert {line["pid"] for line in heard("worker_ready")} == zygote
    assert {line["pid"] for line in heard("worker_shutdown")} == zygote
    [child] = heard("worker_process_init")
    assert child["parent"] in zygote
    assert child["sender"] == "w1@here"
    [stopping] = heard("worker_shutting_down")
    assert (stopping["sig"], stopping["how"]) == ("SIGTERM", "Warm")
    [ended] = heard("worker_process_shutdown")
    assert ended["pid"] == child["pid"]
    assert site.lines("own.log")[0] == "from my own handler"


def test_a_task_tells_how_it_went(site, heard):
    start(site, "-c", "1")

    with pytest.raises(ValueError, match="no"):
        site.call("fail", "no")
    told = site.call("headers")

    site.until(lambda: len(heard("task_postrun")) >= 3)
    assert told == {"headers": {}, "span": None}  # the client here connected nothing
    assert {"task_received", "task_prerun", "task_success"} <= set(names(heard()))
    [failure] = heard("task_failure")
    assert (failure["sender"], failure["exception"]) == ("<@task: work.fail>", "no")
    assert [
        line["state"] for line in heard("task_postrun") if line["sender"] == failure["sender"]
    ] == ["FAILURE"]


def test_what_a_task_sends_tells_of_itself_and_carries_what_was_added(site, heard):
    start(site, "-c", "1")

    site.call("relay")

    site.until(lambda: [x for x in heard("task_success") if x["result"] == "42"])
    published = [x for x in heard("after_task_publish") if "20" in x["body"]]
    assert published
    assert "'span': 's-1'" in published[0]["headers"]


def test_receivers_in_the_zygote_may_call_tasks(site, heard):
    worker = start(site, "-c", "1")
    site.until(lambda: [x for x in heard("task_success") if x["result"] == "3"])

    stop(worker)
    start(site, "-c", "1")  # runs what was called at the last moment

    site.until(lambda: [x for x in heard("task_success") if x["result"] == "7"])


def test_what_no_task_process_can_tell_is_told_by_the_worker(site, heard):
    worker = start(site, "-c", "2")

    site.send("die", max_retries=0)
    with pytest.raises(TimeLimitExceeded):
        site.call("sleep", 30, time_limit=0.5)
    revoked = site.send("sleep", 30)
    site.until(lambda: [x for x in heard("task_prerun") if x["task_id"] == revoked.id])
    revoked.revoke(terminate=True, signal="SIGKILL")

    site.until(lambda: heard("task_revoked"))
    [failed] = [x for x in heard("task_failure") if "time limit" in x["exception"]]
    assert failed["sender"] == "<@task: work.sleep>"
    [told] = heard("task_revoked")
    assert (told["terminated"], told["signum"], told["expired"]) == ("True", "9", "False")
    stop(worker)


def test_a_setting_made_in_celeryd_init_counts(site):
    start(site, "-c", "1")

    with pytest.raises(TimeLimitExceeded, match="4 seconds"):
        site.call("sleep", 30)


def stubborn(site, manner, **options):
    return site.start("-c", "2", app="stubborn", env={"MANNER": manner}, **options)


def test_receivers_that_hang_keep_neither_tasks_nor_the_worker_from_ending(site):
    worker = stubborn(site, "hang")

    results = [site.send("add", n, 1) for n in range(20)]

    assert [result.get(timeout=20) for result in results] == list(range(1, 21))
    stop(worker)


def test_receivers_that_crash_lose_no_task(site):
    stubborn(site, "crash", wait=False)

    results = [site.send("add", n, 1) for n in range(5)]

    assert [result.get(timeout=30) for result in results] == list(range(1, 6))


def test_a_receiver_of_worker_init_may_refuse_to_start(site):
    worker = stubborn(site, "refuse", wait=False)

    assert worker.wait(30) == 1
    assert "the license is missing" in site.log.read_text()
