"""What Django's presence changes about an app, and about a worker's connections."""

from __future__ import annotations

import asyncio
import gc
import logging
import logging.config
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.core.checks import Error, register
from django.core.checks.registry import registry
from django.core.management.base import SystemCheckError
from django.db import connections, transaction
from django.test import override_settings

from cardoon import Cardoon, Task
from cardoon.context import Request
from cardoon.contrib.django import DjangoTask, fixup, install
from cardoon.coroutines import LoopRunner
from cardoon.executor import Succeeded, execute, execute_async
from cardoon.signals import (
    import_modules,
    task_postrun,
    task_prerun,
    worker_before_create_process,
    worker_init,
    worker_process_init,
)
from tests.unit.stage import make_app


@pytest.fixture
def app(app):
    install(app)
    return app


@pytest.fixture
def worker(app):
    """A worker of the app has begun."""
    worker_init.send(sender=SimpleNamespace(app=app))
    yield
    for signal in (task_prerun, task_postrun, worker_before_create_process, worker_process_init):
        signal.disconnect(dispatch_uid=fixup.__name__)


def run(task, *args):
    request = Request(task=task.name, id="t1", args=args, called_directly=False)
    loop = LoopRunner()
    try:
        outcome = execute(task, request, loop)
    finally:
        loop.close()
    assert isinstance(outcome, Succeeded), outcome
    return outcome.value


def is_open(alias="default"):
    return connections[alias].connection is not None


class TestTheApp:
    def test_it_is_adapted_by_itself_in_a_django_project(self, monkeypatch):
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")

        assert Cardoon("shop", set_as_current=False).Task is DjangoTask

    def test_it_is_left_alone_elsewhere(self, monkeypatch):
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)

        assert Cardoon("shop", set_as_current=False).Task is Task

    def test_without_django_there_is_a_warning(self):
        code = """
            import sys, warnings
            class NoDjango:
                def find_spec(self, name, path=None, target=None):
                    if name == "django":
                        raise ModuleNotFoundError(name, name=name)
            sys.meta_path.insert(0, NoDjango())
            from cardoon import Cardoon, Task
            from cardoon.exceptions import FixupWarning
            with warnings.catch_warnings(record=True) as caught:
                assert Cardoon("shop").Task is Task
            [told] = caught
            assert told.category is FixupWarning and told.filename == "<string>", told
            assert "pip install cardoon[django]" in str(told.message)
        """
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings"}
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)

    def test_it_is_not_kept_alive(self):
        made = weakref.ref(Cardoon("shop", set_as_current=False))
        app = Cardoon("shop", set_as_current=False)
        install(app)
        kept = weakref.ref(app)
        del app
        gc.collect()

        assert (made(), kept()) == (None, None)

    def test_nothing_of_django_is_imported_without_it(self):
        code = """
            import sys
            from cardoon import Cardoon
            Cardoon("shop")
            assert not any(name.partition(".")[0] == "django" for name in sys.modules)
        """
        environment = {
            name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
        }
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


