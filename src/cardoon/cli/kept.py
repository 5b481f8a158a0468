"""`cardoon dead` and `cardoon quarantine`: what is kept for people to look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias

import click

from cardoon.broker import Inspectable, Kept, KeptMessage
from cardoon.cli.access import (
    answer,
    answer_option,
    find_app,
    json_option,
    open_audit,
    open_broker,
    open_stores,
    print_json,
    print_table,
    printable,
    when,
)
from cardoon.cli.judging import (
    Judge,
    describe_judgement,
    find_kept,
    memory_of,
    print_judgement,
)
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.exceptions import CardoonError, Refusal
from cardoon.producer import BRIDGED, RESULTS
from cardoon.quarantine import Quarantining, total
from cardoon.spoken import distance

_PAGE = 100
"""Messages that are asked for at a time, since each comes with its frame."""


class Wanted(NamedTuple):
    """Which of the kept messages are listed."""

    reason: str | None
    queue: str | None
    since: float
    """Seconds since the epoch."""

    def covers(self, message: KeptMessage) -> bool:
        """Whether this is one of them."""
        return (
            (self.reason is None or message.reason == self.reason)
            and (self.queue is None or message.queue == self.queue)
            and message.kept_at >= self.since
        )


def parse_since(text: str) -> float:
    """A time in seconds since the epoch: from ISO 8601, or how long ago, such as `90m`, `6h` or `7d`."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
    if unit is not None and text[:-1].isdecimal() and text.isascii() and len(text) < 10:
        return SystemClock().now() - int(text[:-1]) * unit
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-01-31, 2026-01-31T12:00 or 6h"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _with(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Several options as one decorator."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


Command: TypeAlias = Callable[..., Any]

_list_options = [
    click.option("--limit", default=50, show_default=True, help="How many at most."),
    click.option("--after", default=0, metavar="NUMBER", help="Only those behind this one."),
    click.option("--reason", help="Only those with this reason."),
    click.option("--queue", help="Only those from this queue."),
    click.option(
        "--since",
        type=parse_since,
        default="1970-01-01",
        help="Only those kept since: a time, or 6h, 7d.",
    ),
    json_option,
]
_show_options = [
    click.option("-Q", "--queues", help="Judge it as a worker that consumes these."),
    click.option("--domain", multiple=True, help="Try this security domain as well."),
    click.option("--body", is_flag=True, help="Show the body, if the signature is right."),
    json_option,
]


def _group(name: str, where: Kept, texts: dict[str, str]) -> click.Group:
    """The commands on one of the two places."""

    @click.group(name, help=texts["help"])
    def group() -> None:
        pass

    @group.command("list", help=texts["list"])
    @_with(_list_options)
    @click.pass_obj
    def list_kept(invocation: Invocation, /, **options: Any) -> None:
        _list(invocation, where, **options)

    @group.command("show", help=texts["show"])
    @click.argument("number", type=int)
    @_with(_show_options)
    @click.pass_obj
    def show(invocation: Invocation, /, number: int, **options: Any) -> None:
        _show(invocation, _Place(name, where), number, **options)

    _add_restore(group, where)

    @group.command("purge", help=texts["purge"])
    @click.argument("numbers", type=int, nargs=-1)
    @click.option("-f", "--force", is_flag=True, help="Do not ask.")
    @answer_option
    @click.pass_obj
    def discard(invocation: Invocation, numbers: tuple[int, ...], force: bool) -> None:  # noqa: FBT001
        with open_broker(invocation) as broker:
            if not numbers and not force:
                click.confirm("Delete all of them?", abort=True)
            count = broker.discard(where, numbers or None)
            answer({"deleted": count}, f"deleted {count} messages")

    return group


