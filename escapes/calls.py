"""System calls by number, for attempts: without Python's own checks, and independent of what Cardoon uses."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

_X86_64 = {
    "socket": 41, "connect": 42, "sendto": 44, "sendmmsg": 307, "socketpair": 53, "clone": 56, "ptrace": 101,
    "syslog": 103, "personality": 135, "pivot_root": 155, "chroot": 161, "acct": 163, "mount": 165,
    "umount2": 166, "swapoff": 168, "reboot": 169, "sethostname": 170, "iopl": 172,
    "init_module": 175, "delete_module": 176, "tkill": 200, "tgkill": 234, "add_key": 248,
    "request_key": 249, "keyctl": 250, "move_pages": 279, "unshare": 272, "get_robust_list": 274,
    "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "finit_module": 313, "memfd_create": 319, "bpf": 321, "execveat": 322, "userfaultfd": 323,
    "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "prlimit64": 302, "shmget": 29, "shmat": 30,
    "shmctl": 31, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "semget": 64, "semctl": 66,
    "renameat2": 316, "setresuid": 117, "setgroups": 116, "capset": 126, "prctl": 157, "kill": 62,
    "mknodat": 259, "sched_setscheduler": 144, "setxattr": 188, "linkat": 265, "truncate": 76,
    "fcntl": 72, "mq_open": 240, "mq_unlink": 241, "modify_ldt": 154,
}  # fmt: skip
_AARCH64 = {
    "socket": 198, "connect": 203, "sendto": 206, "sendmmsg": 269, "socketpair": 199, "clone": 220, "ptrace": 117,
    "syslog": 116, "personality": 92, "pivot_root": 41, "chroot": 51, "acct": 89, "mount": 40,
    "umount2": 39, "swapoff": 225, "reboot": 142, "sethostname": 161,
    "init_module": 105, "delete_module": 106, "tkill": 130, "tgkill": 131, "add_key": 217,
    "request_key": 218, "keyctl": 219, "move_pages": 239, "unshare": 97, "get_robust_list": 100,
    "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265,
    "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
    "finit_module": 273, "memfd_create": 279, "bpf": 280, "execveat": 281, "userfaultfd": 282,
    "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "prlimit64": 261, "shmget": 194, "shmat": 196,
    "shmctl": 195, "msgget": 186, "msgsnd": 189, "msgrcv": 188, "msgctl": 187, "semget": 190,
    "semctl": 191, "renameat2": 276, "setresuid": 147, "setgroups": 159, "capset": 91, "prctl": 167,
    "kill": 129, "mknodat": 33, "sched_setscheduler": 119, "setxattr": 5, "linkat": 37,
    "truncate": 45, "fcntl": 25, "mq_open": 180, "mq_unlink": 181,
}  # fmt: skip
_BOTH = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsmount": 432, "pidfd_open": 434, "clone3": 435, "openat2": 437,
    "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
_NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), {}) | _BOTH
_LIBC = ctypes.CDLL(None, use_errno=True)
_SYSCALL = _LIBC.syscall
_SYSCALL.restype = ctypes.c_long

Argument = int | bytes | str | None | ctypes.Array[ctypes.c_char]


def call(name: str, *arguments: Argument) -> int:
    """Make the system call; `OSError` if it fails, with ENOSYS also where this machine has none such."""
    if name not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"no number for {name} on {platform.machine()}")
    return call_number(_NUMBERS[name], *arguments, what=name)


def call_number(number: int, *arguments: Argument, what: str = "") -> int:
    """The same by number."""
    ctypes.set_errno(0)
    found = int(_SYSCALL(ctypes.c_long(number), *map(_word, arguments)))
    if found == -1 and (code := ctypes.get_errno()):
        raise OSError(code, f"{what or number}: {os.strerror(code)}")
    return found


def reached(name: str, *arguments: Argument, beyond: tuple[int, ...] = ()) -> str:
    """Make a call whose arguments are meant to fail; an error of `beyond` comes after the check of rights."""
    try:
        return f"passed: {name} returned {call(name, *arguments)}"
    except OSError as error:
        if error.errno in beyond:
            return f"passed: {name} failed with {errno.errorcode[error.errno]}, after the check of rights"
        raise


def _word(argument: Argument) -> object:
    match argument:
        case None:
            return ctypes.c_void_p(0)
        case int():
            return ctypes.c_long(argument)
        case str():
            return ctypes.c_char_p(argument.encode())
        case bytes():
            return ctypes.c_char_p(argument)
        case _:
            return argument
