"""Two versions at once: workers are replaced one after the other while clients of both send and read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.e2e.sites import PROJECT, wait_until
from tests.servers.ground import running
from tests.servers.redis import RedisServer

ROOT = Path(__file__).parents[2]
PREVIOUS = (
    "7116dbe40c48c67abfc4edd7b81f8668c1fa5b1b",  # before answers were bound to the task asked for
    "777f506d004e2f7b6543d3754fcea0b4c0f20012",  # version 5 of SQLite files, before intrusion was detected
)
"""Versions that are upgraded from, oldest first. When there are releases, these become their tags."""
OLDER = "5f489eb365aa487f4b99076baddf0e9dd50c25d5"
"""A version that knows SQLite files of version 3, and no later ones."""
MOST = 20_000
"""Tasks of each client, if it is not stopped."""

CLIENT = """
import json, os, sys, time
from cardoon import Cardoon
folder, mark, count, wanted = sys.argv[1:]
app = Cardoon("work", state_directory=folder + "/.cardoon")
if mark:
    sent = []
    for number in range(int(count)):
        if os.path.exists(folder + "/enough"):
            break
        sent.append(app.send_task("work.touch", (folder + "/done", f"{mark}{number}")))
        time.sleep(0.01)
    answers = [one.get(timeout=60) for one in sent]
    print(json.dumps({one.id: answer for one, answer in zip(sent, answers)}))
else:
    told = {id: app.AsyncResult(id).get(timeout=60) for id in json.load(open(wanted))}
    print(json.dumps(told))
"""


@pytest.fixture
def previous(deployment, tmp_path):
    """The source of the previous version: the oldest that shares its store with the present one."""
    for number, commit in enumerate(PREVIOUS):
        found = unpack(commit, tmp_path / str(number))
        if deployment.environment or file_version(found) == file_version(PRESENT):
            return found
    pytest.skip("no earlier version has SQLite files of this one: stop all, then start the new one")


def file_version(source):
    """Which SQLite files a version reads and writes."""
    text = (source / "cardoon" / "sqlite" / "schema.py").read_text("utf-8")
    return int(re.search(r"^VERSION = (\d+)$", text, re.MULTILINE)[1])


def unpack(commit, folder):
    """The source of a version, from this clone's own history: no network, no package."""
    done = subprocess.run(
        ["git", "archive", commit, "src"], cwd=ROOT, check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(
            f"the history lacks {commit[:12]}, so no upgrade from it was tried: {done.stderr!r}"
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


PRESENT = ROOT / "src"


class Deployment:
    """A project's folder, and processes of either version in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.environment = environment
        self.workers: list[subprocess.Popen[bytes]] = []
        self.clients: list[subprocess.Popen[str]] = []
        self.cardoon(PRESENT, "init", str(folder))

    def variables(self, version: Path) -> dict[str, str]:
        path = os.pathsep.join([str(version), str(PROJECT)])
        return {**os.environ, **self.environment, "PYTHONPATH": path}

    def cardoon(self, version: Path, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "cardoon", *arguments],
            cwd=self.folder,
            env=self.variables(version),
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def work(self, version: Path, name: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it says that it is there."""
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        with log.open("wb") as file:
            worker = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "cardoon",
                    "-A",
                    "work",
                    "worker",
                    "-l",
                    "info",
                    "-n",
                    f"{name}@here",
                    "-c",
                    "1",
                ],
                cwd=self.folder,
                env=self.variables(version),
                stdout=file,
                stderr=file,
            )
        self.workers.append(worker)
        wait_until(lambda: worker.poll() is not None or b"tasks " in log.read_bytes())
        assert worker.poll() is None, log.read_text()
        return worker

    def client(self, version: Path, mark: str, wanted: str = "") -> subprocess.Popen[str]:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(self.folder), mark, str(MOST), wanted],
            cwd=self.folder,
            env=self.variables(version),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.clients.append(client)
        return client

    def ran(self) -> list[str]:
        path = self.folder / "done"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self) -> None:
        for one in (*self.clients, *self.workers):
            if one.poll() is None:
                one.kill()
            one.wait()
            if one.stdout:
                one.stdout.close()


