"""What `inspect`, `control` and `status` have in common: options, arguments, and how answers are shown."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from cardoon.app import Cardoon
from cardoon.cli.access import find_app, json_of, print_json, print_table, printable
from cardoon.cli.main import Invocation
from cardoon.commands import COMMANDS, CONTROL, NOT_HERE, Command, check_order, named, texts
from cardoon.inspection import Options, Question, read_destination
from cardoon.sender import Answer, Order
from cardoon.worker.control import CommandInfo, Panel

_NEAR = 0.8
"""How alike a name and a command are where the command is meant; 1 is the same."""
F = TypeVar("F", bound=Callable[..., Any])

NO_ANSWER = 69
"""EX_UNAVAILABLE, as Celery's: no worker answered in time."""
WRONG = 1
"""A worker answered with an error."""
_WIDE = 60
"""Characters of a value that still fits into a table."""


def asking_options(function: F) -> F:
    """Options of everything that asks workers."""
    for option in (
        click.option("-j", "--json", "as_json", is_flag=True, help="Answer in JSON."),
        click.option(
            "-d",
            "--destination",
            metavar="NAMES",
            help="Only these workers, with commas between them.",
        ),
        click.option(
            "-t",
            "--timeout",
            type=click.FloatRange(0, 300),
            default=1.0,
            show_default=True,
            help="Seconds to wait for answers.",
        ),
    ):
        function = option(function)
    return function


class Asker:
    """Asks workers on behalf of a command line, and shows what they say."""

    def __init__(
        self, app: Cardoon, *, destination: str | None, timeout: float, as_json: bool
    ) -> None:
        self._app = app
        self._options = Options(read_destination("--destination", destination), timeout)
        self._as_json = as_json

    def ask(self, command: str, arguments: Mapping[str, Any]) -> list[Answer]:
        """The answers; without any, says so and ends with 69."""
        given = check_order(command, arguments)
        order = Order(command, given, self._options.destination)
        question = Question(self._app, order, self._options)
        answers = list(question.ask())
        for reason, count in question.refused.items():
            click.secho(
                f"{count} answers were refused: {reason} (see the audit trail)", fg="red", err=True
            )
        silent = [
            one for one in self._options.destination if one not in {a.worker for a in answers}
        ]
        if silent and answers:
            click.secho(f"no answer from {', '.join(silent)}", fg="yellow", err=True)
        if not answers:
            if self._as_json:
                print_json({})
            click.secho(
                f"error: no worker answered within {self._options.timeout:g} seconds; is one running "
                "(`cardoon worker`), on this broker? -t waits longer",
                fg="red",
                err=True,
            )
            sys.exit(NO_ANSWER)
        return answers

    def show(self, answers: Sequence[Answer]) -> None:
        """Print answers, and end with 1 if one of them is an error."""
        if self._as_json:
            print_json({one.worker: one.content for one in answers})
        else:
            for one in sorted(answers):
                show_answer(one)
        if any(is_error(one.content) for one in answers):
            sys.exit(WRONG)


@contextmanager
def asker(
    invocation: Invocation, *, destination: str | None, timeout: float, as_json: bool
) -> Iterator[Asker]:
    """An asker for the app of the command line."""
    with find_app(invocation) as app:
        yield Asker(app, destination=destination, timeout=timeout, as_json=as_json)


def is_error(content: Any) -> bool:
    """Whether a worker could not do what was asked."""
    return isinstance(content, dict) and "error" in content


def show_answer(answer: Answer) -> None:
    """One worker's answer, for people."""
    content = answer.content
    if is_error(content):
        click.secho(f"-> {printable(answer.worker)}: ", bold=True, nl=False)
        click.secho(f"error: {printable(str(content['error']))}", fg="red")
        return
    click.secho(f"-> {printable(answer.worker)}", bold=True)
    if isinstance(content, dict) and set(content) == {"ok"}:
        for line in str(content["ok"]).splitlines() or [""]:
            click.echo(f"   {printable(line)}")
    elif _is_rows(content):
        heads = [key for key in content[0] if all(_is_short(row.get(key)) for row in content)]
        print_table(heads, [[_cell(row.get(key)) for key in heads] for row in content])
    else:
        _show_value(content, "   ")
    if answer.left_out:
        click.secho(f"   ... and {answer.left_out} more, for which there was no room", fg="yellow")


