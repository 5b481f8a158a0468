"""The commands that a worker knows, with what each of them takes: read by those who give and who carry out.

A command looks (`inspect`) or changes something (`control`). Its arguments are checked twice: before it is
signed, so that a mistake is told at once, and by the worker, which believes nobody.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from cardoon.exceptions import InvalidTaskError
from cardoon.message.protocol import MAX_NAME, REVOKE, REVOKE_BY_STAMPS
from cardoon.option import parse_rate

INSPECT = "inspect"
CONTROL = "control"
MAX_TEXT = 512
"""Characters of a text among arguments."""
MAX_LISTED = 1000
"""Members of a list among arguments."""
MAX_GROWTH = 1024
"""Processes or threads by which a pool may be changed at a time."""
MAX_SECONDS = 30 * 86_400
"""Of a time limit."""

Check: TypeAlias = Callable[[str, Any], Any]
"""Given the argument's name and value, what the value means; `ValueError` if it is none."""


class Argument(NamedTuple):
    """One argument of a command."""

    name: str
    check: Check
    required: bool = False
    default: Any = None
    told: str = ""
    """What people are told it is."""


class Command(NamedTuple):
    """A command of Cardoon's own."""

    name: str
    type: str
    """`INSPECT` or `CONTROL`."""
    help: str
    arguments: tuple[Argument, ...] = ()

    @property
    def signature(self) -> str:
        """Its arguments, for people."""
        return " ".join(
            f"<{one.told or one.name}>" if one.required else f"[{one.told or one.name}]"
            for one in self.arguments
        )

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they are carried out; `InvalidTaskError` names the one that is wrong."""
        known = {one.name: one for one in self.arguments}
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                hint = f"did you mean {near[0]!r}?" if near else takes
                raise InvalidTaskError(f"{self.name}: unknown argument {str(name)!r}; {hint}")
        found = {}
        for one in self.arguments:
            value = given.get(one.name)
            if value is None:
                if one.required:
                    raise InvalidTaskError(f"{self.name}: {one.name} is missing; give {one.told}")
                found[one.name] = one.default
                continue
            try:
                found[one.name] = one.check(one.name, value)
            except ValueError as error:
                raise InvalidTaskError(f"{self.name}: {error}") from None
        return found


def text(name: str, value: Any) -> str:
    """Some printable characters."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MAX_TEXT:
        raise ValueError(f"{name}: {_shown(value)} is not 1 to {MAX_TEXT} printable characters")
    return value


def texts(name: str, value: Any) -> list[str]:
    """A list of texts, or one."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or len(found) > MAX_LISTED:
        raise ValueError(f"{name}: {_shown(value)} is no list of at most {MAX_LISTED}")
    return [text(name, one) for one in found]


def count(name: str, value: Any) -> int:
    """How many, from 0."""
    found = _number(name, value)
    if found != int(found) or not 0 <= found <= MAX_GROWTH:
        raise ValueError(f"{name}: {_shown(value)} is no number from 0 to {MAX_GROWTH}")
    return int(found)


def seconds(name: str, value: Any) -> float:
    """A time limit."""
    found = _number(name, value)
    if not 0 < found <= MAX_SECONDS:
        raise ValueError(
            f"{name}: {_shown(value)} is no time; give seconds, more than 0 and at most {MAX_SECONDS}"
        )
    return found


def rate(name: str, value: Any) -> str | float:
    """How often something may begin, as `rate_limit` of a task says it; 0 for as often as it comes."""
    if isinstance(value, str):
        text(name, value)
    found: str | float = value if isinstance(value, str) else _number(name, value)
    try:
        parse_rate(found)
    except ValueError as error:
        raise ValueError(f"{name}: {_shown(value)} {error}") from None
    return found


def flag(name: str, value: Any) -> bool:
    """Yes or no."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = value if isinstance(value, bool) else known.get(str(value).lower())
    if found is None:
        raise ValueError(f"{name}: {_shown(value)} is neither true nor false")
    return found


def _number(name: str, value: Any) -> float:
    plain = value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    try:
        return float(plain)
    except (ValueError, OverflowError):
        raise ValueError(f"{name}: {_shown(value)} is no number") from None


def _anything(_name: str, value: Any) -> Any:
    """What is checked by those who carry it out, as they did before there were other commands."""
    return value


def _shown(value: object) -> str:
    shown = repr(value) if isinstance(value, (str, int, float, bool)) else type(value).__name__
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _task(*others: Argument) -> tuple[Argument, ...]:
    return (Argument("task_name", text, required=True, told="task_name"), *others)


def _queue(*others: Argument) -> tuple[Argument, ...]:
    return (Argument("queue", text, required=True, told="queue"), *others)


_N = (Argument("n", count, default=1, told="N=1"),)
_TERMINATE = (Argument("terminate", _anything), Argument("signal", _anything))

