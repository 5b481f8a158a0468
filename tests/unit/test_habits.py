"""What Celery's users are used to of an app, beside tasks, calls and settings."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import zoneinfo
from datetime import UTC, datetime

import pytest

from cardoon import Cardoon, Task
from cardoon.app import bugreport
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.habits import NOT_HERE, find_home
from cardoon.result import GroupResult, ResultSet
from tests.unit.stage import make_app


class Shop(Cardoon):
    """An app with habits of its own."""

    task_cls = "tests.unit.test_habits:ShopTask"
    began = 0

    def on_init(self):
        self.began += 1

    def prepare_config(self, found):
        return {**found, "task_default_queue": "prepared"}


class ShopTask(Task):
    colour = "red"


class TestEvents:
    @pytest.fixture
    def told(self, app):
        """The names of the app's events, in the order in which they happen."""
        names = []
        for name in ("on_configure", "on_after_configure", "on_after_finalize"):
            getattr(app, name).connect(lambda name=name, **_: names.append(name), dispatch_uid=name)
        return names

    def test_declaring_tasks_and_settings_reads_nothing(self, app, told):
        app.task(name="x")(lambda: 1).s().set(queue="fast")
        app.conf.update(task_default_queue="fast")
        app.autodiscover_tasks(["nowhere"])

        assert told == []
        assert (app.configured, app.finalized) == (False, False)

    def test_a_look_at_a_setting_configures(self, app, told):
        _ = app.conf.timezone

        assert told == ["on_configure", "on_after_configure"]
        assert (app.configured, app.finalized) == (True, False)

    def test_the_first_send_finalizes(self, app, told):
        task = app.task(name="x")(lambda: 1)

        task.delay()
        task.delay()

        assert told == ["on_configure", "on_after_configure", "on_after_finalize"]
        assert app.finalized

    def test_the_first_send_of_a_coroutine_finalizes(self, app, told):
        task = app.task(name="x")(lambda: 1)

        asyncio.run(task.adelay())

        assert told[-1] == "on_after_finalize"

    def test_importing_the_modules_finalizes_when_all_tasks_are_known(
        self, app, tmp_path, monkeypatch
    ):
        (tmp_path / "shop_extra.py").write_text("from cardoon import shared_task\n")
        monkeypatch.syspath_prepend(tmp_path)
        app.conf.include = ["shop_extra"]
        seen = []
        app.on_after_finalize.connect(lambda **_: seen.append("shop_extra" in sys.modules))
        app.on_after_configure.connect(lambda **_: seen.append("shop_extra" in sys.modules))

        [module] = app.loader.import_default_modules()

        assert (module.__name__, seen) == ("shop_extra", [False, True])
        del sys.modules["shop_extra"]

    def test_the_receiver_of_celerys_manual_is_called_when_its_task_exists(self, app):
        found = []

        @app.on_after_configure.connect
        def set_up(sender, **kwargs):
            found.append(sender.tasks["shop.test"].s("hello"))

        @app.task(name="shop.test")
        def test(arg):
            return arg

        app.finalize()

        assert found == [test.s("hello")]

    def test_receivers_may_change_settings(self, app):
        app.on_configure.connect(lambda sender, **_: sender.conf.update(task_default_queue="early"))
        app.on_after_configure.connect(
            lambda sender, **_: sender.conf.update(task_default_priority=len(sender.conf.timezone))
        )

        assert (app.conf.task_default_queue, app.conf.task_default_priority) == ("early", 3)

    def test_settings_that_contradict_each_other_do_not_count_as_read(self, app, told):
        app.conf.update(task_serializer="json")
        with pytest.raises(ImproperlyConfigured):
            _ = app.settings
        assert not app.configured

        app.conf.update(accept_content=["auth", "json"], result_serializer="auth")
        _ = app.settings

        assert told == ["on_configure", "on_after_configure"]

    def test_a_forked_process_is_told(self, tmp_path):
        script = """
            import os, warnings
            from cardoon import Cardoon

            app, told = Cardoon("shop"), []
            app.on_after_fork.connect(lambda sender, **_: told.append(sender))
            warnings.simplefilter("ignore")
            pid = os.fork()
            if pid == 0:
                os._exit(0 if told == [app] else 1)
            print(os.waitpid(pid, 0)[1], told)
            """

        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.stdout == "0 []\n", done.stderr


