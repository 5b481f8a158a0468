"""The kernel: namespaces, mounts, rarely used calls with a history of holes, other ways to make calls."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import socket
import struct
from pathlib import Path
from typing import Any

from escapes.calls import call, call_number, reached
from escapes.matrix import attempt
from escapes.proofs import passed
from escapes.world import World

_NEW_NS, _NEW_USER, _NEW_NET = 0x20000, 0x10000000, 0x40000000
_ADMIN = "this call asks for CAP_SYS_ADMIN"
_PRIVILEGED = "this call asks for a capability"
_NO_RANDOM = 0x40000
_SESSION, _USER = -3, -4


@attempt("kernel", proof=passed)
def new_user_namespace(_: World) -> Any:
    """Make a user namespace, in which one has all capabilities."""
    call("unshare", _NEW_USER)
    return f"passed: {os.readlink('/proc/self/ns/user')}"


def _in_child(pid: int) -> str:
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return f"passed: made {pid}"


@attempt("kernel", proof=passed)
def new_user_namespace_by_clone(_: World) -> Any:
    """The same by clone."""
    return _in_child(call("clone", _NEW_USER | signal.SIGCHLD, 0, 0, 0, 0))


@attempt("kernel", proof=passed)
def new_user_namespace_by_clone3(_: World) -> Any:
    """The same by clone3, whose flags a filter cannot see."""
    arguments = struct.pack("QQQQQQQQ", _NEW_USER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    return _in_child(call("clone3", arguments, len(arguments)))


@attempt("kernel", proof=passed)
def fork_by_clone3(_: World) -> Any:
    """Fork by clone3."""
    arguments = struct.pack("QQQQQQQQ", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    return _in_child(call("clone3", arguments, len(arguments)))


@attempt("kernel", proof=passed)
def mount_in_a_namespace_of_its_own(world: World) -> Any:
    """Make user and mount namespaces, and mount the key over a file of the granted directory."""
    call("unshare", _NEW_USER | _NEW_NS)
    target = Path(world.paths["work"], world.token + ".mounted")
    target.write_text("")
    bind = 0x1000
    call("mount", world.paths["key"], str(target), None, bind, None)
    return "passed: mounted"


@attempt("kernel", proof=passed, needs=_ADMIN)
def mount_a_file_system(world: World) -> Any:
    """Mount a file system over the granted directory."""
    target = Path(world.paths["work"], world.token + ".mount")
    target.mkdir()
    call("mount", "none", str(target), "tmpfs", 0, None)
    call("umount2", str(target), 2)
    return "passed: mounted"


@attempt("kernel", proof=passed, needs=_ADMIN)
def mount_by_the_newer_calls(_: World) -> Any:
    """The same by fsopen."""
    return f"passed: {call('fsopen', 'tmpfs', 0)}"


@attempt("kernel", proof=passed, needs=_ADMIN)
def clone_a_tree(_: World) -> Any:
    """Take a copy of the tree of mounts, by open_tree."""
    clone = 1
    return f"passed: {call('open_tree', -100, '/', clone)}"


@attempt("kernel", proof=passed, needs=_ADMIN)
def unmount(world: World) -> Any:
    """Take away what is mounted over what is masked."""
    return reached("umount2", world.paths["work"], 2, beyond=(errno.EINVAL,))


@attempt("kernel", proof=passed, needs=_ADMIN)
def pivot_root(_: World) -> Any:
    """Exchange the root."""
    return reached("pivot_root", ".", ".", beyond=(errno.EINVAL, errno.EBUSY))


@attempt("kernel", proof=passed, needs=_ADMIN)
def enter_namespaces_of_another(world: World) -> Any:
    """Enter the worker's namespaces."""
    held = os.open(f"/proc/{world.pids['supervisor']}/ns/net", os.O_RDONLY)
    call("setns", held, 0)
    return "passed: entered"


@attempt("kernel", proof=passed, needs=_ADMIN)
def enter_namespaces_by_pidfd(world: World) -> Any:
    """The same by a descriptor of the process."""
    call("setns", os.pidfd_open(world.pids["supervisor"]), _NEW_NET)
    return "passed: entered"


@attempt("kernel", proof=passed, needs="only root becomes root")
def become_root(_: World) -> Any:
    """Become root by setresuid."""
    call("setresuid", 0, 0, 0)
    assert os.getuid() == 0
    return "passed: uid 0"


@attempt("kernel", proof=passed, needs="only root takes others' groups")
def take_groups(_: World) -> Any:
    """Become a member of the groups shadow and disk."""
    groups = struct.pack("II", 42, 6)
    call("setgroups", 2, groups)
    return f"passed: {os.getgroups()}"


@attempt("kernel", proof=passed, needs="only who has capabilities can take them")
def take_capabilities(_: World) -> Any:
    """Take all capabilities."""
    version = 0x20080522
    header = struct.pack("Ii", version, 0)
    call("capset", header, struct.pack("IIIIII", 1 << 21, 1 << 21, 0, 0, 0, 0))
    return "passed: CAP_SYS_ADMIN"


@attempt("kernel", proof=passed)
def use_the_keyring(world: World) -> Any:
    """Put something into the user's keyring."""
    return f"passed: key {call('add_key', 'user', world.token, b'x', 1, _USER)}"


@attempt("kernel", proof=passed)
def read_the_keyring(_: World) -> Any:
    """Ask what is in the session's keyring."""
    describe, found = 6, ctypes.create_string_buffer(200)
    call("keyctl", describe, _SESSION, found, 200, 0)
    return f"passed: {found.value.decode()}"


@attempt("kernel", proof=passed)
def use_io_uring(_: World) -> Any:
    """Set up io_uring, whose work no filter sees."""
    return f"passed: {call('io_uring_setup', 4, ctypes.create_string_buffer(120))}"


