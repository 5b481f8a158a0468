"""`cardoon verify`: explain a captured message."""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from typing import BinaryIO

import click

from cardoon.cli.access import find_app, json_option, print_json, printable
from cardoon.cli.judging import Found, Judge, describe_judgement, print_judgement
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.message.protocol import Kind

MAX_FILE_BYTES = 256 * 2**20
"""Of a file that is read: base64 of the largest message that any broker carries."""

ACCEPTED, REFUSED, NO_MESSAGE = 0, 1, 2
"""Exit codes."""

_KINDS = {
    "task": Kind.TASK,
    "result": Kind.RESULT,
    "event": Kind.EVENT,
    "control": Kind.CONTROL,
    "reply": Kind.CONTROL_REPLY,
}
_HEX = re.compile(rb"(?:\\x|0x)?(?:[0-9a-fA-F]{2})+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{4,}={0,2}")


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--kind", type=click.Choice(list(_KINDS)), default="task", show_default=True, help="What it is."
)
@click.option("--queue", default="", help="Where it was found; any by default.")
@click.option("--id", "id_", metavar="ID", help="The id under which it was found.")
@click.option("--domain", multiple=True, help="Try this security domain as well.")
@click.option("--no-policy", is_flag=True, help="Leave security_policy aside.")
@click.option("--body", is_flag=True, help="Show the body, if the signature is right.")
@json_option
@click.pass_obj
def verify(
    invocation: Invocation,
    /,
    file: BinaryIO,
    kind: str,
    queue: str,
    id_: str | None,
    domain: tuple[str, ...],
    no_policy: bool,  # noqa: FBT001
    body: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Have the gate of this project judge the message in FILE (`-` for stdin), check by check.

    FILE holds it as it is, in hexadecimal digits, in base64, or in the JSON of `cardoon quarantine show
    --json`. Whether it was carried out before is not looked at. Exits with 0 if it is accepted, with 1 if it
    is refused, and with 2 if it is no message at all.
    """
    content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise click.ClickException(
            f"verify: {file.name} is larger than any message, {MAX_FILE_BYTES} bytes; give one alone"
        )
    found = Found(queue=queue, id=id_, kind=_KINDS[kind])
    settings = find_app(invocation).settings
    judge = Judge(settings, clock=SystemClock(), with_policy=not no_policy, domains=domain)
    judgement = judge.judge(read_frame(content), found)
    shown = judge.show_body(judgement) if body else ""
    if as_json:
        told = describe_judgement(judgement)
        print_json({**told, "body": shown} if body else told)
    else:
        print_judgement(judgement)
        if body:
            click.echo(f"body: {printable(shown)}")
    if judgement.accepted:
        sys.exit(ACCEPTED)
    sys.exit(REFUSED if judgement.explanation.is_message else NO_MESSAGE)


def read_frame(content: bytes) -> bytes:
    """The message in a file: as it is, or as text that stands for it.

    No message is all of hexadecimal digits or of base64: its claims hold a digest and small numbers.
    """
    text = b"".join(content.split())
    if text[:1] == b"{":
        text = _frame_of_json(content) or text
    if _HEX.fullmatch(text):
        return bytes.fromhex(text.decode().removeprefix("\\x").removeprefix("0x"))
    if _BASE64.fullmatch(text) and len(text) % 4 == 0:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            return content
    return content


def _frame_of_json(content: bytes) -> bytes:
    """The digits of `frame` in an object; nothing if there are none."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return b""
    frame = told.get("frame") if isinstance(told, dict) else None
    return frame.encode() if isinstance(frame, str) else b""
