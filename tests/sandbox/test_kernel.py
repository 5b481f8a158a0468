"""The numbers of system calls are the kernel's, and a call that fails says so."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from cardoon.sandbox.kernel import ConfinementError, call, machine
from cardoon.sandbox.syscalls import NUMBERS

X86_64_HEADERS = [
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm/unistd_64.h"),
]
GENERIC_HEADER = Path("/usr/include/asm-generic/unistd.h")

# The generic header names what 64 bit machines call otherwise, or what they do not have.
GENERIC_NAMES = {"fstatat": "newfstatat"}
NOT_ON_64_BITS = re.compile(r".*_time64$|.*64_time32$|clock_\w+64$|timer_\w+64$|timerfd_\w+64$")
NOT_CALLS = {"syscalls", "arch_specific_syscall", "sync_file_range2"}


def read_numbers(header: Path) -> dict[str, int]:
    found = re.findall(
        r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE
    )
    return {GENERIC_NAMES.get(name, name): int(number) for name, number in found}


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_numbers_are_those_of_the_headers(name: str) -> None:
    headers = X86_64_HEADERS if name == "x86_64" else [GENERIC_HEADER]
    present = [header for header in headers if header.exists()]
    if not present:
        pytest.skip(f"no kernel headers for {name} are installed")

    theirs = read_numbers(present[0])

    ours = NUMBERS[name]
    assert {one: number for one, number in ours.items() if one in theirs} == {
        one: number
        for one, number in theirs.items()
        if one not in NOT_CALLS and not NOT_ON_64_BITS.fullmatch(one)
    }
    newest = max(number for one, number in theirs.items() if one not in NOT_CALLS)
    unknown = {one for one, number in ours.items() if one not in theirs and number <= newest}
    assert unknown <= {"uretprobe"}, "in our table, and not in the kernel's"


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_has_one_name(name: str) -> None:
    assert len(set(NUMBERS[name].values())) == len(NUMBERS[name])


def test_a_call_returns_what_the_kernel_does() -> None:
    assert call("test", "getpid") == os.getpid()


def test_a_failed_call_names_layer_call_and_error() -> None:
    with pytest.raises(ConfinementError, match=r"sandbox: test: fchdir\(\): .*\(EBADF\)") as caught:
        call("test", "fchdir", -1)

    assert caught.value.layer == "test"
    assert caught.value.errno == errno.EBADF


def test_numbers_are_passed_as_wide_as_registers() -> None:
    descriptor = os.memfd_create("wide") if hasattr(os, "memfd_create") else -1
    try:
        assert call("test", "lseek", descriptor, 1 << 40, os.SEEK_SET) == 1 << 40
    finally:
        os.close(descriptor)


def test_a_call_that_the_machine_lacks_is_named() -> None:
    with pytest.raises(ConfinementError, match=r"no_such_call\(\) does not exist on"):
        call("test", "no_such_call")


@pytest.mark.parametrize(
    ("system", "name", "said"),
    [("linux", "riscv64", "system calls of riscv64"), ("darwin", "arm64", "darwin has no such")],
)
def test_an_unknown_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, system: str, name: str, said: str
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("os.uname", lambda: os.uname_result(("Linux", "", "", "", name)))
    machine.cache_clear()
    try:
        with pytest.raises(ConfinementError, match=said):
            machine()
    finally:
        monkeypatch.undo()
        machine.cache_clear()
