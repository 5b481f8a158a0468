"""The fixtures for pytest, in runs of pytest of their own, in which every warning is an error."""

from __future__ import annotations

import os
import sys

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

PLUGIN = "cardoon.contrib.pytest"
INI = "[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n"


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs test files in a process of their own, with the plugin loaded once or more."""
    monkeypatch.delenv("NO_WORKER", raising=False)
    pytester.makefile(".ini", pytest=INI)

    def run(*arguments):
        return pytester.runpytest_subprocess(
            "-p", PLUGIN, "-p", "no:cacheprovider", "-q", *arguments, timeout=120
        )

    return run


def test_a_test_file_in_celerys_words_runs_as_it_stands(pytester, run):
    pytester.makepyfile(
        project="""
        from cardoon import shared_task

        @shared_task
        def double(x):
            return 2 * x
        """,
        conftest="""
        import pytest

        pytest_plugins = ("cardoon.contrib.pytest",)

        @pytest.fixture(scope="session")
        def celery_config():
            return {"task_track_started": True}

        @pytest.fixture(scope="session")
        def celery_includes():
            return ["project"]

        @pytest.fixture(scope="session")
        def celery_worker_parameters():
            return {"queues": ("celery", "fast"), "perform_ping_check": True}

        @pytest.fixture(scope="session")
        def celery_class_tasks():
            from cardoon import Task

            class Greet(Task):
                name = "greet"

                def run(self, name):
                    return f"hello {name}"

            return [Greet]
        """,
        test_it="""
        import pytest

        from cardoon import shared_task
        from cardoon.exceptions import ImproperlyConfigured

        def test_create_task(celery_app, celery_worker):
            @celery_app.task
            def mul(x, y):
                return x * y

            celery_worker.reload()
            assert mul.delay(4, 4).get(timeout=10) == 16
            assert mul.apply_async((2, 3), queue="fast").get(timeout=10) == 6

        @pytest.mark.usefixtures("depends_on_current_app", "celery_worker")
        def test_shared():
            from project import double

            assert double.delay(4).get(timeout=10) == 8

        @pytest.mark.celery(task_default_queue="fast", task_track_started=False)
        def test_marked(celery_app, celery_worker):
            assert celery_app.conf.task_default_queue == "fast"
            assert celery_app.conf.task_track_started is False

            @celery_app.task
            def ident(x):
                return x

            assert ident.delay(1).get(timeout=10) == 1

        def test_config(celery_app):
            assert celery_app.conf.task_track_started is True
            assert celery_app.conf.task_default_queue == "celery"

        @pytest.mark.celery(task_default_qeue="fast")
        @pytest.mark.xfail(raises=ImproperlyConfigured, strict=True)
        def test_misspelt(celery_app):
            raise AssertionError

        @pytest.mark.parametrize("number", [1, 2])
        def test_session(celery_session_app, celery_session_worker, number):
            from project import double

            assert double.app is celery_session_app
            assert double.delay(number).get(timeout=10) == 2 * number
            assert celery_session_app.send_task("greet", ("ann",)).get(timeout=10) == "hello ann"
        """,
    )

    run().assert_outcomes(passed=6, xfailed=1)


def test_the_fixtures_are_there_under_our_own_names(pytester, run):
    pytester.makepyfile(
        library="from cardoon import shared_task\n\n@shared_task(name='lib.one')\ndef one():\n    return 1",
        conftest="""
        import pytest

        @pytest.fixture(scope="session")
        def cardoon_config():
            return {"task_default_queue": "work"}

        @pytest.fixture(scope="session")
        def cardoon_parameters():
            return {"name": "ours"}

        @pytest.fixture(scope="session")
        def cardoon_includes():
            return ["library"]

        @pytest.fixture(scope="session")
        def cardoon_worker_parameters():
            return {"hostname": "here@there"}

        @pytest.fixture(scope="session")
        def cardoon_enable_logging():
            return True
        """,
        test_it="""
        import logging
        import os
        import pathlib

        import pytest

        from cardoon.testing import Simulation, capture

        def test_one(cardoon_app, cardoon_worker, cardoon_state_directory, caplog):
            result = cardoon_app.send_task("lib.one")
            assert result.get(timeout=10) == 1
            assert result.worker == "here@there"
            assert cardoon_app.main == "ours"
            assert cardoon_app.conf.accept_content == ("auth",)
            assert (cardoon_state_directory / "worker.key").exists()
            assert not list(pathlib.Path.cwd().glob(".cardoon"))

        def test_the_worker_logs(cardoon_app, cardoon_worker, caplog):
            with caplog.at_level(logging.INFO):
                cardoon_app.send_task("lib.one").get(timeout=10)
                cardoon_app.send_task("lib.one").get(timeout=10)
            assert "lib.one" in caplog.text

        @pytest.mark.cardoon(task_default_queue="fast")
        def test_marked(cardoon_app):
            with capture(cardoon_app) as sent:
                cardoon_app.send_task("lib.one")
            sent.assert_sent("lib.one", queue="fast")
            with Simulation(cardoon_app):
                cardoon_app.task(name="two")(lambda: 2)
                assert cardoon_app.send_task("two").get() == 2

        def test_session(cardoon_session_app, cardoon_session_worker):
            assert cardoon_session_app.send_task("lib.one").get(timeout=10) == 1
        """,
    )

    run().assert_outcomes(passed=4)


def test_the_trap_catches_who_asks_for_the_current_app(pytester, run):
    pytester.makepyfile(
        conftest="""
        import pytest

        @pytest.fixture(scope="session")
        def use_celery_app_trap():
            return True
        """,
        test_it="""
        import pytest

        from cardoon import Celery, shared_task

        @shared_task(name="mine")
        def mine():
            return 1

        outer = Celery("outer")

        def test_trap(celery_app, celery_worker):
            with pytest.raises(RuntimeError, match="Test depends on current_app: 'tasks'"):
                mine.delay()
            assert celery_app.send_task("mine").get(timeout=10) == 1

        def test_no_trap_without_the_fixture():
            assert mine.app is outer
        """,
    )

    run().assert_outcomes(passed=2)


def test_a_run_that_uses_no_fixture_loads_nothing_of_cardoon(pytester, run):
    pytester.makepyfile(
        """
        import sys

        def test_it():
            loaded = {name for name in sys.modules if name.startswith("cardoon")}
            assert loaded <= {
                "cardoon", "cardoon.contrib", "cardoon.contrib.pytest",
                "cardoon.contrib.pytest_celery",
            }
        """
    )

    run().assert_outcomes(passed=1)


def test_without_workers_the_fixture_is_none(pytester, run, monkeypatch):
    monkeypatch.setenv("NO_WORKER", "1")
    pytester.makepyfile("def test_it(cardoon_worker):\n    assert cardoon_worker is None")

    run().assert_outcomes(passed=1)


def test_beside_celerys_own_plugin_its_names_are_its_own(pytester, run):
    """One that is like it: Celery itself has no place among what the tests need."""
    (pytester.path / "celery" / "contrib").mkdir(parents=True)
    (pytester.path / "celery" / "__init__.py").touch()
    (pytester.path / "celery" / "contrib" / "__init__.py").touch()
    (pytester.path / "celery" / "contrib" / "pytest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef celery_app():\n    return 'theirs'\n"
    )
    pytester.makepyfile(
        conftest="pytest_plugins = ['celery.contrib.pytest']",
        test_it="""
        def test_it(celery_app, cardoon_app, request):
            assert celery_app == "theirs"
            assert cardoon_app.main
            assert not request.config.pluginmanager.has_plugin("cardoon.contrib.pytest_celery")
        """,
    )
    pytester.syspathinsert()

    run().assert_outcomes(passed=1)


def test_installed_it_is_loaded_by_itself_though_cardoon_was_imported_before(pytester, monkeypatch):
    info = pytester.path / "installed" / "cardoon_plugin-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cardoon-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{PLUGIN} = {PLUGIN}\n")
    (info / "RECORD").write_text("cardoon/__init__.py,,\ncardoon/contrib/pytest.py,,\n")
    path = os.pathsep.join([str(info.parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    pytester.makefile(".ini", pytest=INI)
    pytester.makepyfile(
        conftest="pytest_plugins = ['cardoon.contrib.pytest', 'cardoon.contrib.pytest_celery']",
        test_it="def test_it(celery_app, cardoon_app):\n    assert celery_app is not cardoon_app",
    )

    done = pytester.run(
        sys.executable,
        *("-W", "error", "-c"),
        "import cardoon.app, pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))",
    )

    done.assert_outcomes(passed=1)


def test_the_marks_are_described(run):
    run("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.celery(*settings)*", "@pytest.mark.cardoon(*settings)*"]
    )
