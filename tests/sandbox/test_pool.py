"""The pool `isolated` through the API: a process for each task, of which nothing is left."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from cardoon import states
from cardoon.exceptions import EncodeError, TimeLimitExceeded, WorkerLostError
from cardoon.sandbox.layers import Layers
from cardoon.sandbox.probing import probe
from cardoon.sandbox.profile import Level
from tests.e2e.cell import cell_site
from tests.e2e.sites import Site, wait_until

Seen = TypeVar("Seen")

LIES = (
    *("huge", "junk", "unknown", "zygote", "flood", "unanswered", "descriptors", "other"),
    "still talking",
)


LEVELS = ("process", "confined", "strict")


@functools.cache
def layers() -> Layers:
    return probe()


def check_is_held(level: str) -> str:
    """A level that this machine can hold tasks to; otherwise the test is skipped."""
    if missing := layers().missing_for(Level.parse(level)):
        pytest.skip("; ".join(f"{one.name}: {one.detail}" for one in missing))
    return level


@pytest.fixture(scope="module", params=LEVELS)
def cell(request):
    """A worker that the tests of a level share."""
    with cell_site(check_is_held(request.param)) as made:
        made.level = request.param
        yield made


@pytest.fixture(params=LEVELS)
def lonely(request):
    """A worker that is there for one test, which may do to it what it wants; not started yet."""
    with cell_site(check_is_held(request.param), start=False) as made:
        made.level = request.param
        yield made


def log_of(site: Site) -> str:
    return site.log.read_text(errors="replace")


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def command_lines() -> list[str]:
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(one.read_text(errors="replace"))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_task_has_a_process_of_its_own(cell):
    told = [cell.call("whoami") for _ in range(20)]

    if cell.level != "strict":  # where each sees itself as the first one
        assert len({process for process, *_ in told}) == 20
    assert len({random for *_, random in told}) == 20, "they do not share a random state"


def test_a_task_finds_nothing_of_an_earlier_one(cell):
    results = [cell.send("remember", f"secret-{number}") for number in range(30)]

    assert [result.get(timeout=30) for result in results] == [[[], []]] * 30


def test_a_task_has_no_descriptors_but_its_own(cell):
    assert cell.call("open_descriptors") == ["device", "pipe", "pipe", "socket"]


def test_what_a_task_prints_is_in_the_log_with_its_name_and_id(cell):
    result = cell.send("speak", "hello there", "\x1b[31mred\rforged")
    result.get(timeout=30)

    cell.until(lambda: "red" in log_of(cell))
    [line] = [line for line in log_of(cell).splitlines() if "hello there" in line]
    assert f"WARNING/MainProcess] work.speak[{result.id}]: hello there" in line
    assert f"work.speak[{result.id}]: \\x1b[31mred\\rforged" in log_of(cell)


def test_what_a_task_logs_is_in_the_log_at_its_level(cell):
    result = cell.send("log_lines", "storm\nforged")
    result.get(timeout=30)

    cell.until(lambda: "ValueError: invalid literal" in log_of(cell))
    lines = [line for line in log_of(cell).splitlines() if result.id in line]
    assert any("ERROR/" in one and one.endswith("of the task: storm\\nforged") for one in lines)
    assert any("INFO/" in one and one.endswith("of a library: storm\\nforged") for one in lines)
    assert any("ERROR/" in one and "Traceback" in one for one in lines)


def test_more_output_than_is_granted_is_counted(cell):
    result = cell.send("chatter", 3_000_000)
    result.get(timeout=30)

    cell.until(lambda: "bytes of its output are not shown" in log_of(cell))
    told = [line for line in log_of(cell).splitlines() if result.id in line]
    shown = [line for line in told if "xxx" in line]
    assert sum(map(len, shown)) < 10_000, "a line is cut"
    assert any("bytes of its output are not shown" in line for line in told)


@pytest.mark.parametrize("level", ["process", "strict"])
def test_nothing_that_a_task_started_is_left(level):
    profile = {} if level == "process" else {"syscalls": "subprocess", "processes": 20}
    with cell_site(check_is_held(level), **profile) as site:
        [worker] = site.workers
        before = at_rest(lambda: sorted(descendants(worker.pid)))
        site.call("leave_daemon")

        site.until(lambda: len(descendants(worker.pid)) == len(before))
        assert not any("time.sleep(300)" in one for one in command_lines())


def test_a_result_that_is_longer_than_its_sandbox_grants_is_a_failure_that_says_so(cell):
    with pytest.raises(EncodeError, match=r"message_max_bytes|output="):
        cell.call("long_result", 80 << 20)


@pytest.mark.parametrize("how", LIES)
def test_a_process_that_breaks_the_rules_ends_and_the_worker_goes_on(cell, how):
    result = cell.send("lie", how, time_limit=5)

    # What nobody hears of is no broken rule.
    expected = TimeLimitExceeded if how == "descriptors" else WorkerLostError
    with pytest.raises(expected):
        result.get(timeout=60)
    assert cell.call("add", 2, 2) == 4


def test_the_first_outcome_counts_and_the_second_is_not_heard(cell):
    assert cell.call("lie", "twice") == "first"


@pytest.mark.parametrize(("how", "told"), [("fault", "signal 11"), ("exit", "exit code 7")])
def test_a_task_that_takes_its_process_down_is_blamed_alone(cell, how, told):
    died = cell.place / f"died-of-{how}"
    others = [cell.send("add", one, 0) for one in range(20)]
    result = cell.send("die_of", str(died), how)
    others += [cell.send("add", one, 0) for one in range(20, 40)]

    with pytest.raises(WorkerLostError, match=told):
        result.get(timeout=60)
    assert [one.get(timeout=30) for one in others] == list(range(40))
    assert len(died.read_text().splitlines()) == 3


def test_the_soft_limit_lets_a_task_clean_up_and_the_hard_one_ends_it(cell):
    assert cell.call("soft") == "cleaned up"
    assert cell.call("soft_async") == "cleaned up"
    with pytest.raises(TimeLimitExceeded):
        cell.call("hard")


def test_threads_of_the_import_are_named_and_the_worker_does_not_start(lonely):
    worker = lonely.start(*lonely.arguments, app="threaded", wait=False)

    assert worker.wait(60) == 1
    assert "threads (lurker)" in log_of(lonely)


def test_a_worker_whose_tasks_cannot_be_confined_does_not_start():
    with cell_site(check_is_held("strict"), start=False, cwd="/not/there") as site:
        worker = site.start(*site.arguments, app="cells", wait=False)

        assert worker.wait(60) == 1
        assert "cwd" in log_of(site)
        assert "/not/there" in log_of(site)


def test_everything_dies_with_the_worker(lonely):
    worker = lonely.start(*lonely.arguments, app="cells")
    started, never = str(lonely.place / "started"), str(lonely.place / "never")
    lonely.send("hold", started, never)
    lonely.until(lambda: Path(started).exists())
    processes = descendants(worker.pid)
    assert len(processes) >= 4

    worker.kill()
    worker.wait()

    wait_until(lambda: not any(map(is_alive, processes)))


@pytest.mark.parametrize("who", ["zygote", "nest", "inner nest"])
def test_a_task_whose_nest_or_zygote_is_killed_runs_again_and_is_not_blamed(lonely, who):
    if who == "inner nest" and lonely.level != "strict":
        pytest.skip("there a nest is one process")
    worker = lonely.start(*lonely.arguments, app="cells")
    started, go = str(lonely.place / "started"), str(lonely.place / "go")
    result = lonely.send("hold", started, go)
    lonely.until(lambda: Path(started).exists())
    zygote = descendants_at(worker.pid, 1)[0]  # the warden came later
    [nest] = descendants_at(zygote, 1)
    children = descendants(nest)
    victim = {"zygote": zygote, "nest": nest, "inner nest": children[0]}[who]

    os.kill(victim, signal.SIGKILL)

    wait_until(lambda: not any(map(is_alive, children)))
    Path(go).touch()
    assert result.get(timeout=30) == "released"
    assert lonely.call("add", 1, 2) == 3
    assert len(Path(started).read_text().splitlines()) == 2


def test_a_warm_shutdown_lets_a_task_end_and_a_cold_one_hands_it_back(lonely):
    worker = lonely.start(*lonely.arguments, app="cells")
    first = lonely.send("hold", str(lonely.place / "one"), str(lonely.place / "go"))
    lonely.until(lambda: Path(str(lonely.place / "one")).exists())
    worker.send_signal(signal.SIGTERM)
    lonely.until(lambda: "warm shutdown" in log_of(lonely))
    Path(str(lonely.place / "go")).touch()
    assert worker.wait(30) == 0
    assert first.get(timeout=5) == "released"

    worker = lonely.start(*lonely.arguments, app="cells", wait=False)
    second = lonely.send("hold", str(lonely.place / "two"), str(lonely.place / "gone"))
    lonely.until(lambda: Path(str(lonely.place / "two")).exists())
    worker.send_signal(signal.SIGQUIT)
    assert worker.wait(30) == 0
    assert second.state not in states.READY_STATES

    lonely.start(*lonely.arguments, app="cells", wait=False)
    Path(str(lonely.place / "gone")).touch()
    assert second.get(timeout=30) == "released"


def test_what_a_running_task_holds_is_revoked(cell):
    result = cell.send("hold", str(cell.place / "started"), str(cell.place / "never"))
    cell.until((cell.place / "started").exists)

    result.revoke(terminate=True)

    cell.until(lambda: result.state == states.REVOKED)


def descendants_at(pid: int, depth: int) -> list[int]:
    """Those of one generation."""
    found = [pid]
    for _ in range(depth):
        found = [
            int(child)
            for one in found
            for child in Path(f"/proc/{one}/task/{one}/children").read_text().split()
        ]
    return found


class Traces:
    """What a worker and its processes hold: descriptors, mounts, processes, files."""

    def __init__(self, worker: int, site: Site) -> None:
        folder = site.folder
        lasting = [worker, *descendants_at(worker, 1), *descendants_at(worker, 2)]
        if site.level == "strict":
            lasting += descendants_at(worker, 3)
        self.found = {
            "descriptors": [len(list(Path(f"/proc/{one}/fd").iterdir())) for one in lasting],
            "mounts": [_count_lines(f"/proc/{one}/mountinfo") for one in lasting],
            "processes": len(descendants(worker)),
            "cgroups": sorted(map(str, Path("/sys/fs/cgroup").rglob("*cardoon*"))),
            "files": sorted(
                str(path.relative_to(folder))
                for path in folder.rglob("*")
                if not path.name.startswith(("cardoon.db", "worker.log"))
            ),
            "shared": sorted(one.name for one in Path("/dev/shm").iterdir() if is_ours(one)),
        }


def is_ours(path: Path) -> bool:
    """Whether a task might have made it: other tests start servers meanwhile."""
    return not path.name.startswith("PostgreSQL.")


def _count_lines(path: str) -> int:
    return len(Path(path).read_text().splitlines())


@pytest.mark.parametrize("count", [int(os.environ.get("CARDOON_TEST_ISOLATED_TASKS", "300"))])
def test_nothing_is_left_of_many_tasks(lonely, count):
    """`make test-sandbox` has it run 10,000."""
    worker = lonely.start(*lonely.arguments, app="cells")
    for _ in range(10):
        lonely.call("add", 1, 1)
    # From its first testimony on, a worker holds its log open to read it.
    lonely.until((lonely.folder / ".cardoon" / "audit.jsonl.seen").exists)
    before = at_rest(lambda: Traces(worker.pid, lonely).found)

    add = lonely.app.task(name="work.add")(lambda x, y: None)
    for start in range(0, count, 1000):
        sent = add.send_many([(number, 1) for number in range(start, min(count, start + 1000))])
        assert [one.get(timeout=120) for one in sent] == [
            number + 1 for number in range(start, min(count, start + 1000))
        ]

    with contextlib.suppress(AssertionError):  # the comparison tells more
        wait_until(lambda: Traces(worker.pid, lonely).found == before)
    assert Traces(worker.pid, lonely).found == before


def at_rest(look: Callable[[], Seen]) -> Seen:
    """What there is to see once it has stayed the same for half a second."""
    seen, since = look(), time.monotonic()

    def is_same() -> bool:
        nonlocal seen, since
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= 0.5

    wait_until(is_same)
    return seen
