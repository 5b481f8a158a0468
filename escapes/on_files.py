"""Writing: code, shared directories, files that may only be read, and ways out of a granted directory."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from escapes.calls import call, reached
from escapes.matrix import attempt
from escapes.proofs import changed, either, marker, passed, setuid_file
from escapes.world import World

_AT_FDCWD = -100


def _put(place: str, world: World) -> str:
    path = Path(place, world.token)
    path.write_text(world.token)
    return str(path)


@attempt("files", proof=marker("code"))
def write_beside_the_code(world: World) -> Any:
    """Put a module where the app's code is."""
    return _put(world.paths["code"], world)


@attempt("files", proof=changed("module"))
def overwrite_a_module(world: World) -> Any:
    """Change a module of the app."""
    with open(world.paths["module"], "a", encoding="utf-8") as file:
        file.write(f"# {world.token}\n")


@attempt("files", proof=marker("tmp"))
def write_shared_tmp(world: World) -> Any:
    """Write into /tmp, which all programs share."""
    return _put("/tmp", world)


@attempt("files", proof=marker("shm"))
def write_shared_memory(world: World) -> Any:
    """Write into /dev/shm, which all programs share."""
    return _put("/dev/shm", world)


@attempt("files", proof=marker("outside"))
def write_outside(world: World) -> Any:
    """Write where everybody may, but nothing is granted."""
    return _put(world.paths["outside"], world)


@attempt("files", proof=marker("outside"))
def write_outside_by_proc_self_root(world: World) -> Any:
    """The same by /proc/self/root."""
    return _put("/proc/self/root" + world.paths["outside"], world)


@attempt("files", proof=marker("outside"))
def write_outside_by_a_link(world: World) -> Any:
    """The same by a symbolic link in the granted directory."""
    link = Path(world.paths["work"], world.token + ".way")
    link.symlink_to(world.paths["outside"])
    return _put(str(link), world)


@attempt("files", proof=marker("outside"))
def write_outside_by_renaming(world: World) -> Any:
    """Write in the granted directory, and move it out."""
    here = Path(_put(world.paths["work"], world))
    here.rename(Path(world.paths["outside"], world.token))


@attempt("files", proof=marker("outside"))
def write_outside_by_a_hard_link(world: World) -> Any:
    """Write in the granted directory, and give it a name outside."""
    os.link(_put(world.paths["work"], world), Path(world.paths["outside"], world.token))


