"""Programs judge as their rules say, on both machines: run here by an interpreter of our own."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.sandbox.filters import (
    ALLOW,
    MAX_INSTRUCTIONS,
    MISSING,
    OWN_PID,
    REFUSE,
    WATCH,
    Clause,
    Condition,
    Program,
    Rule,
    Verdict,
    assemble,
)
from cardoon.sandbox.kernel import Machine
from cardoon.sandbox.presets import rules_for
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.syscalls import NUMBERS

MACHINES = [
    Machine("x86_64", 0xC000003E, NUMBERS["x86_64"]),
    Machine("aarch64", 0xC00000B7, NUMBERS["aarch64"]),
]
PROFILES = [
    Sandbox(),
    Sandbox(level="strict"),
    Sandbox(syscalls="net", network="any"),
    Sandbox(syscalls="net", network=["a:1"]),
    Sandbox(syscalls="net", network="loopback", level="strict"),
    Sandbox(syscalls="subprocess", processes=1),
    Sandbox(syscalls="subprocess", processes=1, level="strict"),
]
PID = 4711
KILL, NOTIFY, ALLOWED, ERRNO = 0x80000000, 0x7FC00000, 0x7FFF0000, 0x00050000
WORDS = st.integers(0, (1 << 32) - 1)


class Call(NamedTuple):
    number: int
    arguments: tuple[int, ...] = (0,) * 6
    audit: int = MACHINES[0].audit


def interpret(code: bytes | bytearray, call: Call) -> int:
    """What the kernel would make of a program: five instructions of classic BPF."""
    seen = struct.pack("=iIQ6Q", call.number, call.audit, 0, *call.arguments)
    program = list(struct.iter_unpack("=HBBI", code))
    accumulator, at = 0, 0
    for _ in program:
        operation, if_true, if_false, value = program[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", seen, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x05:
                at += value
            case 0x06:
                return value
            case _:
                pytest.fail(f"no such instruction: {operation:#x}")
    pytest.fail("the program went in a circle")


def expected(rule: Rule, arguments: tuple[int, ...], *, notify: bool) -> int:
    """What a rule says, read plainly."""
    verdict = rule.otherwise
    for clause in reversed(rule.clauses):
        if all(holds(condition, arguments) for condition in clause.conditions):
            verdict = clause.verdict
    if verdict.errno == 0:
        return ALLOWED
    return NOTIFY if verdict.is_watched and notify else ERRNO | verdict.errno


def holds(condition: Condition, arguments: tuple[int, ...]) -> bool:
    argument = arguments[condition.argument] & 0xFFFFFFFF
    values = [PID if value == OWN_PID else value for value in condition.values]
    return argument & condition.mask in values


def tried_arguments(rule: Rule) -> Iterator[tuple[int, ...]]:
    """Arguments that a rule tells apart, near and far."""
    yield (0,) * 6
    yield ((1 << 64) - 1,) * 6
    for clause in rule.clauses:
        for upper in (0, 1 << 32):
            right = [0] * 6
            for condition in clause.conditions:
                for value in condition.values:
                    right[condition.argument] = (PID if value == OWN_PID else value) | upper
                    yield tuple(right)
            for condition in clause.conditions:
                for change in (1, 2, 1 << 9, 1 << 17, 1 << 28, 1 << 29, 1 << 31, 1 << 33):
                    wrong = list(right)
                    wrong[condition.argument] ^= change
                    yield tuple(wrong)


@pytest.mark.parametrize("notify", [False, True])
@pytest.mark.parametrize("profile", PROFILES, ids=range(len(PROFILES)))
@pytest.mark.parametrize("machine", MACHINES, ids=lambda one: one.name)
def test_every_call_is_judged_by_its_rule(
    machine: Machine, profile: Sandbox, *, notify: bool
) -> None:
    rules = rules_for(profile, confines_signals=False)
    code = assemble(machine, rules, notify=notify).encode(PID)
    names = {number: name for name, number in machine.numbers.items()}

    for number in range(600):
        rule = rules.get(names.get(number, ""), Rule((), MISSING))
        for arguments in tried_arguments(rule):
            judged = interpret(code, Call(number, arguments, machine.audit))
            assert judged == expected(rule, arguments, notify=notify), (
                names.get(number),
                arguments,
            )


@pytest.mark.parametrize("machine", MACHINES, ids=lambda one: one.name)
def test_calls_of_another_machine_end_the_process(machine: Machine) -> None:
    code = assemble(machine, rules_for(Sandbox(), confines_signals=True), notify=False).encode(PID)

    for number in (0, 39, 0x40000000, 0x40000000 + 39, -1, 0x7FFFFFFF):
        assert interpret(code, Call(number, audit=0x40000003)) == KILL
        if number >= 0x40000000 or number < 0:
            assert interpret(code, Call(number, audit=machine.audit)) == KILL


def test_presets_name_calls_that_exist() -> None:
    known = set(NUMBERS["x86_64"]) | set(NUMBERS["aarch64"])

    for profile in PROFILES:
        assert set(rules_for(profile, confines_signals=True)) <= known


def test_a_wider_preset_allows_no_less() -> None:
    machine = MACHINES[0]

    def allowed(profile: Sandbox) -> set[str]:
        code = assemble(machine, rules_for(profile, confines_signals=True), notify=False)
        return {
            name
            for name, number in machine.numbers.items()
            if interpret(code.encode(PID), Call(number)) == ALLOWED
        }

    compute, net, starts = (
        allowed(Sandbox(syscalls=syscalls, network=network, processes=processes, level="strict"))
        for syscalls, network, processes in (
            ("compute", None, 0),
            ("net", "loopback", 0),
            ("subprocess", "loopback", 1),
        )
    )

    assert net - compute == {"bind", "listen", "accept", "accept4", "connect"}
    assert compute < net < starts


@given(
    numbers=st.sets(st.integers(0, 999), max_size=60),
    values=st.lists(WORDS, min_size=1, max_size=40),
    mask=WORDS,
    arguments=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6),
)
def test_any_rules_are_judged_as_they_say(
    numbers: set[int], values: list[int], mask: int, arguments: tuple[int, ...]
) -> None:
    conditions = (
        Condition(5, tuple(values), mask),
        Condition(1, (arguments[1] & 0xFFFFFFFF,)),
    )
    kinds = [
        Rule((), ALLOW),
        Rule((Clause(conditions, ALLOW),), WATCH),
        Rule(
            (Clause(conditions[:1], REFUSE), Clause(conditions[1:], ALLOW)), Verdict(errno.EACCES)
        ),
    ]
    rules = {str(number): kinds[number % len(kinds)] for number in numbers}
    machine = Machine("made up", 5, {str(number): number for number in range(1000)})
    code = assemble(machine, rules, notify=True).encode(PID)

    for number in {*numbers, *(number + 1 for number in numbers), 0, 1000}:
        rule = rules.get(str(number), Rule((), MISSING))
        judged = interpret(code, Call(number, arguments, 5))
        assert judged == expected(rule, arguments, notify=True)


def test_what_does_not_fit_is_an_error() -> None:
    machine = Machine("made up", 5, {str(number): number for number in range(5000)})
    far = Condition(0, tuple(range(300)))

    with pytest.raises(ValueError, match=f"{MAX_INSTRUCTIONS} are taken"):
        assemble(
            machine,
            {str(number): Rule((), Verdict(1 + number % 2)) for number in range(5000)},
            notify=False,
        )
    for test in (far, Condition(0, ())):
        with pytest.raises(ValueError, match="is too long, or has no value"):
            assemble(machine, {"1": Rule((Clause((test,), ALLOW),), REFUSE)}, notify=False)


def test_a_program_is_made_once_and_told_whose_it_is() -> None:
    rules = {"1": Rule((Clause((Condition(0, (OWN_PID,)),), ALLOW),), REFUSE)}
    made: Program = assemble(Machine("made up", 5, {"1": 1}), rules, notify=True)

    assert len(made.own_pid_at) == 1
    assert not made.notifies, "nothing is watched"
    for pid in (1, PID):
        assert interpret(made.encode(pid), Call(1, (pid, *[0] * 5), 5)) == ALLOWED
        assert interpret(made.encode(pid), Call(1, (pid + 1, *[0] * 5), 5)) != ALLOWED
