"""The `cardoon` command: global options, and the commands, each loaded when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from cardoon import __version__
from cardoon.cli.codes import Exit
from cardoon.exceptions import CardoonError, DriftError, OperationalError
from cardoon.exceptions import TimeoutError as WaitedInVain

COMMANDS: Mapping[str, str] = {
    "acl": "cardoon.cli.acl:acl",
    "amqp": "cardoon.cli.amqp:amqp",
    "audit": "cardoon.cli.audit:audit",
    "beat": "cardoon.cli.beat:beat",
    "bridge": "cardoon.cli.bridge:bridge",
    "call": "cardoon.cli.tasks:call",
    "cert": "cardoon.cli.cert:cert",
    "completion": "cardoon.cli.completion:completion",
    "control": "cardoon.cli.control:control",
    "db": "cardoon.cli.db:db",
    "dead": "cardoon.cli.kept:dead",
    "doctor": "cardoon.cli.doctor:doctor",
    "events": "cardoon.cli.events:events",
    "firewall": "cardoon.cli.firewall:firewall",
    "graph": "cardoon.cli.graph:graph",
    "health": "cardoon.cli.health:health",
    "init": "cardoon.cli.init:init",
    "inspect": "cardoon.cli.inspect:inspect",
    "integrity": "cardoon.cli.integrity:integrity",
    "keys": "cardoon.cli.keys:keys",
    "limits": "cardoon.cli.limits:limits",
    "list": "cardoon.cli.routes:list_",
    "logtool": "cardoon.cli.logtool:logtool",
    "migrate": "cardoon.cli.migrate:migrate",
    "multi": "cardoon.cli.multi:multi",
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
    "sandbox": "cardoon.cli.sandbox:sandbox",
    "schedule": "cardoon.cli.schedule:schedule",
    "shell": "cardoon.cli.shell:shell",
    "signer": "cardoon.cli.signer:signer",
    "status": "cardoon.cli.status:status",
    "syslog": "cardoon.cli.syslog:syslog",
    "upgrade": "cardoon.cli.upgrade:upgrade",
    "verify": "cardoon.cli.verify:verify",
    "why": "cardoon.cli.why:why",
    "worker": "cardoon.cli.worker:worker",
}
"""Where each command lives. Loading one must not cost the time of all."""

SUMMARIES: Mapping[str, str] = {
    "acl": "Print what gives a user of the broker's server the rights of a role.",
    "amqp": "Celery's shell for AMQP; says what to use here.",
    "audit": "The audit log: verify it, prove, follow and export records.",
    "beat": "Send periodic tasks.",
    "bridge": "Take messages from Celery's queues, and sign them.",
    "call": "Send a task by name, and wait for its result if asked to.",
    "cert": "Identities: make, sign, look at, renew and revoke them.",
    "completion": "Print what completes commands, tasks and queues in your shell.",
    "control": "Have workers do something: limits, queues, pool, shutdown.",
    "db": "Make, migrate and look at the tables of a PostgreSQL database.",
    "dead": "Dead letters: verified tasks that could not be completed.",
    "doctor": "Look for what would help an intruder, and say what mends it.",
    "events": "Watch workers and tasks, live; or print or photograph what they tell.",
    "firewall": "The rules of this host's firewall: print, load and check them.",
    "graph": "Draw where tasks go, who called whom, and what a worker is made of.",
    "health": "Ask a worker on this host whether it works; for probes.",
    "init": "Make identities and a starter project in a folder.",
    "inspect": "Ask workers: what runs, what they know, what they are.",
    "integrity": "Hold this host's files against a signed list of them.",
    "keys": "The keys that bodies are sealed to: make, rotate and retire them.",
    "limits": "Show whose limit holds messages back.",
    "list": "Show the bindings of queues that the settings declare.",
    "logtool": "Count and find things in the logs of workers.",
    "migrate": "Move the messages that wait to another broker.",
    "multi": "Start, stop and look at several workers of this host.",
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
    "sandbox": "What tasks may reach where they run.",
    "schedule": "Periodic tasks: list, add, change, pause and run them.",
    "shell": "Start Python with the app and its tasks at hand.",
    "signer": "Hold a key, and sign for other processes over a socket.",
    "status": "Show which workers are online.",
    "syslog": "Servers that audit records are sent to: try them, configure them.",
    "upgrade": "Rewrite a project that was written for Celery.",
    "verify": "Have the gate judge a captured message, check by check.",
    "why": "Say where a task is, and why it does not run.",
    "worker": "Start a worker.",
}


GONE: Mapping[str, str] = {
    "flower": "flower reads Celery's events, which nobody signs; `cardoon events` shows ours",
}
"""Commands that packages add to Celery's, each with what to do instead."""


