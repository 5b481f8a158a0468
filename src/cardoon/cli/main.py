"""The `cardoon` command: global options, and the commands, each loaded when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cardoon import __version__
from cardoon.exceptions import CardoonError

COMMANDS: Mapping[str, str] = {
    "acl": "cardoon.cli.acl:acl",
    "bridge": "cardoon.cli.bridge:bridge",
    "call": "cardoon.cli.tasks:call",
    "cert": "cardoon.cli.cert:cert",
    "db": "cardoon.cli.db:db",
    "dead": "cardoon.cli.kept:dead",
    "init": "cardoon.cli.init:init",
    "keys": "cardoon.cli.keys:keys",
    "list": "cardoon.cli.routes:list_",
    "limits": "cardoon.cli.limits:limits",
    "pause": "cardoon.cli.queues:pause",
    "policy": "cardoon.cli.policy:policy",
    "purge": "cardoon.cli.queues:purge",
    "quarantine": "cardoon.cli.kept:quarantine",
    "queues": "cardoon.cli.queues:queues",
    "replay": "cardoon.cli.replay:replay",
    "report": "cardoon.cli.report:report",
    "result": "cardoon.cli.tasks:result",
    "resume": "cardoon.cli.queues:resume",
    "routes": "cardoon.cli.routes:routes",
    "signer": "cardoon.cli.signer:signer",
    "upgrade": "cardoon.cli.upgrade:upgrade",
    "verify": "cardoon.cli.verify:verify",
    "why": "cardoon.cli.why:why",
    "worker": "cardoon.cli.worker:worker",
}
"""Where each command lives. Loading one must not cost the time of all."""

SUMMARIES: Mapping[str, str] = {
    "acl": "Print what gives a user of the broker's server the rights of a role.",
    "bridge": "Take messages from Celery's queues, and sign them.",
    "call": "Send a task by name, and wait for its result if asked to.",
    "cert": "Identities: make, sign, look at, renew and revoke them.",
    "db": "Make, migrate and look at the tables of a PostgreSQL database.",
    "dead": "Dead letters: verified tasks that could not be completed.",
    "init": "Make identities and a starter project in a folder.",
    "keys": "The keys that bodies are sealed to: make, rotate and retire them.",
    "list": "Show the bindings of queues that the settings declare.",
    "limits": "Show whose limit holds messages back.",
    "pause": "Let queues rest, for all workers, until they are resumed.",
    "policy": "Who may do what: check the policy file, and ask it.",
    "purge": "Delete the messages that wait in queues.",
    "quarantine": "Messages that were refused, kept with the reason.",
    "queues": "Show what lies in each queue.",
    "replay": "Since when it is known what was carried out.",
    "report": "Show versions, platform and settings, for a report of a bug.",
    "result": "Show the result of a task.",
    "resume": "Let workers go on with queues that rest.",
    "routes": "Show where a call of a task would go, and why.",
    "signer": "Hold a key, and sign for other processes over a socket.",
    "upgrade": "Rewrite a project that was written for Celery.",
    "verify": "Have the gate judge a captured message, check by check.",
    "why": "Say where a task is, and why it does not run.",
    "worker": "Start a worker.",
}


class LazyGroup(click.Group):
    """Finds commands by name in `COMMANDS`, and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """The command of a name."""
        target = COMMANDS.get(name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self.list_commands(ctx)])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-A", "--app", metavar="MODULE[:NAME]", help="The app, as a module to import.")
@click.option(
    "-b",
    "--broker",
    metavar="URL",
    help="Where the messages are. A password here is visible to others; use env:NAME or file:PATH.",
)
@click.option("--result-backend", metavar="URL", help="Where the results are.")
@click.option("--workdir", type=click.Path(exists=True, file_okay=False), help="Go there first.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what matters.")
@click.option("--skip-checks", is_flag=True, help="Skip Django's checks.")
@click.version_option(__version__, "--version", prog_name="cardoon", message="%(prog)s %(version)s")
@click.pass_context
def cardoon(
    ctx: click.Context,
    app: str | None,
    broker: str | None,
    result_backend: str | None,
    workdir: str | None,
    quiet: bool,  # noqa: FBT001  # click passes flags so
    skip_checks: bool,  # noqa: FBT001
) -> None:
    """A task queue that trusts nobody.

    \b
    cardoon init                    make identities and a starter tasks.py
    cardoon -A tasks worker         run the tasks of tasks.py
    cardoon -A tasks call add -a '[1, 2]' --wait
    """  # noqa: D301  # \b keeps click from filling the lines
    if workdir:
        os.chdir(workdir)
    if skip_checks:
        os.environ["CELERY_SKIP_CHECKS"] = "true"  # read where Django is; not a setting of the app
    settings = {"broker_url": broker, "result_backend": result_backend}
    ctx.obj = Invocation(
        app, {name: value for name, value in settings.items() if value is not None}, quiet=quiet
    )


class Invocation:
    """What the global options say."""

    def __init__(self, app: str | None, settings: dict[str, Any], *, quiet: bool) -> None:
        self.app = app
        self.settings = settings
        self.quiet = quiet


def main() -> None:
    """Entry point. Errors of ours are one line and exit code 1; `-h` and usage are click's."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        cardoon(prog_name="cardoon")
    except CardoonError as error:
        traceback = getattr(error, "traceback", "")
        if traceback:
            click.echo(traceback, err=True)
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
