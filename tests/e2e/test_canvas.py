"""Workflows through a real worker: what they return, and that no death leaves one stuck."""

from __future__ import annotations

import json
import os
import signal

import pytest

from cardoon import GroupResult, chain, chord, group, xmap, xstarmap
from cardoon.canvas import chunks
from cardoon.exceptions import ChordError, TaskRevokedError
from tests.e2e.conftest import DEADLINE, Site
from tests.e2e.test_faults import run_cli, task_processes


class Tasks:
    """Signatures of the project's tasks, as a client makes them that does not import it."""

    def __init__(self, app):
        self._app = app

    def __call__(self, name, *args, immutable=False, **kwargs):
        return self._app.signature(f"work.{name}", args, kwargs, immutable=immutable)

    def leaf(self, n):
        return self("leaf", n)

    def wrap(self, *tag):
        return self("wrap", *tag)

    def ident(self, *args):
        return self("ident", *args)


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("flows"))
    made.start("-c", "2", app="flows")
    yield made
    made.stop()


@pytest.fixture
def t(flows):
    return Tasks(flows.app)


CANVASES = {
    "chain": (lambda t: chain(t.leaf(1), t.wrap("a"), t.wrap("b")), ["b", ["a", 1]]),
    "group": (lambda t: group(t.leaf(1), t.leaf(2)), [1, 2]),
    "group in group": (lambda t: group(group(t.leaf(1), t.leaf(2)), t.leaf(3)), [1, 2, 3]),
    "chain in chord": (
        lambda t: chord([chain(t.leaf(1), t.wrap("a")), t.leaf(3)], t.ident()),
        [[["a", 1], 3]],
    ),
    "chord in chord": (
        lambda t: chord([chord([t.leaf(1), t.leaf(2)], t.ident()), t.leaf(3)], t.ident()),
        [[[[1, 2]], 3]],
    ),
    "group | task": (lambda t: group(t.leaf(1), t.leaf(2)) | t.ident(), [[1, 2]]),
    "group | group": (
        lambda t: group(t.leaf(1), t.leaf(2)) | group(t.ident("x"), t.ident("y")),
        [[[1, 2], "x"], [[1, 2], "y"]],
    ),
    "group | group | task": (
        lambda t: group(t.leaf(1), t.leaf(2)) | group(t.ident("x"), t.ident("y")) | t.ident(),
        [[[[1, 2], "x"], [[1, 2], "y"]]],
    ),
    "task | group": (
        lambda t: t.leaf(1) | group(t.wrap("a"), t.wrap("b")),
        [["a", 1], ["b", 1]],
    ),
    "chord | task": (
        lambda t: chord([t.leaf(1), t.leaf(2)], t.ident()) | t.wrap("z"),
        ["z", [[1, 2]]],
    ),
    "group of one | task": (lambda t: group(t.leaf(1)) | t.ident(), [[1]]),
    "chord without header": (lambda t: chord([], t.ident()), [[]]),
    "group of a chain that ends in a group": (
        lambda t: group(chain(t.leaf(1), group(t.wrap("a"), t.wrap("b"))), t.leaf(2)),
        [[["a", 1], ["b", 1]], 2],
    ),
    "immutable link": (
        lambda t: chain(t.leaf(1), t("leaf", 9, immutable=True), t.wrap("q")),
        ["q", 9],
    ),
    "map": (lambda t: xmap(t.ident(), [1, 2]), [[1], [2]]),
    "starmap": (lambda t: xstarmap(t.ident(), [(1, 2), (3, 4)]), [[1, 2], [3, 4]]),
    "chunks": (
        lambda t: chunks(t.ident(), [(1, 2), (3, 4), (5, 6)], 2),
        [[[1, 2], [3, 4]], [[5, 6]]],
    ),
    "task | empty group": (lambda t: t.leaf(1) | group(), 1),
    "task | empty group | task": (lambda t: t.leaf(1) | group() | t.ident(), [[]]),
    "a thousand in a chord": (
        lambda t: chord((t.leaf(n) for n in range(1000)), t.ident()),
        [list(range(1000))],
    ),
    "a chain of fifty": (
        lambda t: chain(t.leaf(0), *(t("add", 1) for _ in range(49))),
        49,
    ),
}


@pytest.mark.parametrize("name", CANVASES)
def test_a_canvas_returns_what_celerys_does(t, name):
    make, expected = CANVASES[name]

    assert make(t).apply_async().get(timeout=DEADLINE) == expected


