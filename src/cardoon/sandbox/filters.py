"""Filters: programs that judge a system call by its number and its arguments (classic BPF).

Makes programs and does no I/O. A program sees registers, never what they point to, so a rule may rest on
numbers and flags only. What no rule names does not exist (ENOSYS); another machine's calls
end the process.
"""

from __future__ import annotations

import errno as errors
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cardoon.sandbox.kernel import Machine

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
"""`BPF_*` of <linux/bpf_common.h>: words at a fixed place, the constant k, absolute loads."""

_KILL, _ERRNO, _NOTIFY, _ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
"""`SECCOMP_RET_*` of <linux/seccomp.h>."""

_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000
"""x86_64 numbers its 32 bit calls from here; no 64 bit call stands there on any machine."""
_WORD = 0xFFFFFFFF
_FARTHEST = 255
"""A conditional jump has 8 bits."""
MAX_INSTRUCTIONS = 4096

OWN_PID = -1
"""As a value of a `Condition`: the number of the process that loads the program."""


class Verdict(NamedTuple):
    """What becomes of a call: it is made if `errno` is 0, else refused with it."""

    errno: int
    is_watched: bool = False
    """Whether a refusal is told to the listener, where there is one, and its answer awaited."""


ALLOW = Verdict(0)
REFUSE = Verdict(errors.EPERM)
WATCH = Verdict(errors.EPERM, is_watched=True)
MISSING = Verdict(errors.ENOSYS)


class Condition(NamedTuple):
    """Whether an argument (0 to 5), masked, is one of these values.

    The kernel reads an `int` from the lower half of a register, and so do we; nothing here rests on pointers.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = _WORD


class Clause(NamedTuple):
    """The verdict where all conditions hold."""

    conditions: tuple[Condition, ...]
    verdict: Verdict


class Rule(NamedTuple):
    """The verdict of the first clause that holds, else the last word."""

    clauses: tuple[Clause, ...]
    otherwise: Verdict


class _Instruction(NamedTuple):
    code: int
    value: int
    if_true: int = 0
    if_false: int = 0


class Program(NamedTuple):
    """A program for `seccomp.load`, the same for all processes but for their own number."""

    code: bytes
    own_pid_at: tuple[int, ...]
    """Where in the code the number of the process goes, 4 bytes each."""
    notifies: bool
    """Whether some verdict is a question to a listener; without one such calls fail (ENOSYS)."""

    def encode(self, pid: int) -> bytearray:
        """The program for that process, as the kernel reads it."""
        code = bytearray(self.code)
        for place in self.own_pid_at:
            struct.pack_into("=I", code, place, pid)
        return code


def assemble(machine: Machine, rules: Mapping[str, Rule], *, notify: bool) -> Program:
    """The program that holds calls to the rules, by name; `ValueError` if one does not fit.

    Names that this machine has no number for are left out: such a call cannot be made. With `notify` watched
    refusals become questions.
    """
    leaves: list[tuple[int, list[_Instruction]]] = []
    missing = _judge(Rule((), MISSING), notify=notify)
    numbered = sorted(
        (machine.numbers[name], rule) for name, rule in rules.items() if name in machine.numbers
    )
    for number, rule in numbered:
        code = _judge(rule, notify=notify)
        if leaves and leaves[-1][0] == number:
            leaves.pop()
        leaves += [(number, code), (number + 1, missing)]
    instructions = [
        _Instruction(_LOAD, _MACHINE_AT),
        _Instruction(_IF_EQUAL, machine.audit, if_true=1),
        _Instruction(_RETURN, _KILL),
        _Instruction(_LOAD, _NUMBER_AT),
        _Instruction(_IF_AT_LEAST, _X32, if_false=1),
        _Instruction(_RETURN, _KILL),
        *_search(_merged([(0, missing), *leaves])),
    ]
    if len(instructions) > MAX_INSTRUCTIONS:
        raise ValueError(f"filter: {len(instructions)} instructions, {MAX_INSTRUCTIONS} are taken")
    return Program(
        b"".join(
            struct.pack("=HBBI", one.code, one.if_true, one.if_false, one.value & _WORD)
            for one in instructions
        ),
        tuple(
            8 * place + 4
            for place, one in enumerate(instructions)
            if one.code == _IF_EQUAL and one.value == OWN_PID
        ),
        any(one == _Instruction(_RETURN, _NOTIFY) for one in instructions),
    )


def _merged(
    leaves: Sequence[tuple[int, list[_Instruction]]],
) -> list[tuple[int, list[_Instruction]]]:
    """Leaves in order of their first numbers, neighbours with the same code made one."""
    merged: list[tuple[int, list[_Instruction]]] = []
    for first, code in leaves:
        if merged and merged[-1][0] == first:
            merged.pop()
        if not merged or merged[-1][1] != code:
            merged.append((first, code))
    return merged


def _search(leaves: Sequence[tuple[int, list[_Instruction]]]) -> list[_Instruction]:
    """A binary tree that ends in the code of the leaf whose range holds the number."""
    if len(leaves) == 1:
        return leaves[0][1]
    middle = len(leaves) // 2
    low, high = _search(leaves[:middle]), _search(leaves[middle:])
    pivot = leaves[middle][0]
    if len(low) <= _FARTHEST:
        return [_Instruction(_IF_AT_LEAST, pivot, if_true=len(low)), *low, *high]
    return [
        _Instruction(_IF_AT_LEAST, pivot, if_false=1),
        _Instruction(_JUMP, len(low)),
        *low,
        *high,
    ]


def _judge(rule: Rule, *, notify: bool) -> list[_Instruction]:
    """The code of a rule; it ends in a verdict on every path."""
    code = [_return(rule.otherwise, notify=notify)]
    for clause in reversed(rule.clauses):
        body = [_return(clause.verdict, notify=notify)]
        for condition in reversed(clause.conditions):
            body = [*_check(condition, len(body)), *body]
        code = [*body, *code]
    return code


def _check(condition: Condition, skipped: int) -> list[_Instruction]:
    """Go on if the condition holds, else past `skipped` instructions more."""
    code = [_Instruction(_LOAD, _ARGUMENTS_AT + 8 * condition.argument)]
    if condition.mask != _WORD:
        code.append(_Instruction(_AND, condition.mask))
    last = len(condition.values) - 1
    if skipped + len(code) + last + 1 > _FARTHEST or last < 0:
        raise ValueError(f"filter: {condition} is too long, or has no value")
    for number, value in enumerate(condition.values):
        # The last one that fails is the one that jumps away.
        code.append(_Instruction(_IF_EQUAL, value, last - number, skipped if number == last else 0))
    return code


def _return(verdict: Verdict, *, notify: bool) -> _Instruction:
    match verdict:
        case Verdict(errno=0):
            return _Instruction(_RETURN, _ALLOW)
        case Verdict(is_watched=True) if notify:
            return _Instruction(_RETURN, _NOTIFY)
        case Verdict(errno=errno):
            return _Instruction(_RETURN, _ERRNO | errno)
