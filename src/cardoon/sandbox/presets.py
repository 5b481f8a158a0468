"""Presets: which system calls a task may make. A call that stands nowhere here does not exist for it.

Makes rules and does no I/O. Written for what libraries ordinarily do; each exception has its reason beside it.
"""

from __future__ import annotations

import errno as errors

from cardoon.sandbox.filters import (
    ALLOW,
    MISSING,
    OWN_PID,
    REFUSE,
    WATCH,
    Clause,
    Condition,
    Rule,
    Verdict,
)
from cardoon.sandbox.profile import Level, Sandbox

_ALLOWED = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range
    creat stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
    getdents getdents64 getcwd chdir fchdir dup dup2 dup3 flock fsync fdatasync ftruncate fallocate fadvise64
    readahead sync_file_range copy_file_range sendfile splice tee umask
    rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    pipe poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4
    mmap mprotect munmap mremap madvise msync mincore brk mlock munlock mlock2 membarrier
    pkey_mprotect pkey_alloc pkey_free map_shadow_stack get_mempolicy
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause
    alarm getitimer setitimer nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete restart_syscall uretprobe
    futex futex_waitv futex_wake futex_wait futex_requeue set_robust_list set_tid_address rseq arch_prctl
    exit exit_group wait4 waitid getpid gettid getppid getpgid getpgrp getsid getuid geteuid getgid getegid
    getresuid getresgid getgroups capget getrusage getrlimit setrlimit uname sysinfo getrandom getcpu
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_getattr sched_get_priority_max
    sched_get_priority_min sched_rr_get_interval getpriority ioprio_get
    recvfrom recvmsg recvmmsg shutdown getsockname getpeername getsockopt
"""
"""Harmless whatever the arguments, given that Landlock and limits hold what they reach."""

_MISSING = "clone3 openat2 io_uring_enter io_uring_register"
"""Their arguments lie in memory, where no filter sees them; libraries fall back on what can be seen."""

_REFUSED = """
    truncate mknod mknodat chown fchown lchown fchownat
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr setxattrat removexattrat
    tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal pidfd_open kcmp get_robust_list
    process_madvise process_mrelease setsid setpgid capset seccomp listen accept accept4
    sched_setscheduler sched_setparam sched_setattr ioprio_set sync syncfs mlockall munlockall
    shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl semget semop semtimedop semctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    inotify_add_watch name_to_handle_at migrate_pages move_pages
"""
"""Known, and refused in silence: libraries try some of them and go on.

truncate() is not known to Landlock before version 3; xattrs, owners and inotify never are. System V memory
and message queues belong to nobody's limit and outlive the task. listen() is for those with a network of
their own.
"""

_WATCHED = """
    ptrace process_vm_readv process_vm_writev pidfd_getfd personality
    mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree open_tree_attr move_mount
    mount_setattr statmount listmount unshare setns sethostname setdomainname quotactl quotactl_fd
    swapon swapoff reboot acct syslog vhangup iopl ioperm modify_ldt
    settimeofday clock_settime adjtimex clock_adjtime
    init_module finit_module delete_module kexec_load kexec_file_load
    bpf perf_event_open userfaultfd fanotify_init fanotify_mark io_uring_setup keyctl add_key request_key
    open_by_handle_at lookup_dcookie memfd_create memfd_secret
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
    fork vfork execve execveat socket connect bind
"""
"""Refused, and told to whoever listens: no library needs one of them by accident."""

_CHANGING_MODES = "chmod fchmod fchmodat fchmodat2 utime utimes futimesat utimensat"
"""Landlock does not know them, and what may only be read can be opened for them. Where files are not on mounts
of their own, a task of the worker's own uid could open its files to others, so they are for `strict`."""

_INOTIFY = "inotify_init inotify_init1 inotify_rm_watch"
_SERVING = "bind listen accept accept4"
_STARTING = "vfork fork execve setsid setpgid pidfd_open"

_CLONE_THREAD, _CLONE_PARENT = 0x00010000, 0x00008000
_CLONE_NAMESPACES = 0x7E020000
_O_TRUNC, _O_ACCESS = 0o1000, 0o3
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_RAW, _SOCK_KIND, _TCP = 1, 3, 0xF, 6
_MSG_FASTOPEN = 0x20000000
_PIPE_NOTIFICATIONS = 0o200

