"""How the warden gives up what it does not need, before it hears of a task."""

from __future__ import annotations

import contextlib
import encodings.idna
import logging
import os
import resource
import signal
import socket

from cardoon.sandbox.filters import ALLOW, REFUSE, Clause, Condition, Rule, assemble
from cardoon.sandbox.kernel import machine, prctl
from cardoon.sandbox.limits import (
    hide_memory,
    keep_capabilities,
    no_new_privileges,
    read_capabilities,
)
from cardoon.sandbox.namespaces import die_with_parent
from cardoon.sandbox.notifying import CAP_SYS_PTRACE, IOCTLS
from cardoon.sandbox.presets import rules_for
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.seccomp import load

logger = logging.getLogger(__name__)

UID = 65533
"""Who the warden is where the worker is root: nobody's number, and not that of tasks."""
_CAP_SETUID, _CAP_SETGID = 7, 6
_SET_KEEPCAPS = 8
_CHANGING = """
    creat rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat
    ftruncate fallocate truncate chmod fchmod fchmodat
"""
_O_CHANGING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
_IOCTLS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS FIONREAD FIONBIO FIONCLEX FIOCLEX
_LOADED = (encodings.idna,)
"""What names and files need, loaded while the interpreter's own files can still be read."""


def give_up_powers(task_uid: int) -> None:
    """Keep only what reads the memory of tasks: be nobody, write no file, start nothing, hold no other power.

    Landlock is not among it: a process held by that may read no memory of others.

    A worker that is root without CAP_SYS_PTRACE (in some containers) has a warden with the uid of its tasks
    instead, which may read theirs. `ConfinementError` if a step fails.
    """
    with contextlib.suppress(OSError):
        socket.getaddrinfo("localhost", 0)  # loads what the C library resolves names with
    effective, permitted, _ = read_capabilities()
    keeps = 1 << CAP_SYS_PTRACE & permitted
    if os.geteuid() == 0 and effective & 1 << _CAP_SETUID and effective & 1 << _CAP_SETGID:
        uid = UID if keeps else task_uid
        prctl("warden", _SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    keep_capabilities(keeps)
    no_new_privileges()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    die_with_parent()  # after the change of uid, which clears it
    hide_memory()
    load(assemble(machine(), _rules(), notify=False), listener=False)


def _rules() -> dict[str, Rule]:
    """System calls as of a task that may use the network, and what answering takes."""
    profile = Sandbox(network="any", syscalls="net")
    rules = rules_for(profile, confines_signals=False)
    sending = "socket socketpair connect bind setsockopt accept accept4 sendto sendmsg sendmmsg"
    rules |= dict.fromkeys((*sending.split(), "process_vm_readv"), Rule((), ALLOW))
    rules |= dict.fromkeys(_CHANGING.split(), Rule((), REFUSE))
    asked = Clause((Condition(1, (*IOCTLS, *_IOCTLS)),), ALLOW)
    rules["ioctl"] = Rule((asked,), REFUSE)
    for name, flags in (("open", 1), ("openat", 2)):
        reads = Clause((Condition(flags, (0,), mask=_O_CHANGING),), ALLOW)
        rules[name] = Rule((reads,), REFUSE)
    return rules