def _is_rows(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(one, dict) and one for one in content)
    )


def _is_short(value: Any) -> bool:
    return not isinstance(value, (dict, list)) and len(str(value)) <= _WIDE


def _cell(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def _show_value(value: Any, indent: str) -> None:
    """A value as nested lines."""
    match value:
        case dict() if value:
            for key, inner in value.items():
                if isinstance(inner, (dict, list)) and inner:
                    click.echo(f"{indent}{printable(str(key))}:")
                    _show_value(inner, indent + "  ")
                else:
                    click.echo(f"{indent}{printable(str(key))}: {printable(_word(inner))}")
        case list() if value:
            for inner in value:
                if isinstance(inner, (dict, list)):
                    click.echo(f"{indent}- {printable(json_of(inner))}")
                else:
                    click.echo(f"{indent}- {printable(_word(inner))}")
        case dict() | list():
            click.echo(f"{indent}(none)")
        case _:
            click.echo(f"{indent}{printable(_word(value))}")


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json_of(value)


def read_arguments(command: str, words: Sequence[str], type_: str) -> dict[str, Any]:
    """Arguments from words: in the command's order, or as `name=value`."""
    known = COMMANDS.get(command)
    if known is None:
        return _read_custom(command, words)
    if known.type != type_:
        other = "inspect" if known.type != CONTROL else "control"
        raise click.UsageError(f"{command!r} is a command of `cardoon {other}`")
    names = {one.name for one in known.arguments}
    found: dict[str, Any] = {}
    places = [one for one in known.arguments if one.told]
    for word in words:
        name, mark, value = word.partition("=")
        if mark and name in names:
            found[name] = value
            continue
        left = [one for one in places if one.name not in found or one.check is texts]
        if not left:
            raise click.UsageError(f"{command}: {word!r} is one too many; {_usage(known)}")
        place = left[0]
        if place.check is texts:
            found.setdefault(place.name, []).append(word)
        else:
            found[place.name] = word
    return found


def _usage(command: Command) -> str:
    return f"it takes {command.signature}" if command.arguments else "it takes nothing"


def _read_custom(command: str, words: Sequence[str]) -> dict[str, Any]:
    """Arguments of a command of the app's own, in the order that it was registered with."""
    info = Panel.meta.get(command)
    if info is None:
        _warn_of_near_miss(command)
    places = list((info.args if info else None) or ())
    found: dict[str, Any] = {}
    for word in words:
        name, mark, value = word.partition("=")
        if mark and name.isidentifier():
            found[name] = _read_value(value)
        elif places:
            place, kind = places.pop(0)
            found[place] = kind(word) if callable(kind) else _read_value(word)
        elif info is not None and info.variadic:
            found.setdefault(info.variadic, []).append(word)
        else:
            raise click.UsageError(f"{command}: {word!r}: give arguments as name=value")
    return found


def _warn_of_near_miss(command: str) -> None:
    """Say so of what is nearly a command; it is asked for all the same, since a worker's app may have it."""
    close = difflib.get_close_matches(command, [*COMMANDS, *Panel.meta], n=1, cutoff=_NEAR)
    if close and command not in NOT_HERE:
        click.secho(
            f"warning: no command {printable(command)!r} here; did you mean {close[0]!r}? It is asked for, since "
            "workers may have it",
            fg="yellow",
            err=True,
        )


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def list_commands(type_: str) -> None:
    """Print what there is to ask for."""
    rows = [(one.name, one.signature, one.help) for one in named(type_)]
    rows += [
        (name, info.signature or "", info.help)
        for name, info in sorted(Panel.meta.items())
        if info.type == type_ and info.visible
    ]
    print_table(("command", "arguments", "what"), rows)


def info_of(command: str) -> CommandInfo | None:
    """What the app has registered under a name."""
    return Panel.meta.get(command)
