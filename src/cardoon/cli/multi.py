"""`cardoon multi`: several workers of this host at once, in the background."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from cardoon import __version__
from cardoon.cli.main import Invocation
from cardoon.cli.nodes import PREFIX, Node, Option, Words, make_nodes, name_nodes, parse_words
from cardoon.cli.pids import find_holder, send_signal
from cardoon.exceptions import ImproperlyConfigured

START_SECONDS = 60.0
"""For a worker to import its app and reach its broker's settings; it is not ended if it takes longer."""
_POLL_SECONDS = 0.05
_STANDARD = {"--pidfile": "%n.pid", "--logfile": "%n%I.log"}

_OWN = {
    "--prefix": True,
    "--suffix": True,
    "--range-prefix": True,
    "--executable": True,
    "--timeout": True,
    "--json": False,
    "--nosplash": False,
    "--quiet": False,
    "--verbose": False,
    "--no-color": False,
}
"""Options of `multi` itself, and whether they take a value; the others are the worker's."""
_ALIASES = {"-p": "--pidfile", "-q": "--quiet", "-C": "--no-color"}
_GONE = {
    "--cmd": "--cmd: nodes are workers of this cardoon; name the interpreter with --executable",
    "--append": "--append: give options of a node as `-c:NAME 3`",
}

_HELP = """\
Start, stop and look at several workers of this host, which run in the background.

\b
cardoon multi start web mail -A tasks -c 2 -c:mail 8 -Q:mail mails
cardoon multi start 4 -A tasks -Q:1-3 images,video -Q:4 data
cardoon multi restart web mail -A tasks -c 2
cardoon multi stopwait web mail

Actions: start, restart, stop, stopwait, kill, show, names, get, expand, help. NAMES are names of nodes, or
one number for celery1, celery2, ... Options are those of `cardoon worker`, and one for some nodes only is
written -c:NAME, -c:2 or -c:1-3. In values, %n is the node's name, %p name and host, %h the host, %d its
domain; %i and %I are 0 and nothing. Each node keeps %n.pid and %n.log in the working directory unless
--pidfile and --logfile say otherwise; give stop the same names and --pidfile as start.

\b
start     start nodes, and say of each whether it has come up
stop      send TERM, or what is given as -INT, -QUIT or -9; `stopwait` waits for the end
restart   stopwait and start, node by node
kill      send KILL; what ran is run again elsewhere when the lease ends
show      print the commands; `get NAME NAMES` that of one node
names     print the nodes' names; `expand TEXT NAMES` a text for each of them

`--timeout SECONDS` bounds how long is waited; --suffix and -n name the host, --executable the Python. Exit
code 1 if a node did not come up or did not end. The page docs/cli.md has more.
"""


class _Ground(NamedTuple):
    """What an action works on."""

    words: Words
    nodes: Sequence[Node]
    own: Mapping[str, str | None]
    command: Sequence[str]
    """What starts a node, but for its options."""
    quiet: bool
    number: int | None
    """Of the signal that was given."""

    def argv(self, node: Node) -> list[str]:
        """The words that start a node."""
        told = []
        for option, value in node.options:
            if option in {"--pidfile", "--logfile", "--detach", "--hostname"}:
                continue
            told.append(option if value is None else f"{option}={value}")
        files = [f"{name}={node.value(name)}" for name in _STANDARD]
        return [
            *self.command,
            *told,
            "--detach",
            *files,
            f"--hostname={node.name}",
            *self.words.rest,
        ]

    @property
    def seconds(self) -> float | None:
        """How long is waited at most."""
        given = self.own.get("--timeout")
        try:
            return None if given is None else float(given)
        except ValueError:
            raise click.BadParameter(f"--timeout: {given!r} is not a number of seconds") from None

    def say(self, text: str, **style: Any) -> None:
        """Tell people something, unless they want JSON or nothing."""
        if not self.quiet and "--json" not in self.own:
            click.secho(text, **style)


class Told(NamedTuple):
    """What became of one node."""

    node: str
    state: str
    pid: int | None = None
    detail: str = ""
    failed: bool = False


