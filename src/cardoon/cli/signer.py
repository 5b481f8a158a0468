"""`cardoon signer`: a process that holds a key, so that those who send need not."""

from __future__ import annotations

import dataclasses
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from cardoon.audit import AuditLog
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.config import Settings, follow
from cardoon.exceptions import ImproperlyConfigured
from cardoon.log import LEVELS, log_formats, setup_logging
from cardoon.security.identity import PrivateIdentity, load_identity
from cardoon.security.renewal import IdentityEvent, OwnIdentity
from cardoon.signers.agent import Agent
from cardoon.signers.server import Server
from cardoon.worker.host import protect_memory

logger = logging.getLogger(__name__)


@click.command()
@click.option(
    "--key",
    required=True,
    help="The private key: a PEM file, or pkcs11:token=NAME;object=LABEL?module-path=FILE.",
)
@click.option("--certificate", required=True, help="Its certificate, a PEM file.")
@click.option(
    "--socket",
    "path",
    required=True,
    help="Where to listen; senders have unix:PATH in security_key.",
)
@click.option(
    "--domain", default="default", show_default=True, help="The senders' security_domain."
)
@click.option("--password", help="Of the key, or the PIN of its token: env:NAME or file:PATH.")
@click.option(
    "--digest",
    default="sha256",
    show_default=True,
    help="The senders' security_digest, where the key is RSA.",
)
@click.option(
    "--allow",
    "users",
    multiple=True,
    metavar="USER",
    help="Whose processes may have messages signed, in place of ours; a name or a number.",
)
@click.option("--audit-log", help="Write there what was refused, and new keys.")
@click.option(
    "-l",
    "--loglevel",
    default="info",
    show_default=True,
    type=click.Choice(list(LEVELS), case_sensitive=False),
    help="The least level that is logged.",
)
@click.pass_obj
def signer(
    invocation: Invocation,
    key: str,
    certificate: str,
    path: str,
    domain: str,
    password: str | None,
    digest: str,
    users: tuple[str, ...],
    audit_log: str | None,
    loglevel: str,
) -> None:
    """Hold a key, and sign for other processes what are messages of one domain by its certificate.

    A web process that asks here never has the key. Key and certificate are read again when they have been
    renewed. Stop it with Ctrl-C or SIGTERM; senders wait some seconds for it to come back.
    """
    clock = SystemClock()
    allowed = [_find_user(one) for one in users] or [os.geteuid()]
    load, paths = _find_key(key, Path(certificate).expanduser(), password, domain, digest)
    setup_logging(level=loglevel, logfile=None, **log_formats(dataclasses.asdict(Settings())))
    protect_memory()
    audit = AuditLog(Path(audit_log) if audit_log else None, clock=clock, source="signer")
    own = OwnIdentity(load, paths, clock=clock, on_event=partial(_report_identity, audit))
    server = Server(
        Path(path).absolute(),
        Agent(own, domain=domain, clock=clock).answer,
        users=allowed,
        on_refusal=partial(_report_refusal, audit),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    audit.record("signer.start", identity=own.current().identity, socket=path, domain=domain)
    if not invocation.quiet:
        click.echo(f"signer {own.current().identity}: unix:{server.path}")
        sys.stdout.flush()
    server.run()
    audit.record("signer.stop")
    audit.close()


def _find_key(
    key: str, certificate: Path, password: str | None, domain: str, digest: str
) -> tuple[Callable[[], PrivateIdentity], tuple[Path, ...]]:
    """How the identity is read, and the files that may be renewed."""
    secret = None if password is None else _follow_password(password)
    if key.startswith("pkcs11:"):
        from cardoon.signers.token import Token, parse_uri  # noqa: PLC0415 - load what is chosen

        token = Token(parse_uri(key), secret)
        return partial(token.load_identity, certificate, domain=domain, digest=digest), (
            certificate,
        )
    path = Path(key).expanduser()
    load = partial(load_identity, path, certificate, password=secret, digest=digest)
    return load, (path, certificate)


def _follow_password(password: str) -> str:
    if not password.startswith(("env:", "file:")):
        raise ImproperlyConfigured(
            "--password: every user can read command lines; give env:NAME or file:PATH"
        )
    return follow(password, name="--password")


def _find_user(user: str) -> int:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise ImproperlyConfigured(f"--allow {user}: there is no such user on this host") from error


def _report_identity(audit: AuditLog, event: IdentityEvent, detail: str) -> None:
    level = logging.INFO if event is IdentityEvent.RELOADED else logging.WARNING
    logger.log(level, "identity: %s: %s", event, detail)
    audit.record(f"identity.{event}", detail=detail)


def _report_refusal(audit: AuditLog, why: str) -> None:
    logger.warning("refused: %s", why)
    audit.record("signer.refused", detail=why)
