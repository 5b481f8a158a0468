"""The Django example with a real worker and a real database; processes that are killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import DEADLINE, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "django"
VISIT = Path(__file__).parent / "django_visit.py"


class Shop:
    """A folder with the shop's database, mails and messages, and the processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mails = folder / "mails"
        self.log = folder / "worker.log"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(EXAMPLE),
            "SHOP_DATABASE": str(folder / "shop.db"),
            "SHOP_MAILS": str(self.mails),
            "SHOP_SECRET_KEY": "of the tests",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE * 2,
            check=False,
        )

    def manage(self, *command: str) -> str:
        done = self.run(str(EXAMPLE / "manage.py"), *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def visit(self, *arguments: str) -> Any:
        done = self.run(str(VISIT), *arguments)
        assert done.returncode == 0, done.stderr + self.log.read_text()
        return json.loads(done.stdout)

    def die(self, item: str, moment: str) -> None:
        done = self.run(str(VISIT), item, moment)
        assert done.returncode == -signal.SIGKILL, done.stderr

    def look(self) -> Any:
        return self.visit("--look")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def start_worker(self, *options: str) -> subprocess.Popen[bytes]:
        return self.start("-m", "cardoon", "-A", "shop", "worker", "-l", "info", *options)

    def mailed(self, item: str) -> int:
        """How often the receipt of an item was mailed."""
        return sum(f"bought {item} " in one.read_text() for one in self.mails.glob("*"))

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory) -> bytes:
    made = Shop(tmp_path_factory.mktemp("migrated"))
    made.manage("migrate", "-v", "0")
    return (made.folder / "shop.db").read_bytes()


@pytest.fixture
def shop(tmp_path, migrated) -> Iterator[Shop]:
    made = Shop(tmp_path)
    (tmp_path / "shop.db").write_bytes(migrated)
    yield made
    made.stop()


def test_the_examples_own_tests_pass(shop):
    done = shop.run(str(EXAMPLE / "manage.py"), "test", "orders")

    assert "Ran 5 tests" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_the_models_and_the_migrations_agree(shop):
    assert "No changes" in shop.manage("makemigrations", "--check", "--dry-run")


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_an_order_gets_its_receipt(shop, pool):
    shop.start_worker("-P", pool, "-c", "2")

    told = shop.visit("book")

    assert told["shown"]["result"] == "ada bought book for 19.99 EUR."
    assert told["stranger"] == 404
    assert shop.look() == {"orders": 1, "receipts": 1, "outbox": 0}
    assert shop.mailed("book") == 1


def test_an_order_of_a_process_that_dies_before_the_commit_never_was(shop):
    shop.die("book", "before the commit")

    assert shop.look() == {"orders": 0, "receipts": 0, "outbox": 0}
    assert shop.manage("cardoon_outbox") == "rows published: 0\n"


def test_an_order_of_a_process_that_dies_before_it_publishes_is_carried_out_once(shop):
    shop.die("book", "before it publishes")
    assert shop.look() == {"orders": 1, "receipts": 0, "outbox": 1}
    assert "rows waiting: 1" in shop.manage("cardoon_outbox", "--dry-run")

    assert shop.manage("cardoon_outbox") == "rows published: 1\n"
    assert shop.manage("cardoon_outbox") == "rows published: 0\n"
    shop.start_worker()

    wait_until(lambda: shop.mailed("book"), "the receipt")
    assert shop.look() == {"orders": 1, "receipts": 1, "outbox": 0}
    assert shop.mailed("book") == 1


@pytest.mark.parametrize("meanwhile", ["waits", "has run"])
def test_an_order_of_a_process_that_dies_after_it_has_published_is_carried_out_once(
    shop, meanwhile
):
    shop.die("book", "after it has published")
    assert shop.look()["outbox"] == 1
    if meanwhile == "has run":
        shop.start_worker()
        wait_until(lambda: shop.mailed("book"), "the receipt")

    assert shop.manage("cardoon_outbox") == "rows published: 1\n"
    if meanwhile == "waits":
        shop.start_worker()
    shop.visit("pen")  # whatever was published twice has come by then

    assert shop.look() == {"orders": 2, "receipts": 2, "outbox": 0}
    assert (shop.mailed("book"), shop.mailed("pen")) == (1, 1)


