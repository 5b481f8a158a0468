"""What shells are told: commands, options, tasks and queues."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from cardoon.cli.main import COMMANDS


def complete(project, line, *, env=None):
    """What bash is offered behind this line: `type,value` made to values."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "cardoon"],
        cwd=project.folder,
        env={
            **os.environ,
            "_CARDOON_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            **(env or {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [row.partition(",")[2] for row in done.stdout.splitlines() if row]


def test_commands_and_options_are_completed(project):
    assert set(complete(project, "cardoon ")) >= set(COMMANDS)
    assert complete(project, "cardoon rep") == ["replay", "report"]
    assert "--broker" in complete(project, "cardoon --b")
    assert "--timeout" in complete(project, "cardoon call add --t")
    assert complete(project, "cardoon dead re") == ["retry"]
    assert complete(project, "cardoon worker -P pre") == ["prefork"]


def test_tasks_and_queues_of_the_app_are_completed(project):
    (project.folder / "tasks.py").write_text(
        "import os, sys\n"
        "print('noise'); print('noise', file=sys.stderr); os.system('echo noise')\n"
        "open('imports', 'a').write('once\\n')\n"
        "from cardoon import Cardoon\n"
        "app = Cardoon('tasks', task_queues=['mails', 'images'], set_as_current=False)\n"
        "@app.task\ndef add(x, y): pass\n@app.task\ndef pay(): pass\n"
    )
    project.send(1, 2, queue="stored")

    assert complete(project, "cardoon -A tasks call tasks.a") == ["tasks.add"]
    assert (project.folder / "imports").read_text() == "once\n"
    assert complete(project, "cardoon -A tasks purge -Q m") == ["mails"]
    assert complete(project, "cardoon -A tasks purge -Q mails,i") == ["mails,images"]
    assert complete(project, "cardoon -A tasks pause st") == ["stored"]
    assert complete(project, "cardoon worker -A tasks -Q im") == ["images"]


def test_a_failure_is_silent(project):
    (project.folder / "broken.py").write_text("print('noise')\nraise SystemExit('no')\n")

    assert complete(project, "cardoon -A broken call x") == []
    assert complete(project, "cardoon -A nowhere call x") == []
    assert complete(project, "cardoon -b redis://127.0.0.1:1 purge -Q x") == []
    assert complete(project, "cardoon no-such-command x") == []
    # Nothing was made by being asked.
    assert not project.state.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(project, shell):
    script = project.answer("completion", shell)

    assert f"_CARDOON_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        checked = subprocess.run(
            [shell, "-n"], input=script, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def test_bash_completes_with_the_script(project, tmp_path):
    script = project.answer("completion", "bash")
    wrapper = tmp_path / "cardoon"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cardoon "$@"\n')
    wrapper.chmod(0o755)
    asked = (
        f'PATH="{tmp_path}:$PATH"\n{script}\n'
        "COMP_WORDS=(cardoon rep) COMP_CWORD=1\n"
        '_cardoon_completion cardoon\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )

    done = subprocess.run(
        ["bash", "--norc", "-c", asked], capture_output=True, text=True, check=False
    )

    assert done.stdout.split() == ["replay", "report"], done.stderr


def test_another_shell_is_an_error(project):
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in project.usage("completion", "tcsh")