@attempt("files", proof=marker("outside"))
def write_outside_by_an_unnamed_file(world: World) -> Any:
    """Open a file without a name (O_TMPFILE), and link it outside by /proc/self/fd."""
    held = os.open(world.paths["work"], os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(held, world.token.encode())
    target = str(Path(world.paths["outside"], world.token))
    follow = 0x400
    call("linkat", _AT_FDCWD, f"/proc/self/fd/{held}", _AT_FDCWD, target, follow)


@attempt("files", proof=changed("outside_file"))
def write_a_file_outside_by_a_hard_link(world: World) -> Any:
    """Give a file outside a name in the granted directory, and write to that."""
    here = Path(world.paths["work"], world.token + ".in")
    os.link(world.paths["outside_file"], here)
    here.write_text(world.token)


@attempt("files", proof=changed("outside_file"))
def take_a_file_from_outside(world: World) -> Any:
    """Move a file from outside into the granted directory."""
    Path(world.paths["outside_file"]).rename(Path(world.paths["work"], world.token + ".taken"))


@attempt("files", proof=changed("outside_file"))
def delete_outside(world: World) -> Any:
    """Delete a file outside."""
    Path(world.paths["outside_file"]).unlink()


@attempt("files", proof=changed("outside_file"))
def change_mode_outside(world: World) -> Any:
    """Change the mode of a file outside; Landlock does not see it."""
    Path(world.paths["outside_file"]).chmod(0o600)


@attempt("files", proof=changed("outside_file"))
def change_times_outside(world: World) -> Any:
    """Change the times of a file outside; Landlock does not see it."""
    os.utime(world.paths["outside_file"], (1, 1))


@attempt("files", proof=passed)
def change_attributes_outside(world: World) -> Any:
    """Give a file outside an extended attribute; Landlock does not see it."""
    os.setxattr(world.paths["outside_file"], "user.escape", world.token.encode())
    return f"passed: {os.listxattr(world.paths['outside_file'])}"


@attempt("files", proof=passed, needs="chown to another user asks for CAP_CHOWN")
def change_owner_outside(world: World) -> Any:
    """Give a file outside to another user; Landlock does not see it."""
    os.chown(world.paths["outside_file"], 12345, 12345)
    return "passed: chown"


@attempt("files", proof=changed("readable"))
def write_what_may_be_read(world: World) -> Any:
    """Write to a file that is granted for reading."""
    with open(world.paths["readable"], "r+b") as file:
        file.write(world.token.encode())


@attempt("files", proof=changed("readable"))
def truncate_what_may_be_read(world: World) -> Any:
    """Cut it off by truncate."""
    call("truncate", world.paths["readable"], 0)


@attempt("files", proof=changed("readable"))
def truncate_by_opening(world: World) -> Any:
    """Cut it off by opening it for reading with O_TRUNC."""
    os.close(os.open(world.paths["readable"], os.O_RDONLY | os.O_TRUNC))


@attempt("files", proof=changed("readable"))
def reopen_for_writing(world: World) -> Any:
    """Open it for reading, and that again for writing, by /proc/self/fd."""
    held = os.open(world.paths["readable"], os.O_RDONLY)
    again = os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
    os.write(again, world.token.encode())


@attempt("files", proof=changed("readable"))
def change_mode_of_what_may_be_read(world: World) -> Any:
    """Change the mode of a file that is granted for reading."""
    Path(world.paths["readable"]).chmod(0o606)


@attempt("files", proof=changed("readable"))
def replace_what_may_be_read(world: World) -> Any:
    """Put another file into its place."""
    here = Path(_put(world.paths["work"], world))
    here.rename(world.paths["readable"])


@attempt("files", proof=passed)
def make_a_directory_outside(world: World) -> Any:
    """Make a directory outside."""
    path = Path(world.paths["outside"], world.token + ".d")
    path.mkdir()
    return f"passed: {stat.filemode(path.stat().st_mode)}"


@attempt("files", proof=passed, needs="device files can be made only by root")
def make_a_device(world: World) -> Any:
    """Make a device file for the kernel's log in the granted directory, and open it."""
    path = str(Path(world.paths["work"], world.token + ".dev"))
    log = os.makedev(1, 11)
    call("mknodat", _AT_FDCWD, path, stat.S_IFCHR | 0o666, log)
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    return "passed: opened"


@attempt("files", proof=either(setuid_file), needs="a file of root's can be made only by root")
def make_a_setuid_file(world: World) -> Any:
    """Leave a file in the granted directory that others run as root."""
    path = Path(world.paths["work"], world.token + ".suid")
    path.write_text("#!/bin/sh\n")
    path.chmod(0o4755)


@attempt("files", proof=passed, needs="these devices are root's")
def open_a_disk_or_memory(_: World) -> Any:
    """Open a disk, the kernel's memory or its log."""
    last: OSError | None = None
    for path in ("/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/mem", "/dev/kmsg", "/dev/port"):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        except OSError as error:
            last = error
            continue
        return f"passed: {path}"
    assert last is not None
    raise last


@attempt("files", proof=passed, needs="settings of the kernel are root's")
def open_a_setting_of_the_kernel(_: World) -> Any:
    """Open a setting of the kernel for writing."""
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "passed: core_pattern"


@attempt("files", proof=passed, needs="a lower score asks for CAP_SYS_RESOURCE")
def never_be_killed_for_memory(_: World) -> Any:
    """Tell the kernel to kill others when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("-900")
    return f"passed: {Path('/proc/self/oom_score_adj').read_text().strip()}"


@attempt("files", proof=passed)
def open_a_terminal(_: World) -> Any:
    """Make a terminal of its own."""
    one, other = os.openpty()
    os.close(one)
    os.close(other)
    return "passed: a pair"


@attempt("files", proof=passed, needs="chroot asks for CAP_SYS_CHROOT")
def change_root(world: World) -> Any:
    """Change the root, the first step out of a chroot."""
    return reached("chroot", world.paths["work"], beyond=(errno.ENOTDIR,))
