"""`cardoon init`: identities for its user alone, a starter project, and nothing overwritten."""

from __future__ import annotations

import os
import stat

import pytest

from cardoon import Cardoon
from tests.unit.hands import Hands


@pytest.fixture(params=[0o022, 0o000, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request):
    """What the user's files may be by default must not matter."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_keys_and_folders_are_for_their_user_alone(project, umask):
    project.answer("init", "shop")

    state = project.folder / "shop" / ".cardoon"
    assert {path.name: oct(mode(path)) for path in state.glob("*.key")} == {
        "ca.key": "0o600",
        "client.key": "0o600",
        "worker.key": "0o600",
    }
    assert {mode(path) for path in (state, state / "trusted")} == {0o700}
    assert sorted(path.name for path in (state / "trusted").iterdir()) == [
        "client.pem",
        "worker.pem",
    ]
    assert (state / ".gitignore").read_text() == "*\n"


def test_it_says_what_it_made_and_what_comes_next(project):
    lines = project.answer("init", "shop").splitlines()

    assert lines[0] == "authority  shop/.cardoon/ca.pem  (key: shop/.cardoon/ca.key)"
    assert [line.split()[0] for line in lines[:4]] == ["authority", "client", "worker", "tasks"]
    assert lines[5:] == [
        "next:",
        "  cd shop",
        "  cardoon -A tasks worker",
        "  python tasks.py      # elsewhere",
    ]


def test_here_there_is_nowhere_to_go_to(project):
    assert "cd " not in project.answer("init")
    assert (project.folder / "tasks.py").exists()


def test_it_may_say_nothing(project):
    assert project.answer("-q", "init") == ""


def test_a_second_time_changes_nothing(project):
    project.answer("init", "shop")
    tasks = project.folder / "shop" / "tasks.py"
    tasks.write_text("# mine\n")
    before = contents(project.folder)

    told = project.answer("init", "shop")

    assert contents(project.folder) == before
    assert f"tasks      {tasks.relative_to(project.folder)}  (kept)" in told


def test_client_and_worker_trust_each_other(project):
    project.answer("init", "--domain", "shop.example")
    app = Cardoon("tasks", set_as_current=False)
    hands = Hands(app.settings)

    sent = app.send_task("tasks.add", (2, 3))
    [delivery] = hands.take()
    hands.succeed(delivery, 5)

    assert hands.open(delivery).signer.name == "spiffe://shop.example/client"
    assert sent.get(timeout=5) == 5
    hands.close()
    app.close()


def test_the_starter_project_sends_its_task_and_shows_the_result(project):
    project.answer("init")
    with project.hands.answering(lambda x, y: x + y):
        assert project.python("import tasks; print(tasks.add.name)") == "tasks.add\n"
        assert project.python("import runpy; runpy.run_module('tasks', run_name='__main__')") == (
            "5\n"
        )


def test_a_domain_that_is_none_is_refused(project):
    assert project.error("init", "--domain", "Shop!") == (
        "trust domain 'Shop!': use lower-case letters, digits, '.', '-' and '_'"
    )


def test_a_further_identity_is_made_when_asked_for(project):
    project.answer("init")
    assert not (project.state / "bridge.pem").exists()

    project.answer("init", "--role", "bridge")

    assert {"bridge.key", "bridge.pem"} <= {one.name for one in project.state.iterdir()}
    assert (project.state / "trusted" / "bridge.pem").exists()


def test_a_domain_cannot_change(project):
    project.answer("init", "--domain", "one")

    assert "the authority for one, not for two; use another directory" in project.error(
        "init", "--domain", "two"
    )


def test_a_folder_that_others_may_write_is_refused(project):
    project.state.mkdir()
    project.state.chmod(0o777)

    assert "chmod go-w" in project.error("init")
    assert list(project.state.iterdir()) == []


def test_a_place_that_is_a_file_is_refused(project):
    (project.folder / "shop").write_text("")

    assert "'shop' is a file" in project.usage("init", "shop")
