"""Seccomp: hold this process to the system calls of its profile, for ever, and hear of what it tries.

The last step of all: afterwards none of the others can be taken.
"""

from __future__ import annotations

import ctypes
import errno as errors
import os
import struct

from cardoon.sandbox.filters import Program, assemble
from cardoon.sandbox.kernel import ConfinementError, call, machine
from cardoon.sandbox.landlock import find_abi
from cardoon.sandbox.presets import rules_for
from cardoon.sandbox.profile import Level, Sandbox

LAYER = "seccomp"

_SET_MODE_FILTER = 1
_TSYNC, _NEW_LISTENER, _TSYNC_ESRCH, _WAIT_KILLABLE = 1 << 0, 1 << 3, 1 << 4, 1 << 5
_SIGNALS_SINCE = 6
"""The version of Landlock that keeps signals within the task."""


def build_filter(profile: Sandbox, *, notify: bool) -> Program:
    """The filter of a profile; `ConfinementError` on a machine whose calls are not known.

    With `notify`, refusals of any interest are questions to a listener (`load(..., listener=True)`), who answers
    `EPERM`, or connects in the task's place where `presets.does_warden_connect` says so; otherwise they
    are refused with `EPERM` there and then.
    """
    known = machine()
    confines_signals = profile.level is Level.STRICT or _landlock_abi() >= _SIGNALS_SINCE
    rules = rules_for(profile, confines_signals=confines_signals)
    return assemble(known, rules, notify=notify)


def load(program: Program, *, listener: bool) -> int | None:
    """Hold all threads of this process to the program; the listener's descriptor if one is asked for.

    Needs `no_new_privileges` first. `ConfinementError` if the kernel does not take it, or if the program asks
    questions and nobody would listen.
    """
    if program.notifies and not listener:
        raise ConfinementError(LAYER, "the filter notifies; load it with listener=True")
    code = program.encode(os.getpid())
    # The kernel copies both, so that they need not outlive the call.
    filters = (ctypes.c_char * len(code)).from_buffer(code)
    header = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(filters))
    flags = _TSYNC | _TSYNC_ESRCH
    if not listener:
        call(LAYER, "seccomp", _SET_MODE_FILTER, flags, header)
        return None
    flags |= _NEW_LISTENER
    try:
        # A question that is being answered is not asked again because a signal came (since Linux 5.19).
        return call(LAYER, "seccomp", _SET_MODE_FILTER, flags | _WAIT_KILLABLE, header)
    except ConfinementError as error:
        if error.errno != errors.EINVAL:
            raise
    return call(LAYER, "seccomp", _SET_MODE_FILTER, flags, header)


def _landlock_abi() -> int:
    try:
        return find_abi()
    except ConfinementError:
        return 0
