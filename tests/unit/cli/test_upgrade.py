"""`cardoon upgrade settings` and `cardoon report`."""

from __future__ import annotations

import json

OLD = "from celery import Celery, bootsteps\nCELERYD_CONCURRENCY = 3\n"


def test_a_project_is_rewritten_and_each_change_and_decision_named(project):
    (project.folder / "conf.py").write_text(OLD)

    told = project.answer("upgrade", "settings", "conf.py")

    assert (project.folder / "conf.py").read_text().startswith("from cardoon import Celery, bootst")
    assert "conf.py:1: changed: celery -> cardoon\n" in told
    assert "conf.py:2: changed: CELERYD_CONCURRENCY -> worker_concurrency\n" in told
    assert "conf.py:1: decide: celery.bootsteps: the worker's parts cannot be extended\n" in told
    assert told.endswith("\n1 files rewritten; 1 decisions to take\n")
    assert (project.folder / "conf.py.orig").read_text() == OLD


def test_a_dry_run_changes_nothing(project):
    (project.folder / "conf.py").write_text(OLD)

    told = project.answer("upgrade", "settings", ".", "--dry-run", "--django")

    assert "CELERYD_CONCURRENCY -> CELERY_WORKER_CONCURRENCY" in told
    assert "1 files would be rewritten" in told
    assert [path.name for path in project.folder.glob("*.py*")] == ["conf.py"]


def test_an_answer_in_json_has_everything(project):
    (project.folder / "conf.py").write_text(OLD)

    found = project.json("upgrade", "settings", "conf.py", "--json", "--no-backup")

    assert [one["line"] for one in found["changed"]] == [1, 2]
    assert found["decide"][0]["path"] == "conf.py"
    assert (found["files"], found["unreadable"]) == (["conf.py"], {})
    assert not (project.folder / "conf.py.orig").exists()


def test_quietly_only_decisions_are_told(project):
    (project.folder / "conf.py").write_text(OLD)

    told = project.answer("-q", "upgrade", "settings", "conf.py")

    assert told == "conf.py:1: decide: celery.bootsteps: the worker's parts cannot be extended\n"


def test_a_file_that_is_left_alone_is_an_exit_code(project):
    (project.folder / "broken.py").write_text("print 1\n")

    done = project.run("upgrade", "settings", "broken.py")
    found = json.loads(project.run("upgrade", "settings", "broken.py", "--json").stdout)

    assert done.exit_code == 1
    assert "broken.py: left alone: " in done.stderr
    assert list(found["unreadable"]) == ["broken.py"]


def test_a_path_that_is_not_there_is_an_error(project):
    assert "no file or folder 'nowhere'" in project.error("upgrade", "settings", "nowhere")


def test_the_report_of_a_bug_names_versions_and_settings(project):
    project.write_tasks()

    told = project.answer("-A", "tasks", "report")

    assert "software -> cardoon:" in told
    assert "<Cardoon tasks>" in told
