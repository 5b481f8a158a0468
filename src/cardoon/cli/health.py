"""`cardoon health`: asks a worker on this host whether it works, for probes that have no curl."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from typing import Any

import click

from cardoon.config import follow
from cardoon.status_address import Address, parse_address

DEFAULT = "127.0.0.1:9464"
_MOST = 1 << 20
"""Bytes of an answer that are read."""


@click.command()
@click.option(
    "--address",
    envvar="CARDOON_WORKER_METRICS_ADDRESS",
    default=DEFAULT,
    show_default=True,
    metavar="HOST:PORT|unix:PATH",
    help="Where the worker serves health: its worker_metrics_address.",
)
@click.option(
    "--live", is_flag=True, help="Ask whether it should be restarted, not whether it is ready."
)
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the answer.")
@click.option(
    "--token",
    envvar="CARDOON_WORKER_METRICS_TOKEN",
    default="",
    metavar="env:NAME|file:PATH",
    help="The worker_metrics_token, to be told reasons where one is set.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the worker's whole answer.")
def health(address: str, live: bool, timeout: float, token: str, as_json: bool) -> None:  # noqa: FBT001
    """Ask a worker whether it works.

    Ready: tasks run here; the stores answer, leases are renewed, processes are there. With --live: nothing
    hangs that a restart would mend.

    Exit codes: 0 it is so; 1 it is not, or nobody answers; 2 the command is wrong.
    """
    try:
        place = parse_address(address)
    except ValueError as error:
        raise click.BadParameter(f"{address!r} {error}", param_hint="--address") from None
    secret = follow(token, name="--token") if token else ""
    try:
        status, told = _ask(place, "/livez" if live else "/readyz", timeout=timeout, token=secret)
    except (OSError, http.client.HTTPException, ValueError) as error:
        status, told = 0, {"status": "unreachable", "reasons": [f"{address}: {_say(error)}"]}
    is_good = status == 200
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        reasons = [str(one) for one in told.get("reasons", ())]
        click.echo("ok" if is_good else "\n".join([str(told.get("status", "failing")), *reasons]))
    sys.exit(0 if is_good else 1)


def _ask(place: Address, path: str, *, timeout: float, token: str) -> tuple[int, dict[str, Any]]:
    line = _Line(place, timeout)
    try:
        line.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = line.getresponse()
        told = json.loads(answer.read(_MOST))
    finally:
        line.close()
    if not isinstance(told, dict):
        raise ValueError("it answers something else than health")  # noqa: TRY004  # as bad JSON does
    return answer.status, told


class _Line(http.client.HTTPConnection):
    """HTTP over whatever the address names."""

    def __init__(self, place: Address, timeout: float) -> None:
        super().__init__(place.host or "localhost", place.port or None, timeout=timeout)
        self._place = place

    def connect(self) -> None:
        """Connect to the port or the socket."""
        if not self._place.path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._place.path)


def _say(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, json.JSONDecodeError):
        return "it answers something else than health"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