_ALL = (
    Command("ping", INSPECT, "Say whether it is there."),
    Command("active", INSPECT, "Tasks that run.", (Argument("safe", flag, default=False),)),
    Command("reserved", INSPECT, "Tasks that it holds and that have not begun."),
    Command(
        "scheduled", INSPECT, "Tasks with an ETA that it holds: none, they wait in the broker."
    ),
    Command(
        "registered",
        INSPECT,
        "Tasks that it can run.",
        (
            Argument("taskinfoitems", texts, default=(), told="attribute ..."),
            Argument("builtins", flag, default=False, told="builtins=false"),
        ),
    ),
    Command("stats", INSPECT, "What it is, and what it has done."),
    Command("active_queues", INSPECT, "Queues that it takes from."),
    Command("revoked", INSPECT, "Ids that it does not run."),
    Command(
        "query_task",
        INSPECT,
        "Whether it holds these tasks, and what it does with them.",
        (Argument("ids", texts, required=True, told="id ..."),),
    ),
    Command(
        "conf",
        INSPECT,
        "Its settings, without secrets.",
        (Argument("with_defaults", flag, default=False, told="with_defaults=false"),),
    ),
    Command("report", INSPECT, "Versions, platform and settings, for a report of a bug."),
    Command("clock", INSPECT, "The number of the last command that it heard."),
    Command(
        "hello",
        INSPECT,
        "Its clock, and what it does not run.",
        (Argument("from_node", text, default=""), Argument("revoked", _anything)),
    ),
    Command(
        "rate_limit",
        CONTROL,
        "How often a task may begin in a worker.",
        _task(Argument("rate_limit", rate, required=True, told="rate such as 10/m, 0 for any")),
    ),
    Command(
        "time_limit",
        CONTROL,
        "How long a task may run; for those that begin from then on.",
        _task(
            Argument("soft", seconds, told="soft seconds"),
            Argument("hard", seconds, told="hard seconds"),
        ),
    ),
    Command(
        "add_consumer",
        CONTROL,
        "Take from a queue as well.",
        _queue(
            Argument("exchange", text),
            Argument("exchange_type", text),
            Argument("routing_key", text),
        ),
    ),
    Command("cancel_consumer", CONTROL, "Take from a queue no more.", _queue()),
    Command(
        "autoscale",
        CONTROL,
        "Between how many processes the pool follows its load.",
        (
            Argument("max", count, required=True, told="max"),
            Argument("min", count, default=0, told="min=0"),
        ),
    ),
    Command("pool_grow", CONTROL, "Run more tasks at a time.", _N),
    Command("pool_shrink", CONTROL, "Run fewer tasks at a time.", _N),
    Command("pool_restart", CONTROL, "New task processes; tasks that run end where they are."),
    Command("shutdown", CONTROL, "Stop warm, as by SIGTERM."),
    Command("enable_events", CONTROL, "Send events about tasks."),
    Command("disable_events", CONTROL, "Send no events about tasks."),
    Command("heartbeat", CONTROL, "Send a heartbeat now."),
    Command("check_integrity", CONTROL, "Hold all files, and what runs, against the baseline now."),
    Command(
        REVOKE,
        CONTROL,
        "Do not run these tasks; with terminate=true, stop them.",
        (Argument("ids", _anything, required=True, told="id ..."), *_TERMINATE),
    ),
    Command(
        REVOKE_BY_STAMPS,
        CONTROL,
        "Do not run tasks with one of these stamps.",
        (Argument("headers", _anything, required=True, told="stamp=value ..."), *_TERMINATE),
    ),
)

COMMANDS: Mapping[str, Command] = {one.name: one for one in _ALL}
"""By name; what is not among them may be a command of the worker's own app."""

NOT_HERE: Mapping[str, str] = {
    "memsample": "use tracemalloc or memray in a task",
    "memdump": "use tracemalloc or memray in a task",
    "objgraph": "use the package objgraph in a task",
    "election": "workers elect nobody: the broker settles what one of them is to do",
}
"""Commands of Celery's that no worker knows, each with what to do instead."""

TERMINATE = "terminate"
"""What a revocation that stops tasks is judged as, besides its own name."""


def check_custom(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a command that only its worker knows."""
    if len(name.encode(errors="replace")) > MAX_NAME or not name.isprintable() or not name:
        raise InvalidTaskError(f"command {_shown(name)} is not 1 to {MAX_NAME} printable bytes")
    if name in NOT_HERE:
        raise InvalidTaskError(f"{name}: no worker knows it: {NOT_HERE[name]}")
    return dict(given)


def check_order(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a command of this name, as they are signed; `InvalidTaskError` if they are none."""
    known = COMMANDS.get(name)
    if known is None:
        return check_custom(name, given)
    known.check(given)
    return {key: value for key, value in given.items() if value is not None}


def named(type_: str) -> Sequence[Command]:
    """The commands that look, or that change something."""
    return [one for one in _ALL if one.type == type_]
