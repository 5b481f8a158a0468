"""A project's folder, its command line, and the people and hands that work there."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time

import pytest
from click.testing import CliRunner

from cardoon import Cardoon
from cardoon.cli.main import cardoon
from cardoon.exceptions import CardoonError
from tests.unit.hands import Hands

PATIENCE = 20.0
"""Seconds for what another process does; far more than it takes."""
TASKS = """\
from cardoon import Cardoon

app = Cardoon("tasks", set_as_current=False)


@app.task
def add(x, y):
    return x + y
"""


class Project:
    """A folder with an app, `tasks`, whose store is the embedded one."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / ".cardoon"
        self.app = Cardoon("tasks", set_as_current=False, state_directory=str(self.state))
        self._hands = None

    @property
    def hands(self):
        """A worker done by hand; the folder's store is made with it."""
        if self._hands is None:
            self._hands = Hands(self.app.settings)
        return self._hands

    def send(self, *args, name="tasks.add", **options):
        return self.app.send_task(name, args, **options)

    def dead(self, reason="its time had come"):
        """Send a task that becomes a dead letter; returns its id."""
        sent = self.send(1, 2)
        [delivery] = self.hands.take()
        self.hands.fail(delivery, ValueError("no"), dead=reason)
        return sent.id

    def refused(self, reason="unknown-signer", detail="nobody knows it"):
        """Send a message that ends in quarantine; returns its id."""
        sent = self.send(1, 2)
        [delivery] = self.hands.take()
        self.hands.refuse(delivery, reason, detail)
        return sent.id

    def write_tasks(self):
        (self.folder / "tasks.py").write_text(TASKS)

    def close(self):
        self.app.close()
        if self._hands is not None:
            self._hands.close()

    def run(self, *arguments, input=None):
        """A command, in this process."""
        return CliRunner().invoke(cardoon, arguments, input=input)

    def answer(self, *arguments, input=None):
        """What a command that succeeds says."""
        done = self.run(*arguments, input=input)
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.answer(*arguments))

    def error(self, *arguments):
        """Our own error that ends a command; `main` makes a line and exit code 1 of it."""
        done = self.run(*arguments)
        assert isinstance(done.exception, CardoonError), done.output
        assert done.output == ""
        return str(done.exception)

    def usage(self, *arguments):
        """What click says of a command that was called wrongly."""
        done = self.run(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        return " ".join(done.stderr.split())

    def start(self, *arguments, **options):
        """A command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "cardoon", *arguments],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def python(self, script):
        """What a script prints."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def finish(self, *arguments, **options):
        """Run it to its end: exit code, output, errors."""
        with self.start(*arguments, **options) as process:
            try:
                output, errors = process.communicate(timeout=PATIENCE)
            except BaseException:
                process.kill()  # or `with` would wait for it
                raise
        return process.returncode, output, errors


def until(condition):
    """Wait for what another process does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project in the working directory, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    made = Project(tmp_path)
    yield made
    made.close()
    for name in set(sys.modules) - before:
        del sys.modules[name]