def test_a_watcher_publishes_what_was_left_until_it_is_stopped(shop):
    watcher = shop.start(str(EXAMPLE / "manage.py"), "cardoon_outbox", "--watch")
    wait_until(lambda: "watching" in shop.log.read_text(), "the watcher")
    shop.die("book", "before it publishes")

    wait_until(lambda: "rows published: 1" in shop.log.read_text(), "the watcher")
    watcher.send_signal(signal.SIGTERM)

    assert watcher.wait(DEADLINE) == 0
    assert shop.look()["outbox"] == 0


class TestChecks:
    @pytest.fixture
    def broken(self, shop):
        """A project that Django's checks refuse."""
        (shop.folder / "broken.py").write_text(
            "from shop.settings import *\nINSTALLED_APPS += ['django.contrib.admindocs']\nTEMPLATES = []\n"
        )
        shop.environment["DJANGO_SETTINGS_MODULE"] = "broken"
        return shop

    def test_a_worker_does_not_start_with_errors(self, broken):
        worker = broken.start_worker()

        assert worker.wait(DEADLINE) == 1
        assert "admin.E403" in broken.log.read_text()

    def test_they_can_be_skipped(self, broken):
        broken.start("-m", "cardoon", "--skip-checks", "-A", "shop", "worker", "-l", "info")

        wait_until(lambda: "orders.tasks" in broken.log.read_text(), "the worker")

        assert "admin.E403" not in broken.log.read_text()


JOBS = {
    "own.py": """
        from shop.settings import *
        INSTALLED_APPS += ["jobs"]
        TASKS = {"default": {"BACKEND": "cardoon.contrib.django.tasks.CardoonBackend"}}
    """,
    "jobs/__init__.py": "",
    "jobs/tasks.py": """
        try:
            from django.tasks import task
        except ImportError:
            from django_tasks import task
        from cardoon.contrib.django import atomic_send
        from orders.models import Order

        @task(takes_context=True)
        def count(context, least):
            return [context.attempt, Order.objects.filter(cents__gte=least).count()]

        @task
        async def acount():
            return await Order.objects.acount()

        @task
        def fail():
            raise KeyError("none")

        @task
        def pass_on():
            with atomic_send():
                return count.enqueue(5).id
    """,
    "enqueue.py": """
        import dataclasses, json, sys, time
        import django
        django.setup()
        from jobs import tasks

        def wait(result):
            while not result.is_finished:
                time.sleep(0.05)
                try:
                    result.refresh()
                except Exception as error:
                    print(repr(error), file=sys.stderr)  # it has not begun, and task code sent it
            return result

        sent = [tasks.count.enqueue(5), tasks.acount.enqueue(), tasks.fail.enqueue(), tasks.pass_on.enqueue()]
        for result in sent:
            wait(result)
        passed = dataclasses.replace(sent[0], id=sent.pop().return_value, status="READY")
        sent.append(wait(passed))
        told = [[one.status, one._return_value, [e.exception_class_path for e in one.errors]] for one in sent]
        print(json.dumps(told))
    """,
}


def test_djangos_own_tasks_run(shop):
    for name, text in JOBS.items():
        path = shop.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    shop.environment["DJANGO_SETTINGS_MODULE"] = "own"
    shop.environment["PYTHONPATH"] += f"{os.pathsep}{shop.folder}"
    shop.start_worker("-c", "2")

    done = shop.run("enqueue.py")

    assert done.returncode == 0, done.stderr + shop.log.read_text()
    assert json.loads(done.stdout) == [
        ["SUCCESSFUL", [1, 0], []],
        ["SUCCESSFUL", 0, []],
        ["FAILED", None, ["builtins.KeyError"]],
        ["SUCCESSFUL", [1, 0], []],
    ]
