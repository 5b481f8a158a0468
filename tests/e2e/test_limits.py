"""Limits over several workers, and unique tasks of several senders, in peace and under fire."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import PROJECT, wait_until
from tests.e2e.test_faults import children_of

CLIENT = """
import sys
sys.path.insert(0, sys.argv[1])
from turns import app, once
app.conf.state_directory = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
result = once.delay(sys.argv[3], "outer", sys.argv[4])
print(result.id, result.is_duplicate, flush=True)
"""


def begin(site, *names):
    for name in names:
        site.start("-c", "2", "-n", name, app="turns", wait=False)


def send(site, name, *args, **options):
    return site.app.send_task(f"turns.{name}", args, **options)


def said(site):
    return [tuple(line.split()[:2]) for line in site.lines("log")]


def test_what_runs_alone_runs_alone_though_its_worker_is_killed(site):
    begin(site, "first", "second")
    log, until = site.path("log"), site.path("until")
    results = [send(site, "alone", log, n, until, concurrency_limit=1) for n in range(8)]
    site.until(lambda: said(site) == [("begin", "0")])
    others = [send(site, "paced", site.path("free")) for _ in range(20)]
    assert all(other.get(timeout=30) is None for other in others)
    assert said(site) == [("begin", "0")]

    zygote = int(site.lines("log")[0].split()[2])
    [victim] = [worker for worker in site.workers if zygote in children_of(worker.pid)]
    victim.kill()
    victim.wait()
    Path(until).touch()

    assert [result.get(timeout=30) for result in results] == list(range(8))
    lines = said(site)[1:]  # what the killed one began has no end
    begun = [name for _, name in lines[0::2]]
    assert lines == [(verb, name) for name in begun for verb in ("begin", "end")]
    assert sorted(begun) == [str(number) for number in range(8)]


def test_a_rate_holds_over_two_workers(site):
    begin(site, "first", "second")
    results = [send(site, "paced", site.path("log"), cluster_rate_limit="10/s") for _ in range(25)]

    for result in results:
        result.get(timeout=30)

    moments = sorted(float(line) for line in site.lines("log"))
    assert 2.0 < moments[-1] - moments[0] < 6.0
    # A start is told a little after its lease, and not always equally late.
    assert all(later - earlier > 1.6 for earlier, later in zip(moments, moments[20:], strict=False))


def test_of_eight_clients_one_sends_what_is_unique(site):
    log, until = site.path("log"), site.path("until")
    arguments = [str(PROJECT), str(site.folder / ".cardoon"), log, until]
    pipe = subprocess.PIPE
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, *arguments],
            cwd=site.folder,
            stdin=pipe,
            stdout=pipe,
            text=True,
        )
        for _ in range(8)
    ]
    for client in clients:
        assert client.stdout.readline() == "ready\n"
    for client in clients:
        client.stdin.write("\n")
        client.stdin.flush()
    told = [client.communicate(timeout=60)[0].split() for client in clients]
    begin(site, "worker")
    site.until(lambda: site.lines("log"))
    Path(until).touch()

    assert len({task_id for task_id, _ in told}) == 1
    assert sorted(is_duplicate for _, is_duplicate in told) == ["False", *["True"] * 7]
    assert site.app.AsyncResult(told[0][0]).get(timeout=30) == "outer"
    assert site.lines("log") == ["outer"]


def test_a_task_hears_that_what_it_sends_was_sent_before(site):
    begin(site, "worker")
    until = site.path("until")

    told = send(site, "send_twice", site.path("log"), until).get(timeout=30)
    Path(until).touch()

    assert told == [True, False, True]
    wait_until(lambda: site.lines("log") == ["inner"])