class TestSubclasses:
    def test_hooks_of_a_subclass_are_called(self, tmp_path):
        app = Shop("shop", set_as_current=False, state_directory=str(tmp_path))

        app.config_from_object({"task_default_priority": 3})

        assert app.began == 1
        assert (app.conf.task_default_queue, app.conf.task_default_priority) == ("prepared", 3)

    def test_a_class_of_tasks_may_be_named(self, tmp_path):
        app = Shop("shop", set_as_current=False)
        named = Cardoon("x", set_as_current=False, task_cls="tests.unit.test_habits.ShopTask")
        given = Cardoon("x", set_as_current=False, task_cls=ShopTask)

        for one in (app, named, given):
            assert one.task(name="x")(lambda: 1).colour == "red"
            assert one.create_task_cls() is ShopTask

    @pytest.mark.parametrize("name", ["nowhere:Task", "tests.unit.test_habits:Nothing", "Task"])
    def test_a_class_that_is_not_there_is_named(self, name):
        with pytest.raises(ImproperlyConfigured, match=name):
            Cardoon("x", set_as_current=False, task_cls=name)


class TestArguments:
    def test_celerys_further_arguments_are_taken_where_they_say_nothing(self, tmp_path):
        app = Cardoon(
            "x",
            set_as_current=False,
            changes={"task_default_queue": "fast"},
            fixups=[],
            loader=None,
            autofinalize=True,
            config_source="nowhere",
            config_source_silent=True,
        )

        assert app.conf.task_default_queue == "fast"

    @pytest.mark.parametrize(
        ("name", "value", "why"),
        [
            ("loader", "app", "cannot be exchanged"),
            ("amqp", "proj.AMQP", "cannot be exchanged"),
            ("tasks", {"x": 1}, "a registry of its own"),
            ("autofinalize", False, "nothing to wait for"),
            ("fixups", ["proj.Fixup"], "cardoon.contrib"),
        ],
    )
    def test_those_that_ask_for_something_else_are_refused(self, name, value, why):
        with pytest.raises(ImproperlyConfigured, match=rf"Cardoon\({name}=...\): .*{why}"):
            Cardoon("x", set_as_current=False, **{name: value})

    def test_without_strict_typing_arguments_are_not_checked(self, tmp_path):
        app = make_app(tmp_path / "one", strict_typing=False)
        loose = app.task(name="x")(lambda a: a)
        strict = app.task(name="y", typing=True)(lambda a: a)

        assert loose.delay(1, 2).id
        with pytest.raises(InvalidTaskError):
            strict.delay(1, 2)


class TestSettings:
    def test_defaults_give_way_to_what_was_set(self, app):
        app.conf.task_default_queue = "mine"

        app.add_defaults({"task_default_queue": "theirs", "task_default_priority": 2})
        app.add_defaults(lambda: {"task_default_priority": 7})

        assert (app.conf.task_default_queue, app.conf.task_default_priority) == ("mine", 2)

    def test_either_takes_the_first_that_is_there(self, app):
        assert app.either("task_default_queue", None, "fast", "slow") == "fast"
        assert app.either("task_default_queue", None) == "celery"
        assert app.either("no_such_setting") is None

    def test_time_is_told_in_the_apps_zone(self, app, clock):
        assert app.uses_utc_timezone()
        assert app.now() == datetime.fromtimestamp(clock.now(), UTC)

        app.conf.timezone = "Europe/Vienna"

        assert not app.uses_utc_timezone()
        assert app.timezone == zoneinfo.ZoneInfo("Europe/Vienna")
        assert app.now().utcoffset() is not None

    def test_a_report_of_a_bug_holds_no_secret(self, app):
        app.conf.broker_url = "redis://user:hunter2@nowhere"

        told = app.bugreport()

        assert "cardoon:" in told
        assert "task_default_queue" not in told
        assert "hunter2" not in told
        assert bugreport(app) == told