_FCNTL = (*range(8), 9, *range(36, 39), 1030, 1032, 1034)
"""Copies, flags, locks (F_SETLK, F_OFD_SETLK), F_GETPIPE_SZ, F_GET_SEALS; not F_SETOWN, F_SETPIPE_SZ."""
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x40049409)
"""TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX FICLONE."""
_IOCTLS_WATCHED = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put characters into a terminal as if typed."""
_PRCTLS = (2, 3, 15, 16, 21, 23, 27, 30, 39, 41, 42, 0x53564D41)
"""Reading pdeathsig, dumpable, seccomp, bounding set, securebits, slack, no_new_privs; the name of a thread,
huge pages, names of mappings. None that undoes a layer."""

_SOCKET_OPTIONS = (2, 3, 4, 9, 10, 13, 15, 20, 21, 29, 30, 35, 38, 39, 57)
"""SO_REUSEADDR TYPE ERROR KEEPALIVE OOBINLINE LINGER REUSEPORT RCVTIMEO SNDTIMEO TIMESTAMP ACCEPTCONN
TIMESTAMPNS PROTOCOL DOMAIN COOKIE. Not SO_SNDBUF and SO_RCVBUF, whose memory no limit counts, nor filters."""
_TCP_OPTIONS = (1, 2, 3, 4, 5, 6, 9, 12, 13, 18)
"""NODELAY MAXSEG CORK KEEPIDLE KEEPINTVL KEEPCNT DEFER_ACCEPT QUICKACK CONGESTION USER_TIMEOUT."""
_IP_OPTIONS, _IPV6_OPTIONS = (1, 10, 11), (23, 25, 26, 67)
"""TOS MTU_DISCOVER RECVERR; MTU_DISCOVER RECVERR V6ONLY TCLASS."""
_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_LOOKUPS = (
    Clause(
        (Condition(0, (_AF_UNIX,)), Condition(1, (_SOCK_STREAM | _CLOEXEC | _NONBLOCK,))), REFUSE
    ),
    Clause((Condition(0, (_AF_NETLINK,)), Condition(1, (_SOCK_RAW | _CLOEXEC,))), REFUSE),
)
"""What glibc asks for when it looks up a name: nscd, and which addresses there are. It does without."""
_SOL_SOCKET, _SOL_IP, _SOL_IPV6 = 1, 0, 41


def rules_for(profile: Sandbox, *, confines_signals: bool) -> dict[str, Rule]:
    """The rules of a profile, by name of the call.

    `confines_signals`: something else keeps signals within the task, Landlock (version 6) or a process
    namespace, so that it may stop the processes that it starts.
    """
    rules = dict.fromkeys(_ALLOWED.split(), Rule((), ALLOW))
    for names, verdict in ((_MISSING, MISSING), (_REFUSED, REFUSE), (_WATCHED, WATCH)):
        rules |= dict.fromkeys(names.split(), Rule((), verdict))
    for names in (_CHANGING_MODES, _INOTIFY, "inotify_add_watch"):
        is_allowed = profile.level is Level.STRICT
        rules |= dict.fromkeys(names.split(), Rule((), ALLOW if is_allowed else REFUSE))
    rules |= _file_rules() | _process_rules() | _message_rules()
    if profile.syscalls != "compute" and profile.network is not None:
        rules |= _network_rules(profile)
    if profile.syscalls == "subprocess":
        rules |= _starting_rules(confines_signals=confines_signals)
    return rules


def does_warden_connect(profile: Sandbox) -> bool:
    """Whether connect() is a question to the listener, who connects in its own name or refuses.

    A list at `confined`, where nothing else could hold it; and "any", whose metadata addresses are refused.
    """
    match profile.network, profile.level:
        case None, _:
            return False
        case "any", _:
            return True
        case _, level:
            return level is not Level.STRICT


def _file_rules() -> dict[str, Rule]:
    """Opening, and what a descriptor may be told."""

    def open_rule(flags: int) -> Rule:
        # To truncate what is opened for reading needs no right that Landlock knows before version 3.
        bits = _O_TRUNC | _O_ACCESS
        reading = Condition(flags, (_O_TRUNC, _O_TRUNC | _O_ACCESS), mask=bits)
        return Rule((Clause((reading,), REFUSE),), ALLOW)

    return {
        "open": open_rule(1),
        "openat": open_rule(2),
        "fcntl": _only(1, _FCNTL),
        "ioctl": Rule(
            (
                Clause((Condition(1, _IOCTLS),), ALLOW),
                Clause((Condition(1, _IOCTLS_WATCHED),), WATCH),
            ),
            Verdict(errors.ENOTTY),
        ),
        "pipe2": _only(1, (0,), mask=_PIPE_NOTIFICATIONS),
    }


def _process_rules() -> dict[str, Rule]:
    """Threads yes, processes no; and nothing that reaches another process."""
    return {
        "clone": Rule(
            (
                Clause(
                    (Condition(0, (_CLONE_THREAD,), mask=_CLONE_THREAD | _CLONE_NAMESPACES),), ALLOW
                ),
            ),
            WATCH,
        ),
        # Its own number; a group or everybody is never itself alone.
        "kill": _only(0, (OWN_PID,)),
        "tgkill": _only(0, (OWN_PID,)),
        # musl's raise(), in the first thread.
        "tkill": _only(0, (OWN_PID,)),
        "prlimit64": _only(0, (0,)),
        "sched_setaffinity": _only(0, (0, OWN_PID)),
        "setpriority": Rule((Clause((Condition(0, (0,)), Condition(1, (0,))), ALLOW),), REFUSE),
        "prctl": _only(0, _PRCTLS),
        # To ask which one it is.
        "personality": Rule((Clause((Condition(0, (0xFFFFFFFF,)),), ALLOW),), WATCH),
    }


def _message_rules() -> dict[str, Rule]:
    """No sockets but pairs, which event loops wake themselves with.

    A pair of datagram sockets could send to any socket in the file system, and MSG_FASTOPEN connects.
    """
    plain = (0,)
    return {
        "socket": Rule(_LOOKUPS, WATCH),
        "socketpair": Rule(
            (
                Clause(
                    (
                        Condition(0, (_AF_UNIX,)),
                        Condition(1, (_SOCK_STREAM,), mask=_SOCK_KIND),
                        Condition(2, plain),
                    ),
                    ALLOW,
                ),
            ),
            WATCH,
        ),
        "sendto": _only(3, plain, mask=_MSG_FASTOPEN),
        "sendmsg": _only(2, plain, mask=_MSG_FASTOPEN),
        "sendmmsg": _only(3, plain, mask=_MSG_FASTOPEN),
        "setsockopt": Rule(
            tuple(
                Clause((Condition(1, (level,)), Condition(2, options)), ALLOW)
                for level, options in (
                    (_SOL_SOCKET, _SOCKET_OPTIONS),
                    (_TCP, _TCP_OPTIONS),
                    (_SOL_IP, _IP_OPTIONS),
                    (_SOL_IPV6, _IPV6_OPTIONS),
                )
            ),
            REFUSE,
        ),
    }


def _network_rules(profile: Sandbox) -> dict[str, Rule]:
    """TCP over IPv4 and IPv6, and no other protocol (MPTCP is one that Landlock does not hold)."""
    rules = {
        "socket": Rule(
            (
                Clause(
                    (
                        Condition(0, (_AF_INET, _AF_INET6)),
                        Condition(1, (_SOCK_STREAM,), mask=_SOCK_KIND),
                        Condition(2, (0, _TCP)),
                    ),
                    ALLOW,
                ),
                *_LOOKUPS,
            ),
            WATCH,
        ),
        "connect": Rule((), WATCH if does_warden_connect(profile) else ALLOW),
    }
    serves = profile.network == "any" or (
        profile.network == "loopback" and profile.level is Level.STRICT
    )
    if serves:
        rules |= dict.fromkeys(_SERVING.split(), Rule((), ALLOW))
    return rules


def _starting_rules(*, confines_signals: bool) -> dict[str, Rule]:
    """Processes, but none in namespaces of their own, and none that is not a descendant."""
    rules = dict.fromkeys(_STARTING.split(), Rule((), ALLOW))
    rules["clone"] = Rule(
        (Clause((Condition(0, (0,), mask=_CLONE_NAMESPACES | _CLONE_PARENT),), ALLOW),), WATCH
    )
    if confines_signals:
        rules |= dict.fromkeys(("kill", "tgkill", "tkill"), Rule((), ALLOW))
    return rules


def _only(argument: int, values: tuple[int, ...], mask: int = 0xFFFFFFFF) -> Rule:
    """Allowed with these values of an argument, else refused."""
    return Rule((Clause((Condition(argument, values, mask=mask),), ALLOW),), REFUSE)