@click.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "max_content_width": 110,
    },
    help=_HELP,
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="ACTION NAMES [OPTIONS]")
@click.pass_context
def multi(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Start, stop and look at several workers of this host."""
    if not words or words[0] == "help":
        click.echo(ctx.get_help())
        ctx.exit(0 if words else 2)
    action, *rest = words
    if action not in _ACTIONS:
        raise click.UsageError(f"multi: no action {action!r}; use {', '.join(_ACTIONS)} or help")
    first = ""
    if action in {"expand", "get"}:
        if not rest:
            raise click.UsageError(f"multi {action}: name what to {action} first")
        first, *rest = rest
    ground = _survey(ctx.obj, rest)
    _ = ground.seconds  # which may be no number
    if not ground.nodes:
        raise click.UsageError(f"multi {action}: name nodes, or give their number")
    _ACTIONS[action](ctx, ground, first)


def _survey(invocation: Invocation, rest: Sequence[str]) -> _Ground:
    """Take the words apart, and make nodes of them."""
    number, left = _take_signal(rest)
    words = parse_words(left, _known_options())
    own = {name: words.general[name] for name in _OWN if name in words.general}
    words = words._replace(
        general={name: value for name, value in words.general.items() if name not in _OWN}
    )
    if any(option in _OWN for _, option, _ in words.special):
        raise click.UsageError("multi: --prefix, --timeout and the like are for all nodes")
    host = own.get("--suffix") or words.general.get("--hostname") or os.uname().nodename
    names = name_nodes(
        words.names,
        host=host.rpartition("@")[2],
        prefix=own.get("--prefix") or "",
        range_prefix=own.get("--range-prefix") or PREFIX,
    )
    return _Ground(
        words,
        make_nodes(words, names, defaults=_STANDARD),
        own,
        [own.get("--executable") or sys.executable, *_globals(invocation)],
        quiet=invocation.quiet or "--quiet" in own,
        number=number,
    )


def _known_options() -> dict[str, Option]:
    from cardoon.cli.worker import worker  # noqa: PLC0415 - `multi help` need not wait for it

    known = {name: Option(name, takes) for name, takes in _OWN.items()}
    for param in worker.params:
        if isinstance(param, click.Option):
            longest = max(param.opts, key=len)
            for name in param.opts:
                known[name] = Option(longest, not param.is_flag)
    for short, name in _ALIASES.items():
        known[short] = known[name]
    return known


def _take_signal(rest: Sequence[str]) -> tuple[int | None, list[str]]:
    """The signal among the words (`-9`, `-INT`, `-SIGINT`), and the other words."""
    numbers = {one.name: one.value for one in signal.Signals}
    numbers |= {name.removeprefix("SIG"): value for name, value in numbers.items()}
    numbers |= {str(value): value for value in numbers.values()}
    found = None
    left: list[str] = []
    for at, word in enumerate(rest):
        name = word.partition("=")[0].partition(":")[0]
        if name in _GONE:
            raise click.UsageError(_GONE[name])
        if word == "--":
            return found, [*left, *rest[at:]]
        if word.startswith("-") and word[1:] in numbers:
            found = numbers[word[1:]]
        else:
            left.append(word)
    return found, left


def _globals(invocation: Invocation) -> list[str]:
    """The words in front of a node's options."""
    told = ["-m", "cardoon"]
    names = {"broker_url": "--broker", "result_backend": "--result-backend"}
    if invocation.app is not None:
        told.append(f"--app={invocation.app}")
    told += [f"{names[name]}={value}" for name, value in invocation.settings.items()]
    return [*told, "worker"]


def _show(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    commands = [(node.name, shlex.join(ground.argv(node))) for node in ground.nodes]
    _print_lines(ground, commands, key="command")


def _names(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    _print_lines(ground, [(node.name, node.name) for node in ground.nodes], key="")


def _expand(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    _print_lines(ground, [(node.name, node.expand(first)) for node in ground.nodes], key="text")


def _get(ctx: click.Context, ground: _Ground, first: str) -> None:
    wanted = [node for node in ground.nodes if first in {node.name, node.name.partition("@")[0]}]
    if not wanted:
        names = ", ".join(node.name for node in ground.nodes)
        raise click.UsageError(f"multi get: no node {first!r}; there are: {names}")
    _show(ctx, ground._replace(nodes=wanted), first)


def _print_lines(ground: _Ground, rows: Sequence[tuple[str, str]], *, key: str) -> None:
    if "--json" in ground.own:
        from cardoon.cli.access import print_json  # noqa: PLC0415 - only where JSON is wanted

        print_json([{"node": name, key: text} if key else name for name, text in rows])
        return
    for _, text in rows:
        click.echo(text)


def _start(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    ground.say("> starting nodes")
    _finish(ctx, ground, (_start_one(ground, node) for node in ground.nodes))


def _restart(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    def both() -> Iterator[Told]:
        for node in ground.nodes:
            [told] = _stop_all(ground._replace(nodes=[node]), waits=True)
            yield told
            if not told.failed:
                yield _start_one(ground, node)

    ground.say("> restarting nodes")
    _finish(ctx, ground, both())


def _stop(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    _finish(ctx, ground, _stop_all(ground, waits=False))


def _stopwait(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    _finish(ctx, ground, _stop_all(ground, waits=True))


def _kill(ctx: click.Context, ground: _Ground, first: str) -> None:  # noqa: ARG001
    _finish(ctx, ground, _stop_all(ground._replace(number=signal.SIGKILL), waits=True))


_ACTIONS: Mapping[str, Callable[[click.Context, _Ground, str], None]] = {
    "start": _start,
    "restart": _restart,
    "stop": _stop,
    "stopwait": _stopwait,
    "kill": _kill,
    "show": _show,
    "names": _names,
    "get": _get,
    "expand": _expand,
}


def _finish(ctx: click.Context, ground: _Ground, several: Iterator[Told]) -> None:
    """Say of each node what became of it, as it becomes known; exit code 1 if one failed."""
    done = []
    for told in several:
        done.append(told)
        pid = f" (process {told.pid})" if told.pid else ""
        detail = f": {told.detail}" if told.detail else ""
        ground.say(
            f"  {told.node}: {told.state}{pid}{detail}", fg="red" if told.failed else "green"
        )
    if "--json" in ground.own:
        from cardoon.cli.access import print_json  # noqa: PLC0415 - only where JSON is wanted

        print_json([told._asdict() for told in done])
    ctx.exit(any(told.failed for told in done))


def _start_one(ground: _Ground, node: Node) -> Told:
    pidfile, logfile = (Path(str(node.value(name))) for name in _STANDARD)
    running = find_holder(pidfile)
    if running is not None:
        return Told(node.name, "runs already", running or None)
    for path in (pidfile, logfile):
        path.parent.mkdir(parents=True, exist_ok=True)
    before = logfile.stat().st_size if logfile.exists() else 0
    done = subprocess.run(
        ground.argv(node), capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        return Told(node.name, "failed", detail=_last_line(done.stderr), failed=True)
    return _watch(ground, node, pidfile, logfile, before)


def _watch(ground: _Ground, node: Node, pidfile: Path, logfile: Path, before: int) -> Told:
    """Wait until the worker has told its banner, which it does when its app is imported, or has ended."""
    until = time.monotonic() + (ground.seconds or START_SECONDS)
    pid = None
    while time.monotonic() < until:
        found = find_holder(pidfile)
        with logfile.open("rb") as log:
            log.seek(before)
            text = log.read()
        if f" cardoon {__version__} ".encode() in text and found:
            return Told(node.name, "started", found)
        if found is None:
            return Told(
                node.name, "failed", detail=f"{_last_line(text)} (see {logfile})", failed=True
            )
        pid = found
        time.sleep(_POLL_SECONDS)
    return Told(node.name, "not up yet", pid, f"see {logfile}", failed=True)


def _last_line(text: bytes) -> str:
    from cardoon.cli.access import printable  # noqa: PLC0415 - only where something failed

    lines = text.decode(errors="replace").split("\n")
    return printable(
        next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    )


class _Ending(NamedTuple):
    """A node that was told to end."""

    node: Node
    pidfile: Path
    pid: int


def _stop_all(ground: _Ground, *, waits: bool) -> Iterator[Told]:
    """Signal all at once, and then, with `waits`, tell of each when it has ended."""
    number = signal.Signals(signal.SIGTERM if ground.number is None else ground.number)
    ground.say(f"> {number.name.removeprefix('SIG')} to nodes")
    ending = []
    for node in ground.nodes:
        pidfile = Path(str(node.value("--pidfile")))
        try:
            pid = send_signal(pidfile, number)
        except (ImproperlyConfigured, PermissionError) as error:
            yield Told(node.name, "failed", detail=str(error), failed=True)
            continue
        if pid is None:
            yield Told(node.name, "does not run")
        elif not waits:
            yield Told(node.name, f"{number.name} sent", pid)
        else:
            ending.append(_Ending(node, pidfile, pid))
    yield from _await_ends(ending, ground.seconds)


def _await_ends(ending: list[_Ending], seconds: float | None) -> Iterator[Told]:
    until = None if seconds is None else time.monotonic() + seconds
    while ending:
        for one in ending[:]:
            if find_holder(one.pidfile) != one.pid:
                ending.remove(one)
                yield Told(one.node.name, "ended", one.pid)
        if until is not None and time.monotonic() > until:
            break
        if ending:
            time.sleep(_POLL_SECONDS)
    for node, _, pid in ending:
        yield Told(node.name, "has not ended", pid, f"waited {seconds:g} s", failed=True)