class TestParts:
    def test_modules_are_imported_through_the_loader(self, app, tmp_path, monkeypatch):
        package = tmp_path / "shop_loaded"
        package.mkdir()
        package.joinpath("__init__.py").write_text("")
        package.joinpath("tasks.py").write_text("x = 1\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", sys.path[:])

        assert app.loader.import_from_cwd("shop_loaded").__name__ == "shop_loaded"
        app.loader.autodiscover_tasks(["shop_loaded"])

        assert sys.modules["shop_loaded.tasks"].x == 1
        assert app.loader.import_task_module("shop_loaded.tasks").x == 1
        assert app.loader.import_module(".tasks", "shop_loaded").x == 1
        for name in ("shop_loaded.tasks", "shop_loaded"):
            del sys.modules[name]

    def test_a_module_to_include_that_is_not_there_is_named(self, app):
        app.conf.include = ["nowhere.tasks"]

        with pytest.raises(ImproperlyConfigured, match=r"no module 'nowhere\.tasks'"):
            app.loader.import_default_modules()

    def test_groups_and_sets_are_made_and_restored(self, app):
        sent = app.send_task("x")
        app.GroupResult("g", [sent]).save()

        assert app.GroupResult.restore("g").results == [sent]
        assert app.GroupResult.restore("other") is None
        assert isinstance(app.GroupResult("g"), GroupResult)
        assert app.ResultSet([sent]).results == [sent]
        assert app.ResultSet is ResultSet

    def test_an_app_has_an_id_of_its_own(self, app):
        assert app.oid == app.oid
        assert app.oid != Cardoon("x", set_as_current=False).oid

    @pytest.mark.parametrize("name", sorted(NOT_HERE))
    def test_what_is_not_here_says_what_to_do(self, app, name):
        assert not hasattr(app, name)
        with pytest.raises(AttributeError, match=rf"app\.{name} is Celery's and not here: \w"):
            getattr(app, name)

    def test_a_property_that_raises_is_not_taken_for_one_that_is_missing(self):
        class Broken(Cardoon):
            @property
            def colour(self):
                return None.nothing

        with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'nothing'"):
            _ = Broken("x", set_as_current=False).colour
        with pytest.raises(AttributeError, match="'Broken' object has no attribute 'color'"):
            _ = Broken("x", set_as_current=False).color


SCRIPT = """
    import sys
    from cardoon import Cardoon

    tasks = Cardoon("tasks", task_default_queue="scripts")

    if __name__ == "__main__":
        tasks.start({argv})
        print("this is never printed")
"""


class TestStart:
    def run(self, tmp_path, text, *arguments, module=False):
        (tmp_path / "scripted.py").write_text(textwrap.dedent(text))
        command = ["-m", "scripted"] if module else [str(tmp_path / "scripted.py")]
        return subprocess.run(
            [sys.executable, *command, *arguments],
            cwd=tmp_path if module else "/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_a_script_becomes_the_command_line_of_its_app(self, tmp_path):
        done = self.run(tmp_path, SCRIPT.format(argv=""), "report")

        assert done.returncode == 0, done.stderr
        assert "<Cardoon tasks>" in done.stdout
        assert "task_default_queue='scripts'" in done.stdout
        assert "never printed" not in done.stdout

    @pytest.mark.parametrize(
        "argv", ["['report']", "['celery', 'report']", "['/bin/celery', 'report']"]
    )
    def test_arguments_may_be_given_as_to_celery(self, tmp_path, argv):
        done = self.run(tmp_path, SCRIPT.format(argv=argv), module=True)

        assert done.returncode == 0, done.stderr
        assert "task_default_queue='scripts'" in done.stdout

    def test_the_exit_code_is_the_commands(self, tmp_path):
        assert self.run(tmp_path, SCRIPT.format(argv=""), "nonsense").returncode == 2

    @pytest.mark.parametrize("argv", ["['--help']", "['worker', '--help']"])
    def test_a_worker_is_started_with_or_without_saying_so(self, tmp_path, argv):
        text = SCRIPT.format(argv=argv).replace(".start(", ".worker_main(")

        done = self.run(tmp_path, text)

        assert "Start a worker." in done.stdout

    def test_a_worker_that_imports_the_app_does_not_start_another(self, app, monkeypatch):
        monkeypatch.setenv("CARDOON_PROCESS", "task")

        with pytest.raises(ImproperlyConfigured, match="__name__ == '__main__'"):
            app.start(["worker"])

    def test_an_app_that_no_module_holds_cannot_be_imported_afresh(self, app):
        with pytest.raises(ImproperlyConfigured, match="no module holds <Cardoon shop> by a name"):
            app.start(["report"])

    def test_an_app_is_found_in_the_module_that_holds_it(self, app, monkeypatch):
        monkeypatch.setattr(sys.modules[__name__], "shop_app", app, raising=False)

        assert find_home(app)[0] == f"{__name__}:shop_app"