@attempt("kernel", proof=passed, needs="kernel.unprivileged_bpf_disabled keeps ordinary users out")
def use_bpf(_: World) -> Any:
    """Make a map for programs in the kernel."""
    array = struct.pack("IIII", 2, 4, 4, 1).ljust(72, b"\0")
    return f"passed: {call('bpf', 0, array, len(array))}"


@attempt("kernel", proof=passed)
def use_perf_events(_: World) -> Any:
    """Count one's own events."""
    only_user = 1 | 1 << 5 | 1 << 6
    event = struct.pack("IIQQQQQ", 1, 112, 0, 0, 0, 0, only_user).ljust(112, b"\0")
    return f"passed: {call('perf_event_open', event, 0, -1, -1, 0)}"


@attempt("kernel", proof=passed)
def use_userfaultfd(_: World) -> Any:
    """Handle page faults, with which races in the kernel are won."""
    user_mode_only = 1
    return f"passed: {call('userfaultfd', user_mode_only)}"


@attempt("kernel", proof=passed)
def be_predictable(_: World) -> Any:
    """Switch the random layout of addresses off for programs to come."""
    call("personality", _NO_RANDOM)
    found = call("personality", 0xFFFFFFFF)
    assert found & _NO_RANDOM
    return f"passed: {found:#x}"


@attempt("kernel", proof=passed, needs="root, and a kernel with modules")
def load_a_module(_: World) -> Any:
    """Load a module into the kernel."""
    return reached("init_module", bytes(64), 64, b"", beyond=(errno.ENOEXEC,))


@attempt("kernel", proof=passed, needs="kernel.dmesg_restrict keeps ordinary users out")
def read_the_kernels_log(_: World) -> Any:
    """Read the kernel's log."""
    read_all, size = 3, 4096
    return f"passed: {call('syslog', read_all, ctypes.create_string_buffer(size), size)} bytes"


@attempt("kernel", proof=passed, needs=_PRIVILEGED)
def watch_all_files(_: World) -> Any:
    """See all accesses to files, by fanotify, in the class that may also forbid them."""
    content = 4
    return f"passed: {call('fanotify_init', content, 0)}"


@attempt("kernel", proof=passed, needs=_PRIVILEGED)
def rename_the_host(_: World) -> Any:
    """Set the host's name, to what it is."""
    name = socket.gethostname()
    return f"passed: {call('sethostname', name, len(name))}"


@attempt("kernel", proof=passed, needs=_PRIVILEGED)
def switch_swap_off(_: World) -> Any:
    """Switch swap off, on a device that is not there."""
    return reached("swapoff", "/nonexistent", beyond=(errno.ENOENT,))


@attempt("kernel", proof=passed, needs=_PRIVILEGED)
def switch_accounting(_: World) -> Any:
    """Have the kernel write its accounts to a file that is not there."""
    return reached("acct", "/nonexistent", beyond=(errno.ENOENT,))


@attempt("kernel", proof=passed, needs=_PRIVILEGED)
def reboot(_: World) -> Any:
    """Reboot, with a number that the kernel does not take after it has checked for rights."""
    return reached("reboot", 0, 0, 0, None, beyond=(errno.EINVAL,))


@attempt("kernel", proof=passed, needs="CAP_SYS_RAWIO, on x86-64")
def reach_ports(_: World) -> Any:
    """Reach the machine's ports of input and output."""
    return f"passed: {call('iopl', 3)}"


@attempt("kernel", proof=passed, needs="x86-64")
def change_descriptor_tables(_: World) -> Any:
    """Read the table of segments, which has had holes."""
    return f"passed: {call('modify_ldt', 0, ctypes.create_string_buffer(64), 64)}"


@attempt("kernel", proof=passed)
def type_into_a_terminal(_: World) -> Any:
    """Put a character into a terminal as if it had been typed there (TIOCSTI)."""
    _ours, terminal = os.openpty()
    if os.getsid(0) != os.getpid():
        os.setsid()
    control, typed = 0x540E, 0x5412
    fcntl.ioctl(terminal, control, 0)
    fcntl.ioctl(terminal, typed, b"x")
    return "passed: typed"


@attempt("kernel", proof=passed)
def ask_devices_strange_things(_: World) -> Any:
    """Have a device asked to do TIOCSTI; what is no terminal answers that it is none."""
    held = os.open("/dev/null", os.O_RDONLY)
    try:
        fcntl.ioctl(held, 0x5412, b"x")
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
    return "passed: the device was asked"


def _machine_code(code: bytes) -> int:
    area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


@attempt("kernel", proof=passed, needs="x86-64 with calls of 32 bits")
def call_as_a_32_bit_program(_: World) -> Any:
    """Make a call by int 0x80, where numbers mean other calls: getpid is 20 there."""
    assert platform.machine() == "x86_64", "there is no int 0x80 here"
    found = _machine_code(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    assert found == os.getpid(), f"it returned {found}"
    return f"passed: {found}"


@attempt("kernel", proof=passed, needs="a kernel with x32")
def call_as_an_x32_program(_: World) -> Any:
    """Make a call by its x32 number."""
    assert platform.machine() == "x86_64", "there are no x32 calls here"
    return f"passed: {call_number(0x40000000 | 39)}"


@attempt("kernel", proof=passed)
def call_an_unknown_number(_: World) -> Any:
    """Make a call that came after this was written: the newest of which the number is known is reached."""
    statmount = 457
    try:
        found = call_number(statmount, 0, 0, 0, 0)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EFAULT}:
            raise
        return "passed: its arguments were looked at"
    return f"passed: {found}"