def test_a_failure_closes_the_later_links(t):
    result = chain(t("fail", "no"), t.wrap("a"), t.wrap("b")).apply_async()

    with pytest.raises(ValueError, match="no"):
        result.get(timeout=DEADLINE)
    with pytest.raises(ValueError, match="no"):
        result.parent.get(timeout=DEADLINE)


def test_errbacks_are_told_of_a_failed_body_and_not_of_what_never_began(flows, t):
    path = flows.path("told")
    tell = t("tell", path=path)
    body = t.ident().on_error(tell)
    result = (chord([t.leaf(1), t("fail", "no")], body) | t.wrap().on_error(tell)).apply_async()

    with pytest.raises(ChordError, match=r"ValueError\('no'\)"):
        result.get(timeout=DEADLINE)

    flows.until(lambda: flows.lines("told"))
    assert result.parent is not None
    [line] = flows.lines("told")
    assert line.split()[0] == f"{result.parent.id}:ChordError"


def test_retries_and_revocations_are_ends_like_others(t):
    later = chain(t("flaky", 2), t.wrap("a")).apply_async()
    result = chain(t.leaf(1).set(countdown=2), t.wrap("a")).apply_async()
    result.parent.revoke()

    assert later.get(timeout=DEADLINE) == ["a", 2]
    with pytest.raises(TaskRevokedError):
        result.get(timeout=DEADLINE)


def test_a_task_knows_its_place_in_the_canvas(t):
    found = (t("place") | group(t("place"), t("place"))).apply_async()
    rest = found.get(timeout=DEADLINE)
    first = found.parent.get(timeout=DEADLINE)

    assert [one["root"] for one in rest] == [first["root"]] * 2
    assert [one["parent"] for one in rest] == [found.parent.id] * 2
    assert [one["index"] for one in rest] == [0, 1]


def test_a_task_tells_what_it_called_and_asks_the_worker_for_the_rest(flows, t):
    result = t("family", "kept").stamp(tenant="acme").apply_async()

    assert result.get(timeout=DEADLINE) == {
        "stamps": {"tenant": "acme"},
        "is_restored": True,
        "own_place": "leased",
    }
    [children] = result.children
    assert children.get(timeout=DEADLINE) == [0, 1, 2]
    assert GroupResult.restore("kept", app=flows.app).get(timeout=DEADLINE) == [0, 1, 2]


def test_running_and_waiting_tasks_are_revoked_by_a_stamp(flows, t):
    running = t("progress", flows.path("no gate")).stamp(tenant="gone").apply_async()
    waiting = t.leaf(1).set(countdown=1).stamp(tenant="gone").apply_async()
    other = t.leaf(2).set(countdown=1).stamp(tenant="stays").apply_async()
    flows.until(lambda: running.state == "PROGRESS")

    flows.app.control.revoke_by_stamped_headers({"tenant": ["gone"]}, terminate=True)

    for result in (running, waiting):
        with pytest.raises(TaskRevokedError):
            result.get(timeout=DEADLINE)
    assert other.get(timeout=DEADLINE) == 2


@pytest.mark.slow
def test_fifty_chords_survive_the_death_of_everybody(site):
    worker = site.start("-c", "2", "-n", "first", app="flows")
    t, done = Tasks(site.app), site.path("done")
    chords = [
        chord([t("slow_leaf", number * 100 + n) for n in range(20)], t("total", done))
        for number in range(50)
    ]
    results = site.app.send_many(chords)
    expected = [sum(number * 100 + n for n in range(20)) for number in range(50)]

    for progress in (3, 10, 20, 30):
        site.until(lambda wanted=progress: len(site.lines("done")) >= wanted)
        os.kill(task_processes(worker)[0], signal.SIGKILL)
        site.until(lambda wanted=progress: len(site.lines("done")) >= wanted + 3)
        worker.kill()
        worker.wait()
        worker = site.start("-c", "2", "-n", "first", app="flows", wait=False)
        site.until(lambda started=worker: task_processes(started))

    assert [result.get(timeout=60) for result in results] == expected
    runs = [int(line.split()[0]) for line in site.lines("done")]
    assert set(runs) == set(expected)
    site.until(lambda: is_empty(site))
    assert json.loads(run_cli(site, "dead", "list", "--json")) == []
    assert json.loads(run_cli(site, "quarantine", "list", "--json")) == []


def is_empty(site):
    queues = json.loads(run_cli(site, "queues", "--json"))
    return not any(q["ready"] + q["scheduled"] + q["dormant"] + q["leased"] for q in queues)
