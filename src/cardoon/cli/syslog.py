"""`cardoon syslog`: tries the servers, and writes what those who collect events need."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cardoon.cli.access import answer, answer_option, find_app, json_option, print_json
from cardoon.cli.codes import Exit
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.exceptions import ImproperlyConfigured
from cardoon.syslog.receivers import make_receivers
from cardoon.syslog.service import Syslog


@click.group()
def syslog() -> None:
    """Servers that audit records are sent to."""


@syslog.command()
@click.option(
    "--address",
    "addresses",
    metavar="URL",
    multiple=True,
    help="Where to send, in place of syslog_address.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the servers.",
)
@json_option
@click.pass_obj
def test(
    invocation: Invocation,
    addresses: tuple[str, ...],
    timeout: float,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Send the event `syslog.test` to each server, and say whether it was read.

    Over TCP and TLS the server is asked to hang up, which it does when it has read all. Over UDP, and to a
    local socket, it is only known that it was sent.

    Exit codes: 0 all have read it; 69 some have not.
    """
    if addresses:
        invocation.settings["syslog_address"] = addresses
    settings = find_app(invocation).settings
    if not settings.syslog_address:
        raise ImproperlyConfigured("syslog_address names no server; set it, or give --address URL")
    tried = Syslog(settings, clock=SystemClock()).try_out(timeout)
    if as_json:
        print_json([{"server": one.server, "failure": one.failure or None} for one in tried])
    else:
        for one in tried:
            said = "sent; nobody tells whether it came" if one.is_one_way else "read"
            click.echo(f"{one.server}: {one.failure or said}")
    sys.exit(Exit.UNAVAILABLE if any(one.failure for one in tried) else Exit.OK)


@syslog.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@answer_option
def receivers(folder: Path) -> None:
    """Write configurations of rsyslog and syslog-ng, and rules for Wazuh and Sigma, into a folder.

    They are made from the catalogue of events of this version.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = make_receivers()
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise ImproperlyConfigured(f"{folder}: {error.strerror}; name another folder") from error
    paths = [str(folder / name) for name in files]
    answer({"files": paths}, "\n".join(paths))