class LazyGroup(click.Group):
    """Finds commands by name in `COMMANDS`, and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names of ours."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """The command of a name: ours, or one that another package has added."""
        target = COMMANDS.get(name)
        if target is None:
            from cardoon.cli.plugins import load_plugin  # noqa: PLC0415 - seldom wanted

            return load_plugin(name)
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words begin with; one that is not there is named with what is meant."""
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name):
            return super().resolve_command(ctx, args)
        import difflib  # noqa: PLC0415 - only for somebody who mistyped

        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        if name in GONE:
            hint = f"; {GONE[name]}"
        raise click.UsageError(f"No such command {name!r}{hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Names and options that begin so; imports no command either."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - in no other case

        found = [
            CompletionItem(name, help=SUMMARIES[name])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def _refuse_loader(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None and not ctx.resilient_parsing:
        raise click.UsageError(
            f"--loader {value}: there is one loader here; name the app with -A, and its settings with "
            "--config or app.config_from_object()",
            ctx,
        )


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`cardoon COMMAND --help` shows a command's options and an example. Exit codes: 0 done, 1 error, "
    "2 called wrongly, 69 nobody answered, 75 waited in vain; see docs/cli.md.",
)
@click.option("-A", "--app", metavar="MODULE[:NAME]", help="The app, as a module to import.")
@click.option(
    "-b",
    "--broker",
    metavar="URL",
    help="Where the messages are. A password here is visible to others; use env:NAME or file:PATH.",
)
@click.option("--result-backend", metavar="URL", help="Where the results are.")
@click.option(
    "--config",
    metavar="MODULE",
    help="Take settings from this module, too; they win over the app's.",
)
@click.option("--workdir", type=click.Path(exists=True, file_okay=False), help="Go there first.")
@click.option(
    "-C", "--no-color", is_flag=True, help="No colours, as with NO_COLOR in the environment."
)
@click.option("-q", "--quiet", is_flag=True, help="Say only what matters.")
@click.option("--skip-checks", is_flag=True, help="Skip Django's checks.")
@click.option("--loader", hidden=True, expose_value=False, callback=_refuse_loader)
@click.version_option(__version__, "--version", prog_name="cardoon", message="%(prog)s %(version)s")
@click.pass_context
def cardoon(
    ctx: click.Context,
    app: str | None,
    broker: str | None,
    result_backend: str | None,
    config: str | None,
    workdir: str | None,
    no_color: bool,  # noqa: FBT001  # click passes flags so
    quiet: bool,  # noqa: FBT001
    skip_checks: bool,  # noqa: FBT001
) -> None:
    """A task queue that trusts nobody.

    \b
    cardoon init                    make identities and a starter tasks.py
    cardoon -A tasks worker         run the tasks of tasks.py
    cardoon -A tasks call add -a '[1, 2]' --wait
    cardoon why ID                  where a task is, and why it does not run
    """  # noqa: D301  # \b keeps click from filling the lines
    if workdir:
        os.chdir(workdir)
    if skip_checks:
        os.environ["CELERY_SKIP_CHECKS"] = "true"  # read where Django is; not a setting of the app
    if no_color or os.environ.get("NO_COLOR"):
        ctx.color = False
    settings = {"broker_url": broker, "result_backend": result_backend}
    ctx.obj = Invocation(
        app,
        {name: value for name, value in settings.items() if value is not None},
        quiet=quiet,
        config=config,
    )


class Invocation:
    """What the global options say."""

    def __init__(
        self,
        app: str | None,
        settings: dict[str, Any],
        *,
        quiet: bool,
        config: str | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.quiet = quiet
        self.config = config


def main() -> None:
    """Entry point. Errors of ours are one line and an exit code of `Exit`; `-h` and usage are click's."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - pathlib takes a while
    try:
        cardoon(prog_name="cardoon")
    except CardoonError as error:
        traceback = getattr(error, "traceback", "")
        if traceback:
            click.echo(traceback, err=True)
        # Colours are in no context any more; `-C` was in the one that has ended.
        plain = bool({"-C", "--no-color"} & set(sys.argv[1:])) or bool(os.environ.get("NO_COLOR"))
        click.secho(f"error: {error}", fg="red", err=True, color=False if plain else None)
        sys.exit(_code_of(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.ERROR)


def _code_of(error: CardoonError) -> Exit:
    match error:
        case OperationalError():
            return Exit.UNAVAILABLE
        case WaitedInVain():
            return Exit.WAITED
        case DriftError():
            return Exit.DRIFTED
        case _:
            return Exit.ERROR
