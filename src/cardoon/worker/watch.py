"""The worker's end of the warden: starts it without secrets, hears what tasks were refused.

For one thread, the supervisor's, which waits for `fileno` among its processes. A warden that has died is
the end of every nest that had a hatch to it: their tasks get ENOSYS for what would have been asked.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from cardoon.sandbox.presets import does_warden_connect
from cardoon.sandbox.profile import Sandbox
from cardoon.worker.ipc import (
    FROM_WARDEN,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    field,
    pack_frame,
)
from cardoon.worker.warden import FLOOD

_ANSWER_SECONDS = 10.0
_PASSED = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
"""Variables that an interpreter may need to find itself; the rest of the worker's is not for the warden."""


class WardenLostError(IpcError):
    """The warden is gone, and with it the hatches of all nests."""


class Told(NamedTuple):
    """Something that a task was refused."""

    token: int
    """Of which task process; 0 where only the profile is known."""
    rule: str
    """The system call, or `more` for kinds that are not told apart."""
    detail: str
    """What it was about, from the task, to be escaped where it is shown."""
    times: int
    """How many times more than was told before."""
    profile: int
    """The number of the hatch, in the order in which they were asked for."""

    @property
    def is_flood(self) -> bool:
        """Whether the task asks for what it may not have without end, and is to be killed."""
        return self.rule == FLOOD


class Watch:
    """Starts the warden and asks it for hatches.

    `denied` are hosts and ports of the worker's own servers, which no task reaches by a name. `task_uid` is
    who tasks run as where the worker is root: the warden is the same where it has no CAP_SYS_PTRACE.
    """

    def __init__(self, denied: Sequence[tuple[str, int]] = (), *, task_uid: int = 65534) -> None:
        self._task_uid = task_uid
        self._denied = [list(one) for one in denied]
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._reader = FrameReader(FROM_WARDEN)
        self._handles: deque[int] = deque()
        self._told: deque[Told] = deque()
        self._hatches = 0

    def start(self) -> None:
        """Start the warden; the first hatch shows whether it serves."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: nothing in the working directory takes the place of a standard module.
                [
                    *(sys.executable, "-P", "-s", "-m", "cardoon.worker.warden"),
                    *(str(theirs.fileno()), str(self._task_uid)),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _PASSED if name in os.environ},
            )
        self._control = ours
        self._reader = FrameReader(FROM_WARDEN)

    def restart(self) -> None:
        """Start another in the place of one that died; every nest needs a new hatch then."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int | None:
        """The warden's process."""
        return None if self._process is None else self._process.pid

    def fileno(self) -> int:
        """The control socket, for selectors."""
        assert self._control is not None
        return self._control.fileno()

    def hatch_for(self, profile: Sandbox) -> socket.socket:
        """A socket to hand to a nest of that profile; the caller closes it.

        `WardenLostError` if the warden is gone or does not answer in time.
        """
        assert self._control is not None
        self._hatches += 1
        head = {
            "number": self._hatches,
            "network": profile.network,
            "connects": does_warden_connect(profile),
            "denied": self._denied,
        }
        try:
            self._control.sendall(pack_frame(FrameType.PROFILE, head))
        except OSError as error:
            raise WardenLostError(f"the warden is gone: {error}") from error
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not self._handles:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._control], [], [], left)[0]:
                assert self._process is not None
                self._process.kill()  # so that `receive` says the same
                raise WardenLostError(f"the warden has not answered in {_ANSWER_SECONDS:.0f} s")
            self._read()
        return socket.socket(fileno=self._handles.popleft())

    def receive(self) -> list[Told]:
        """What was refused since it was last asked; `WardenLostError` when the warden is gone."""
        assert self._control is not None
        while select.select([self._control], [], [], 0)[0]:
            self._read()
        told = list(self._told)
        self._told.clear()
        return told

    def stop(self) -> None:
        """End the warden; safe twice."""
        if self._control is not None:
            self._control.close()
            self._control = None
        while self._handles:
            os.close(self._handles.popleft())
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _read(self) -> None:
        assert self._control is not None
        try:
            found, handles, _, _ = socket.recv_fds(self._control, 65536, 16)
        except OSError as error:
            raise WardenLostError(f"the warden is gone: {error}") from error
        if not found:
            raise WardenLostError("the warden is gone")
        self._handles.extend(handles)
        try:
            for frame in self._reader.feed(found):
                if frame.type is FrameType.VIOLATION:
                    self._told.append(_parse_told(frame))
        except IpcError as error:  # who reads what tasks wrote may have been taken over by one
            if self._process is not None:
                self._process.kill()
            raise WardenLostError(f"the warden speaks nonsense: {error}") from error


def _parse_told(frame: Frame) -> Told:
    return Told(
        field(frame, "token", int),
        field(frame, "rule", str),
        field(frame, "detail", str),
        field(frame, "count", int),
        field(frame, "profile", int),
    )