class TestTheTimeZone:
    @override_settings(TIME_ZONE="Europe/Berlin")
    def test_it_is_djangos(self, app):
        assert app.settings.timezone == "Europe/Berlin"
        assert str(app.now().tzinfo) == "Europe/Berlin"

    @override_settings(TIME_ZONE="Europe/Berlin")
    def test_the_apps_own_wins(self, app):
        app.conf.timezone = "Asia/Tokyo"

        assert app.settings.timezone == "Asia/Tokyo"

    def test_an_operators_command_does_not_read_the_projects_settings(self, tmp_path):
        (tmp_path / "shopsettings.py").write_text("raise SystemExit('was imported')\n")
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "shopsettings",
            "PYTHONPATH": str(tmp_path),
        }

        done = subprocess.run(
            [sys.executable, "-m", "cardoon", "queues"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stderr) == (0, "")

    def test_djangos_default_is_nobodys_wish(self, app):
        assert app.settings.timezone == "UTC"


class TestConnections:
    @pytest.fixture
    def look(self, app, order):
        """A task that uses the database."""

        @app.task(name="shop.look")
        def look(alias="default"):
            return order.objects.using(alias).count()

        return look

    def test_a_task_leaves_none_open(self, worker, look, alias):
        assert run(look, alias) == 0

        assert not is_open(alias)

    def test_a_task_leaves_it_open_as_long_as_conn_max_age_says(self, worker, look, database):
        connections["default"].settings_dict["CONN_MAX_AGE"] = 60
        try:
            run(look)
            first = connections["default"].connection
            run(look)
            assert connections["default"].connection is first is not None
        finally:
            connections["default"].settings_dict["CONN_MAX_AGE"] = 0

    def test_a_task_begins_without_one_that_is_broken(self, worker, look, postgres):
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        other = connections["postgres"].copy()
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        other.close()
        with pytest.raises(Exception, match="terminat"):
            connections["postgres"].cursor().execute("SELECT 1")

        assert run(look, "postgres") == 0

    def test_a_task_in_a_threads_own_connection(self, worker, look, database):
        found = []
        thread = threading.Thread(target=lambda: found.extend([run(look), is_open()]))
        thread.start()
        thread.join()

        assert found == [0, False]

    def test_a_transaction_of_a_test_is_left_alone(self, worker, look, order, database):
        with transaction.atomic():
            order.objects.create(item="book")
            assert run(look) == 1
            assert is_open()
            transaction.set_rollback(True)

        assert order.objects.count() == 0

    def test_an_eager_task_closes_nothing(self, app, worker, look, database):
        connections["default"].ensure_connection()

        look.apply()

        assert is_open()

    def test_a_transaction_that_a_task_leaves_open_is_rolled_back(
        self, app, worker, look, order, alias, caplog, rolled_back
    ):
        @app.task(name="shop.leave")
        def leave():
            transaction.atomic(alias).__enter__()
            order.objects.using(alias).create(item="book")

        run(leave)

        assert f"transaction on database {alias!r} open" in caplog.text
        assert run(look, alias) == 0

    def test_queries_of_other_tasks_are_not_kept(self, app, worker, look, database):
        connections["default"].settings_dict["CONN_MAX_AGE"] = 60
        try:
            with override_settings(DEBUG=True):
                run(look)
                run(look)
                assert len(connections["default"].queries_log) == 1
        finally:
            connections["default"].settings_dict["CONN_MAX_AGE"] = 0

    def test_a_worker_of_another_app_changes_nothing(self, app, tmp_path):
        worker_init.send(sender=SimpleNamespace(app=make_app(tmp_path / "other")))

        assert not task_prerun.receivers


class TestCoroutines:
    @pytest.fixture
    def look(self, app, order):
        """Uses the database as asynchronous code does, and says in which thread."""

        @app.task(name="shop.alook")
        async def look():
            def count():
                threads.append((threading.get_ident(), connections["default"]))
                return order.objects.count()

            assert await order.objects.acount() == 0
            return await sync_to_async(count)()

        threads = []
        look.threads = threads
        return look

    def test_one_ends_with_its_connections_closed(self, worker, look, database):
        before = threading.active_count()

        assert run(look) == 0

        [(_, connection)] = look.threads
        deadline = threading.Event()
        for _ in range(200):
            if connection.connection is None and threading.active_count() <= before:
                break
            deadline.wait(0.01)
        assert connection.connection is None
        assert threading.active_count() <= before

    def test_those_side_by_side_do_not_wait_for_each_others_queries(self, worker, look, database):
        async def both():
            requests = [Request(task=look.name, id=name, called_directly=False) for name in "ab"]
            return await asyncio.gather(*(execute_async(look, one) for one in requests))

        outcomes = asyncio.run(both())

        assert [one.value for one in outcomes] == [0, 0]
        assert len({thread for thread, _ in look.threads}) == 2

    def test_one_that_needs_no_thread_gets_none(self, app, worker):
        @app.task(name="shop.idle")
        async def idle():
            return threading.active_count()

        assert run(idle) == threading.active_count()


class TestForks:
    def test_a_new_process_inherits_nothing(self, worker, alias):
        connections[alias].ensure_connection()

        worker_before_create_process.send(sender=None)

        assert not is_open(alias)

    def test_what_was_inherited_is_not_used_and_not_closed(self, worker, postgres):
        connections["postgres"].ensure_connection()
        inherited = connections["postgres"].connection

        worker_process_init.send(sender=None)
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SELECT 1")

        assert connections["postgres"].connection is not inherited
        assert inherited.execute("SELECT 2").fetchone() == (2,)
        inherited.close()


class TestTheStart:
    @pytest.fixture
    def refused(self):
        def refuse(app_configs, **kwargs):
            return [Error("this cannot work", id="shop.E001")]

        register(refuse)
        yield
        registry.registered_checks.discard(refuse)

    def test_what_the_checks_refuse_stops_it(self, app, refused):
        with pytest.raises(SystemCheckError, match=r"shop\.E001"):
            app.loader.import_default_modules()

    def test_the_checks_can_be_skipped(self, app, refused, monkeypatch):
        monkeypatch.setenv("CELERY_SKIP_CHECKS", "true")

        app.loader.import_default_modules()

    def test_other_apps_are_not_checked(self, app, refused, tmp_path):
        make_app(tmp_path / "other").loader.import_default_modules()

    def test_djangos_logging_takes_nothing_from_the_workers(self):
        root, mine = logging.getLogger(), logging.getLogger("cardoon.a_logger_of_this_test")
        handler = logging.NullHandler()
        root.addHandler(handler)
        before, level = root.handlers[:], root.level
        try:
            with fixup._logging_kept(hijacked=True):
                logging.config.dictConfig(
                    {"version": 1, "root": {"level": "CRITICAL", "handlers": []}}
                )
                assert mine.disabled
            assert not mine.disabled
            assert (root.handlers, root.level) == (before, level)
        finally:
            root.removeHandler(handler)


def test_tasks_of_installed_apps_are_discovered(app):
    app.autodiscover_tasks()

    import_modules.send(sender=app)
    app.discover()  # Django apps of Cardoon's own included