def _add_restore(group: click.Group, where: Kept) -> None:
    """The command that puts messages back."""
    if where is Kept.DEAD_LETTER:

        @group.command(help="Put dead letters back in their queues, with a clean record.")
        @click.argument("numbers", type=int, nargs=-1, required=True)
        @answer_option
        @click.pass_obj
        def retry(invocation: Invocation, numbers: tuple[int, ...]) -> None:
            with open_stores(invocation) as (broker, backend):
                kept = _with_numbers(broker, where, numbers)
                _refuse_results("dead retry", kept)
                if backend is not None:
                    # How it ended before must not stand in the way of how it ends.
                    backend.forget([message.id for message in kept])
                count = broker.restore(where, numbers)
                answer({"restored": count}, f"put back {count} messages")

        return

    @group.command()
    @click.argument("numbers", type=int, nargs=-1)
    @click.option("--reason", help="All that were refused for this reason.")
    @click.option(
        "--unsafe-accept-old",
        "accepts_old",
        is_flag=True,
        help="Have messages run that may have run before.",
    )
    @answer_option
    @click.pass_obj
    def release(
        invocation: Invocation, numbers: tuple[int, ...], reason: str | None, *, accepts_old: bool
    ) -> None:
        """Put refused messages back in their queues, where they are judged anew.

        After a certificate was added, for instance. What was signed before the replay store began to
        remember (`before-epoch`) goes back only with --unsafe-accept-old: nobody knows whether it ran.
        """
        if bool(numbers) == bool(reason):
            raise click.UsageError("name numbers, or a --reason")
        with open_broker(invocation) as broker:
            kept = (
                _with_numbers(broker, where, numbers) if numbers else _with_reason(broker, reason)
            )
            _refuse_results("quarantine release", kept)
            _accept_old(invocation, kept, accepts=accepts_old)
            count = broker.restore(where, [message.number for message in kept])
            answer({"restored": count}, f"put back {count} messages")


def _accept_old(invocation: Invocation, kept: Sequence[KeptMessage], *, accepts: bool) -> None:
    """Refuse to release what may have run before, or put in the audit trail that it is wanted."""
    old = [message for message in kept if message.reason == Refusal.BEFORE_EPOCH]
    if old and not accepts:
        raise click.ClickException(
            f"quarantine release: number {old[0].number} was signed before the replay store began to remember, "
            "so it may have run before; find out whether it did, and purge it, or have it run with "
            "--unsafe-accept-old"
        )
    with contextlib.closing(open_audit(invocation)) as audit:
        for message in old:
            audit.record(
                "operator.accept_old",
                number=message.number,
                queue=message.queue,
                message=message.id,
            )


dead = _group(
    "dead",
    Kept.DEAD_LETTER,
    {
        "help": "Dead letters: verified tasks that could not be completed.",
        "list": "Show the dead letters, oldest first.",
        "show": "Show one dead letter, and whether it would be accepted again; --json has its frame.",
        "purge": "Delete dead letters; all of them if no number is given.",
    },
)

quarantine = _group(
    "quarantine",
    Kept.QUARANTINE,
    {
        "help": "Messages that were refused, kept with the reason.",
        "list": "Show what was refused, oldest first.",
        "show": (
            "Show one refused message, judge it anew check by check, and say what to do. "
            "--json has its frame, which `cardoon verify` reads."
        ),
        "purge": "Delete refused messages; all of them if no number is given.",
    },
)


class _Place(NamedTuple):
    """One of the two places, as commands call it."""

    name: str
    where: Kept

    @property
    def restore_name(self) -> str:
        """The command that puts its messages back."""
        return "retry" if self.where is Kept.DEAD_LETTER else "release"


def _list(
    invocation: Invocation,
    where: Kept,
    *,
    limit: int,
    after: int,
    reason: str | None,
    queue: str | None,
    since: float,
    as_json: bool,
) -> None:
    wanted = Wanted(reason, queue, since)
    with open_broker(invocation) as broker:
        found = list(_find(broker, where, wanted, after=after, limit=limit + 1))
        full = _tell_fill(invocation, broker) if where is Kept.QUARANTINE else ""
    messages = found[:limit]
    if as_json:
        print_json(messages)
        return
    print_table(
        ("number", "when (UTC)", "queue", "id", "reason"),
        [(m["number"], m["kept_at"], m["queue"], m["id"], _reason(m)) for m in messages],
    )
    if len(found) > len(messages):
        behind = messages[-1]["number"] if messages else after
        click.echo(f"there are more; --after {behind} shows them", err=True)
    if full:
        click.echo(full)


def _show(
    invocation: Invocation,
    place: _Place,
    number: int,
    *,
    queues: str | None,
    domain: tuple[str, ...],
    body: bool,
    as_json: bool,
) -> None:
    settings = find_app(invocation).settings
    again = f"cardoon {place.name} {place.restore_name} {number}"
    judgement, problem, shown = None, "", "not shown: it was not judged"
    with open_broker(invocation) as broker:
        message = _need(broker, place, number)
        found = find_kept(message, consumed=tuple(queues.split(",")) if queues else (), again=again)
        if found is None:
            problem = "it is one of Celery's, which the bridge judges by its fence"
        else:
            # What ended together with its mark is put back without it.
            is_marked = place.where is Kept.DEAD_LETTER or message.reason == Refusal.DENIED
            memory = None if is_marked else memory_of(broker)
            try:
                judge = Judge(settings, clock=SystemClock(), domains=domain)
                judgement = judge.judge(message.frame, found, memory)
                shown = judge.show_body(judgement) if body else ""
            except CardoonError as error:
                problem = str(error)  # such as nobody to trust; the message is shown all the same
    if as_json:
        told = {**_describe(message), "frame": message.frame.hex()}
        told["judgement"] = None if judgement is None else describe_judgement(judgement)
        print_json({**told, "body": shown} if body else told)
        return
    _print_kept(message)
    if judgement is None:
        click.echo(f"not judged: {printable(problem)}")
    else:
        click.secho("judged now:", bold=True)
        print_judgement(judgement)
        if message.reason == Refusal.BEFORE_EPOCH:
            click.echo(
                f"whether it has run nobody knows; if it has not: `{again} --unsafe-accept-old`"
            )
        elif judgement.accepted and message.queue != RESULTS:
            click.echo(f"nothing stands in its way any more: `{again}`")
    if body:
        click.echo(f"body: {printable(shown)}")


