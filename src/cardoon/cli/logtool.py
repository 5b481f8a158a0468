"""`cardoon logtool`: counts and finds things in the logs of workers. It reads files, and nothing else."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO, TypeVar

import click

from cardoon.cli.access import json_option, print_json, printable

F = TypeVar("F", bound=Callable[..., Any])

MAX_LINES = 500
"""Of one record, as of a traceback; what is longer is cut, since a log may hold anything."""

_RECORD = re.compile(
    r"\[(?P<time>[\d\-: ,.]+): (?P<level>[A-Z]+)/(?P<process>[^\]]*)\] (?P<text>.*)", re.DOTALL
)
"""Of `worker_log_format` and `worker_task_log_format`, where they are not set."""
_TASK = re.compile(
    r"(?P<task>[\w.<>-]{1,256})\[(?P<id>[0-9a-zA-Z-]{1,256})\]: (?P<text>.*)", re.DOTALL
)
_JSON_NAMES = {
    "time": ("time", "timestamp"),
    "level": ("level", "severity"),
    "process": ("process", "processName"),
    "text": ("message", "event", "msg"),
    "task": ("task_name", "task"),
    "id": ("task_id",),
}
_ERRORS = frozenset({"ERROR", "CRITICAL", "FATAL"})
_TRACE = "Traceback (most recent call last)"


class Record(NamedTuple):
    """One record, with the lines that belong to it."""

    time: str
    level: str
    process: str
    text: str
    task: str = ""
    """Of what a task said; as is `id`."""
    id: str = ""
    lines: tuple[str, ...] = ()
    """All of it, as it is in the file."""


def read_records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a log, in text or as JSON; what stands before the first one is passed over."""
    current: Record | None = None
    more: list[str] = []
    for raw in lines:
        line = raw.rstrip("\n")
        begun = _begin(line)
        if begun is None:
            if current is not None and len(more) < MAX_LINES:
                more.append(line)
            continue
        if current is not None:
            yield current._replace(lines=(*current.lines, *more))
        current, more = begun, []
    if current is not None:
        yield current._replace(lines=(*current.lines, *more))


def _begin(line: str) -> Record | None:
    if line.startswith("{"):
        return _begin_json(line)
    found = _RECORD.fullmatch(line)
    if found is None:
        return None
    text = found["text"]
    of_task = _TASK.fullmatch(text)
    made = Record(found["time"], found["level"], found["process"], text, lines=(line,))
    if of_task is None:
        return made
    return made._replace(task=of_task["task"], id=of_task["id"], text=of_task["text"])


def _begin_json(line: str) -> Record | None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    found = {
        name: next((str(told[one]) for one in names if one in told), "")
        for name, names in _JSON_NAMES.items()
    }
    if not found["level"]:
        return None
    trace = told.get("exception") or told.get("traceback") or told.get("exc_info")
    more = str(trace).split("\n")[:MAX_LINES] if trace else []
    found["level"] = found["level"].upper()
    return Record(**found, lines=(line, *more))


@click.group(
    epilog="Example: `cardoon logtool stats worker.log`; without a file, or with -, it reads standard input."
)
def logtool() -> None:
    """Count and find things in the logs of workers, in text or as JSON lines."""


def _files(command: F) -> F:
    return click.argument("files", nargs=-1, type=click.File("r", errors="replace"))(command)


def _records(files: tuple[TextIO, ...]) -> Iterator[Record]:
    if not files and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    several: Sequence[TextIO] = files or [sys.stdin]
    for file in several:
        yield from read_records(file)


@logtool.command()
@_files
@json_option
def stats(files: tuple[TextIO, ...], as_json: bool) -> None:  # noqa: FBT001  # click passes flags so
    """Count records by level and by task, and tracebacks.

    \b
    cardoon logtool stats *.log
    """  # noqa: D301  # \b keeps click from filling the lines
    levels: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    traces = 0
    for record in _records(files):
        levels[record.level] += 1
        traces += _trace_of(record) is not None
        if record.task:
            tasks[record.task] += 1
    if as_json:
        print_json(
            {"records": levels.total(), "levels": levels, "tracebacks": traces, "tasks": tasks}
        )
        return
    click.echo(f"records     {levels.total()}")
    for level, count in levels.most_common():
        click.echo(f"  {printable(level):<10}{count}")
    click.echo(f"tracebacks  {traces}")
    for task, count in tasks.most_common():
        click.echo(f"  {count:>8} of {printable(task)}")


@logtool.command()
@_files
@json_option
def traces(files: tuple[TextIO, ...], as_json: bool) -> None:  # noqa: FBT001
    """Show tracebacks, each once, with how often it came.

    \b
    cardoon logtool traces worker.log
    """  # noqa: D301
    found: Counter[str] = Counter()
    for record in _records(files):
        trace = _trace_of(record)
        if trace is not None:
            found[trace] += 1
    if as_json:
        print_json([{"count": count, "traceback": trace} for trace, count in found.most_common()])
        return
    for trace, count in found.most_common():
        click.secho(f"{count} times:", bold=True)
        for line in trace.split("\n"):
            click.echo(printable(line))


@logtool.command()
@_files
@json_option
def errors(files: tuple[TextIO, ...], as_json: bool) -> None:  # noqa: FBT001
    """Show what was logged as an error or worse, with the lines that belong to it.

    \b
    cardoon logtool errors worker.log
    """  # noqa: D301
    _show((one for one in _records(files) if one.level in _ERRORS), as_json=as_json)


@logtool.command()
@_files
@json_option
def debug(files: tuple[TextIO, ...], as_json: bool) -> None:  # noqa: FBT001
    """Show what the worker itself logged, and not its tasks: what an operator reads first.

    \b
    cardoon logtool debug worker.log
    """  # noqa: D301
    _show((one for one in _records(files) if not one.task), as_json=as_json)


@logtool.command(hidden=True)
@_files
def incomplete(files: tuple[TextIO, ...]) -> None:
    """Celery's list of tasks that were received and have not ended."""
    del files
    raise click.UsageError(
        "logtool incomplete: a worker's log does not tell when tasks begin and end; `cardoon queues` shows how "
        "many are on loan, and `cardoon why ID` where one is"
    )


def _show(records: Iterable[Record], *, as_json: bool) -> None:
    if as_json:
        print_json([{**one._asdict(), "lines": list(one.lines)} for one in records])
        return
    for one in records:
        for line in one.lines:
            click.echo(printable(line))


def _trace_of(record: Record) -> str | None:
    """The traceback among the lines of a record, without how far it is indented."""
    start = next(
        (at for at, line in enumerate(record.lines) if line.lstrip().startswith(_TRACE)), None
    )
    if start is None:
        return None
    lines = record.lines[start:]
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] if line[:indent].isspace() else line for line in lines).rstrip()
