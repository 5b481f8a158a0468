"""Background processes: the terminal, the pidfile, another user."""

from __future__ import annotations

import os
import pwd
import signal

import pytest

from cardoon.cli.daemon import drop_privileges
from cardoon.exceptions import ImproperlyConfigured
from tests.unit.cli.conftest import PATIENCE, until

HOLD = """
import sys
from pathlib import Path
from cardoon.cli.daemon import lock_pidfile, write_pidfile
from cardoon.exceptions import ImproperlyConfigured
path = Path("worker.pid")
try:
    write_pidfile(lock_pidfile(path), path)
except ImproperlyConfigured as error:
    print(error)
else:
    print(path.read_text(), end="")
"""

DAEMON = """
import os, sys
from pathlib import Path
from cardoon.cli.daemon import become_daemon, lock_pidfile, write_pidfile
path = Path("worker.pid")
lock = lock_pidfile(path)
session = os.getsid(0)
become_daemon(Path("worker.log"))
print("printed", flush=True)
os.write(2, b"told\\n")
assert os.read(0, 1) == b""
assert os.getsid(0) not in {session, os.getpid()}
write_pidfile(lock, path)
os.read(os.open("stop", os.O_RDONLY), 1)
"""


def test_the_pidfile_holds_the_id_and_goes_with_the_process(project):
    pid = int(project.python(HOLD))

    assert pid != os.getpid()
    assert not (project.folder / "worker.pid").exists()


def test_one_that_was_left_behind_is_written_anew(project):
    (project.folder / "worker.pid").write_text("99999999999999 and more\n")

    assert project.python(HOLD).strip().isdigit()


def test_a_pidfile_that_cannot_be_is_named(project):
    (project.folder / "worker.pid").mkdir()

    assert project.python(HOLD) == "pidfile worker.pid: cannot be opened: Is a directory\n"


def test_a_daemon_leaves_the_terminal_and_keeps_its_pidfile(project):
    os.mkfifo(project.folder / "stop")
    pidfile = project.folder / "worker.pid"

    project.python(DAEMON)  # returns although the daemon lives
    until(lambda: pidfile.read_text().strip())
    pid = int(pidfile.read_text())
    try:
        assert (project.folder / "worker.log").read_text() == "printed\ntold\n"
        assert project.python(HOLD) == (
            f"pidfile worker.pid: process {pid} is running; stop it, or name another file\n"
        )
        assert pidfile.read_text() == f"{pid}\n"
    finally:
        with open(project.folder / "stop", "w"):  # noqa: PTH123  # opening it is the word
            pass
    until(lambda: not pidfile.exists())


def test_an_unknown_user_or_group_is_named():
    with pytest.raises(ImproperlyConfigured, match=r"--uid no-such-user.*not found"):
        drop_privileges("no-such-user", None)
    with pytest.raises(ImproperlyConfigured, match=r"--gid no-such-group.*not found"):
        drop_privileges(None, "no-such-group")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_privileges_are_dropped_for_good(project):
    nobody = pwd.getpwnam("nobody")

    output = project.python("""
        import os
        from cardoon.cli.daemon import drop_privileges
        drop_privileges("nobody", None)
        print(os.getresuid(), os.getresgid(), os.getgroups())
        try:
            os.setuid(0)
        except PermissionError:
            print("for good")
    """)

    uids, gids = (nobody.pw_uid,) * 3, (nobody.pw_gid,) * 3
    assert output == f"{uids} {gids} {[nobody.pw_gid]}\nfor good\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may become anybody")
def test_who_is_not_root_cannot_become_another():
    with pytest.raises(ImproperlyConfigured, match=r"--uid root.*not permitted"):
        drop_privileges("root", None)


def test_a_worker_goes_to_the_background_and_ends_on_a_signal(project):
    project.write_tasks()
    pidfile = project.folder / "worker.pid"
    command = ["-A", "tasks", "worker", "-P", "solo", "-D", "-f", "worker.log"]
    command += ["--pidfile", "worker.pid", "--umask", "077", "-l", "info", "-n", "back@%n"]

    assert project.finish(*command) == (0, "", "")
    until(lambda: pidfile.exists() and pidfile.read_text())
    pid = int(pidfile.read_text())
    try:
        log = project.folder / "worker.log"
        assert log.stat().st_mode & 0o777 == 0o600
        code, output, errors = project.finish(*command)
        assert (code, output) == (1, "")
        assert f"process {pid} is running" in errors
        assert project.send(2, 3).get(timeout=PATIENCE) == 5
        assert f"back@{os.uname().nodename.partition('.')[0]}" in log.read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not pidfile.exists())


def test_an_error_in_the_background_is_in_the_log(project):
    command = ["-A", "nowhere", "worker", "-D", "-f", "worker.log"]

    assert project.finish(*command) == (0, "", "")

    log = project.folder / "worker.log"
    until(lambda: "there is no module 'nowhere'" in log.read_text())


def test_a_log_that_cannot_be_opened_is_an_error_in_the_foreground(project):
    code, output, errors = project.finish("-A", "tasks", "worker", "-D", "-f", "no/worker.log")

    assert (code, output) == (1, "")
    assert errors == "error: logfile 'no/worker.log' cannot be opened: No such file or directory\n"