def _find(
    broker: Inspectable, where: Kept, wanted: Wanted, *, after: int, limit: int
) -> Iterator[dict[str, Any]]:
    """What is listed of those that are wanted, a page at a time, without their frames."""
    while page := broker.kept(where, limit=_PAGE, after=after):
        for message in page:
            if wanted.covers(message):
                yield _describe(message)
                limit -= 1
                if limit <= 0:
                    return
        after = page[-1].number


def _need(broker: Inspectable, place: _Place, number: int) -> KeptMessage:
    found = broker.kept(place.where, limit=1, after=number - 1)
    if not found or found[0].number != number:
        raise click.ClickException(
            f"{place.name} show: there is no number {number}; `cardoon {place.name} list` shows them"
        )
    return found[0]


def _print_kept(message: KeptMessage) -> None:
    rows = (
        ("number", message.number),
        ("kept", distance(message.kept_at, SystemClock().now())),
        ("queue", message.queue),
        ("id", message.id or "-"),
        ("reason", _reason(_describe(message))),
        (
            "record",
            f"attempt {message.attempt}, {message.crashes} crashes, {message.retries} retries",
        ),
    )
    for head, value in rows:
        click.echo(f"{head:<8}{printable(str(value))}")
    click.echo()


def _with_numbers(broker: Inspectable, where: Kept, numbers: Sequence[int]) -> list[KeptMessage]:
    found = [m for n in dict.fromkeys(numbers) for m in broker.kept(where, limit=1, after=n - 1)]
    return [message for message in found if message.number in numbers]


def _with_reason(broker: Inspectable, reason: str | None) -> list[KeptMessage]:
    """All that is there at this moment."""
    found: list[KeptMessage] = []
    after = 0
    while some := broker.kept(Kept.QUARANTINE, limit=_PAGE, after=after):
        # Their frames may be large, and are not needed.
        found += [replace(one, frame=b"") for one in some if one.reason == reason]
        after = some[-1].number
    return found


def _tell_fill(invocation: Invocation, broker: Inspectable) -> str:
    """How full the quarantine is; nothing of one that is empty."""
    if not isinstance(broker, Quarantining):
        return ""
    fills = broker.quarantined()
    fill = total(fills)
    spared = sum(one.messages for one in fills) - fill.messages
    settings = find_app(invocation).settings
    told = (
        f"{fill.messages} of at most {settings.quarantine_max_messages} messages, "
        f"{fill.bytes / 2**20:.1f} of {settings.quarantine_max_bytes / 2**20:.1f} MiB"
    )
    if spared:
        told += f"; and {spared} that go only when they are purged"
    return told if fills else ""


def _refuse_results(command: str, kept: Sequence[KeptMessage]) -> None:
    for message in kept:
        if message.queue == RESULTS:
            raise click.ClickException(
                f"{command}: number {message.number} is a result, which no worker takes from a "
                "queue; leave it where it is, or purge it"
            )
        if message.queue.startswith(BRIDGED):
            raise click.ClickException(
                f"{command}: number {message.number} is a message of Celery's, which no worker takes "
                "from a queue; have its sender send it again, or purge it"
            )


def _reason(described: dict[str, Any]) -> str:
    reason, detail = described["reason"], described["detail"]
    return f"{reason}: {detail}" if detail else str(reason)


def _describe(message: KeptMessage) -> dict[str, Any]:
    return {
        "number": message.number,
        "kept_at": when(message.kept_at),
        "queue": message.queue,
        "id": message.id,
        "reason": message.reason,
        "detail": message.detail,
        "bytes": len(message.frame),
        "attempt": message.attempt,
        "crashes": message.crashes,
        "retries": message.retries,
    }
