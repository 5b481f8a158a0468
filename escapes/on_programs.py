"""Other programs: a shell, a program in memory, one that is setuid; and what they do where they are granted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from escapes.calls import call
from escapes.matrix import attempt
from escapes.proofs import marker, ran, secret
from escapes.world import World

_SHELL = "/bin/sh"
_AT_EMPTY_PATH = 0x1000
_SETUID = "a file that is setuid root can be planted only by root"


def _script(world: World) -> str:
    return f"echo {world.token} > {world.paths['work']}/{world.token}.ran"


@attempt("programs", proof=ran)
def become_a_shell(world: World) -> Any:
    """Execute a shell in place of the task."""
    os.execv(_SHELL, ["sh", "-c", _script(world)])


@attempt("programs", proof=ran)
def start_a_shell(world: World) -> Any:
    """Start a shell beside the task."""
    return subprocess.run([_SHELL, "-c", _script(world)], check=False, timeout=5).returncode


@attempt("programs", proof=ran)
def spawn_a_shell(world: World) -> Any:
    """Start a shell by posix_spawn, which forks below Python."""
    pid = os.posix_spawn(_SHELL, ["sh", "-c", _script(world)], {})
    return os.waitpid(pid, 0)[1]


@attempt("programs", proof=ran)
def become_python(world: World) -> Any:
    """Execute the interpreter, which may be read."""
    code = f"open({world.paths['work'] + '/' + world.token + '.ran'!r}, 'w').write({world.token!r})"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code])


@attempt("programs", proof=ran)
def become_what_the_loader_loads(world: World) -> Any:
    """Execute the dynamic loader, with the program as its argument."""
    loaders = list(Path("/lib64").glob("ld-linux*")) or list(Path("/lib").glob("ld-linux*"))
    os.execv(str(loaders[0]), ["ld.so", _SHELL, "-c", _script(world)])


@attempt("programs", proof=ran)
def become_a_program_in_memory(world: World) -> Any:
    """Write a program into memory (memfd), and execute that."""
    held = call("memfd_create", "x", 0)
    os.write(held, Path(_SHELL).read_bytes())
    os.execve(held, ["sh", "-c", _script(world)], {})


@attempt("programs", proof=ran)
def become_a_program_of_its_own(world: World) -> Any:
    """Write a program into the granted directory, and execute that."""
    program = Path(world.paths["work"], world.token + ".sh")
    program.write_bytes(Path(_SHELL).read_bytes())
    program.chmod(0o700)
    os.execv(program, ["sh", "-c", _script(world)])


@attempt("programs", proof=secret("setuid"), needs=_SETUID)
def become_root_by_a_setuid_program(world: World) -> Any:
    """Run a program that is setuid root, and read through it what only root may read."""
    return _run_setuid(world)


@attempt("programs", proof=secret("setuid"), needs=_SETUID, profile="subprocess")
def become_root_where_processes_are_granted(world: World) -> Any:
    """The same where the profile grants processes."""
    return _run_setuid(world)


def _run_setuid(world: World) -> str:
    found = subprocess.run(
        [world.paths["setuid"], world.paths["setuid_secret"]],
        check=False,
        timeout=5,
        capture_output=True,
    )
    return found.stdout.decode() + found.stderr.decode()


@attempt("programs", proof=secret("key"), profile="subprocess")
def read_key_by_a_shell(world: World) -> Any:
    """Have a shell read the worker's key, where the profile grants processes."""
    command = [_SHELL, "-c", f"cat {world.paths['key']}"]
    found = subprocess.run(command, check=False, timeout=5, capture_output=True)
    return (found.stdout + found.stderr).decode()


@attempt("programs", proof=marker("outside"), profile="subprocess")
def write_outside_by_a_shell(world: World) -> Any:
    """Have a shell write where nothing is granted, where the profile grants processes."""
    command = f"echo {world.token} > {world.paths['outside']}/{world.token}"
    found = subprocess.run([_SHELL, "-c", command], check=False, timeout=5, capture_output=True)
    return found.stderr.decode()


@attempt("programs", proof=marker("outside"))
def write_outside_by_a_vanished_parent(world: World) -> Any:
    """Fork, and let the child write when the task has ended."""
    if os.fork() == 0:
        time.sleep(0.3)
        Path(world.paths["outside"], world.token).write_text(world.token)
        os._exit(0)
    time.sleep(0.6)
    return "forked"