@pytest.fixture(params=["sqlite", "redis"])
def deployment(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        environment = {}
        if request.param == "redis":
            server = stack.enter_context(running(RedisServer(folder / "server")))
            environment = {"CARDOON_BROKER_URL": server.url, "CARDOON_RESULT_BACKEND": server.url}
        made = Deployment(folder, environment)
        stack.callback(made.stop)
        yield made


def finish(client):
    """What a client has to say when it is done."""
    said = client.communicate(timeout=120)[0]
    assert client.returncode == 0
    return json.loads(said.splitlines()[-1])


@pytest.mark.slow
def test_workers_are_replaced_one_after_the_other_under_load(deployment, previous):
    first = deployment.work(previous, "first")
    second = deployment.work(previous, "second")
    clients = [deployment.client(previous, "old"), deployment.client(PRESENT, "new")]
    wait_until(lambda: {name[:3] for name in deployment.ran()} == {"old", "new"})

    for name, worker in (("first", first), ("second", second)):
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(40) == 0
        deployment.work(PRESENT, name)
        seen = len(deployment.ran())
        wait_until(lambda seen=seen: len(deployment.ran()) > seen + 20)
    deployment.folder.joinpath("enough").touch()
    answers = [finish(client) for client in clients]

    assert all(len(told) > 100 for told in answers), "there was hardly any load"
    expected = [f"{mark}{n}" for mark, told in zip(("old", "new"), answers, strict=True)
                for n in range(len(told))]  # fmt: skip
    assert sorted(deployment.ran()) == sorted(expected)
    assert sorted([*answers[0].values(), *answers[1].values()]) == sorted(expected)
    # Each version reads what was sent and answered by way of the other.
    for version, told in ((previous, answers[1]), (PRESENT, answers[0])):
        wanted = deployment.folder / "wanted"
        wanted.write_text(json.dumps(list(told)))
        assert finish(deployment.client(version, "", str(wanted))) == told
    assert json.loads(deployment.cardoon(PRESENT, "quarantine", "list", "--json")) == []


@pytest.mark.slow
def test_the_way_back_is_as_open(deployment, previous):
    worker = deployment.work(PRESENT, "first")
    client = deployment.client(PRESENT, "new")
    wait_until(lambda: len(deployment.ran()) > 20)

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(40) == 0
    deployment.work(previous, "first")
    seen = len(deployment.ran())
    wait_until(lambda: len(deployment.ran()) > seen + 20)
    deployment.folder.joinpath("enough").touch()
    answers = finish(client)

    assert sorted(deployment.ran()) == sorted(answers.values())
    assert len(answers) > 40


@pytest.mark.slow
def test_a_sqlite_file_goes_to_the_new_version_with_all_that_waits_in_it(tmp_path):
    older = unpack(PREVIOUS[0], tmp_path / "older")
    deployment = Deployment(tmp_path / "site", {})
    try:
        worker = deployment.work(older, "first")
        client = deployment.client(older, "old")
        wait_until(lambda: len(deployment.ran()) > 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(40) == 0
        ran = len(deployment.ran())
        wait_until(lambda: waiting(deployment, older) > 20)
        client.kill()
        client.wait()
        sent = ran + waiting(deployment, older)

        deployment.work(PRESENT, "first")
        wait_until(lambda: len(deployment.ran()) >= sent)
        assert waiting(deployment, PRESENT) == 0
        assert sorted(deployment.ran()) == sorted(f"old{number}" for number in range(sent))
    finally:
        deployment.stop()


def waiting(deployment, version):
    """How many messages lie in the queue."""
    told = json.loads(deployment.cardoon(version, "queues", "--json"))
    return sum(one["ready"] for one in told)


def test_a_file_that_a_later_version_has_changed_is_refused_by_an_earlier_one(tmp_path):
    older = unpack(OLDER, tmp_path / "older")
    deployment = Deployment(tmp_path / "site", {})
    deployment.cardoon(PRESENT, "call", "work.add", "-a", "[1, 2]")

    with pytest.raises(subprocess.CalledProcessError) as refused:
        deployment.cardoon(older, "queues")

    assert "has schema version" in refused.value.stderr
    assert "upgrade Cardoon" in refused.value.stderr
