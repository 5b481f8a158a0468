"""What the commands of `cardoon cert` have in common: folders, passwords, times, and the audit trail."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from cardoon.audit import AuditLog, find_log, keeping_of
from cardoon.certificates import find_certificates
from cardoon.cli.access import find_app, print_json, wants_json
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.config import Settings, find_state_directory
from cardoon.exceptions import SecurityError
from cardoon.security import files
from cardoon.security.authority import AUTHORITY, Authority, IdentityPaths, load_authority, paths_of
from cardoon.security.chains import Anchor
from cardoon.security.identity import parse_certificates
from cardoon.security.issuing import KeyKind

F = TypeVar("F", bound=Callable[..., Any])


class Decorate(Protocol):
    """An option of click's: it changes what a command is given, and not its type."""

    def __call__(self, function: F, /) -> F:
        """The command with the option."""
        ...


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_DURATION = re.compile(r"(\d{1,6})([smhdwy])")
_MOST_SECONDS = 100 * _UNITS["y"]


def read_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds of `90m`, `12h`, `7d`, `1y`; for the callback of an option."""
    if value is None:
        return None
    found = _DURATION.fullmatch(value)
    seconds = int(found.group(1)) * _UNITS[found.group(2)] if found else _MOST_SECONDS + 1
    if seconds > _MOST_SECONDS:
        raise click.BadParameter(
            f"{value!r}: write a number with s, m, h, d, w or y, such as 90d", ctx, param
        )
    return float(seconds)


def _check_source(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Where a password is. What is given by mistake, perhaps the password itself, is not repeated."""
    if value is None or value == "prompt" or value.startswith(("env:", "file:")):
        return value
    raise click.BadParameter(
        "say where the password is: prompt, env:NAME or file:PATH (others can see a command line)",
        ctx,
        param,
    )


def duration_option(name: str, *, default: str | None, help: str | None = None) -> Decorate:
    """An option that takes a time."""
    return click.option(
        name,
        default=default,
        show_default=default is not None,
        metavar="TIME",
        callback=read_duration,
        help=help,
    )


def password_option(name: str, what: str) -> Decorate:
    """An option that says where the password of a key is."""
    return click.option(
        name,
        metavar="WHERE",
        callback=_check_source,
        help=f"Password of {what}: prompt, env:NAME or file:PATH.",
    )


def lifetime_option(default: str) -> Decorate:
    """An option that says how long a certificate is good."""
    return duration_option("--lifetime", default=default, help="How long the certificate is good.")


directory_option = click.option(
    "-d",
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files are; by default the project's state directory.",
)
ca_option = click.option(
    "--ca",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the authority; by default the project's state directory.",
)
ca_password_option = password_option("--ca-password-from", "the authority's key")
password_from_option = password_option("--password-from", "the key")
key_type_option = click.option(
    "--key-type",
    type=click.Choice([kind.value for kind in KeyKind]),
    help="Of the new key; ed25519 by default.",
)


def read_password(source: str | None, what: str, *, is_new: bool = False) -> bytes | None:
    """Take a password from where an option says; None where it says nothing."""
    if source is None:
        return None
    if source == "prompt":
        return str(
            click.prompt(
                f"Password of {what}", hide_input=True, confirmation_prompt=is_new, err=True
            )
        ).encode()
    kind, _, where = source.partition(":")
    if kind == "env":
        found = os.environ.get(where, "").encode()
    else:
        found = files.load_secret(Path(where).expanduser()).rstrip(b"\r\n")
    if not found:
        raise SecurityError(f"password of {what}: {source} is empty; put it there, or use prompt")
    return found


def unlock(path: Path, source: str | None, option: str = "--password-from") -> bytes | None:
    """The password of a key in a file; `SecurityError` if it has one and the option says nothing."""
    if source is None and path.exists() and b"ENCRYPTED" in files.load_secret(path):
        raise SecurityError(
            f"{path}: is encrypted; add {option} with prompt, env:NAME or file:PATH"
        )
    return read_password(source, str(path))


class Place:
    """The project or the folder that a command works on."""

    def __init__(self, invocation: Invocation, directory: Path | None = None) -> None:
        self.settings: Settings = find_app(invocation).settings
        self.clock = SystemClock()
        self.state = find_state_directory(self.settings)
        self.directory = directory or self.state

    def open_authority(self, folder: Path | None, source: str | None) -> Authority:
        """The authority, with its key."""
        where = folder or self.directory
        return load_authority(
            where, unlock(paths_of(where, AUTHORITY).key, source, "--ca-password-from")
        )

    def find_paths(self, name: str, key: Path | None = None) -> IdentityPaths:
        """Where an identity lies that is given as a role, or as its certificate's file."""
        if name.endswith((".pem", ".crt", ".cer")) or os.sep in name:
            certificate = Path(name)
            return IdentityPaths(key or certificate.with_suffix(".key"), certificate)
        if key is not None:
            raise click.UsageError("--key: name the file of the certificate as well, not a role")
        return paths_of(self.directory, name)

    def load_anchors(self) -> list[Anchor]:
        """The authorities that the project trusts, as far as they can be read."""
        anchors = []
        for domain, path in find_certificates(self.settings).sources.anchors:
            try:
                read = parse_certificates(Path(path), files.load_guarded(Path(path)))
            except SecurityError:
                continue  # `cardoon cert list` says so
            anchors += [Anchor(domain, one) for one in read]
        return anchors

    def record(self, event: str, **fields: object) -> None:
        """Put what was done into the audit trail of the project, or of the folder."""
        path, keeping = find_log(self.settings, self.directory), keeping_of(self.settings)
        log = AuditLog(path, clock=self.clock, source="operator", keeping=keeping)
        log.record(f"certificate.{event}", **fields)
        log.close()


def print_facts(rows: Sequence[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    if wants_json():
        print_json({name: str(value) for name, value in rows})
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def moment(seconds: float) -> str:
    """A time for people and programs, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
