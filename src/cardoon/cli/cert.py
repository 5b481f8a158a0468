"""`cardoon cert`: an authority, identities, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import click
from cryptography import x509

from cardoon.cli.access import answer_option, printable, wants_json
from cardoon.cli.cert_looking import check, list_, show
from cardoon.cli.cert_options import (
    Place,
    ca_option,
    ca_password_option,
    directory_option,
    key_type_option,
    lifetime_option,
    moment,
    password_from_option,
    print_facts,
    read_password,
    unlock,
)
from cardoon.cli.cert_replacing import import_, renew
from cardoon.cli.cert_revoking import crl, restore, revoke
from cardoon.cli.main import Invocation
from cardoon.exceptions import SecurityError
from cardoon.security import files, issuing, placing
from cardoon.security.authority import (
    AUTHORITY,
    TRUSTED,
    IdentityPaths,
    create_authority,
    issue_identity,
    paths_of,
)
from cardoon.security.identity import identify, load_certificate, load_key
from cardoon.security.issuing import KeyKind, Subject
from cardoon.security.keys import PublicKey
from cardoon.security.renewing import add_trusted, next_paths


@click.group()
def cert() -> None:
    """Identities: make, sign, look at, renew and revoke them."""


@cert.command()
@directory_option
@click.option("--domain", required=True, help="Trust domain, such as acme.example.")
@click.option("--name", default="", help="For its subject; made of the trust domain by default.")
@lifetime_option("10y")
@password_from_option
@answer_option
@click.pass_obj
def init(
    invocation: Invocation,
    directory: Path | None,
    domain: str,
    name: str,
    lifetime: float,
    password_from: str | None,
) -> None:
    """Make an authority, unless there is one: ca.key and ca.pem.

    Its key signs identities. Keep it off the hosts that send and run tasks.
    """
    place = Place(invocation, directory)
    existed = paths_of(place.directory, AUTHORITY).key.exists()
    password = (
        unlock(paths_of(place.directory, AUTHORITY).key, password_from)
        if existed
        else read_password(password_from, "the authority's key", is_new=True)
    )
    paths = create_authority(
        place.directory,
        domain,
        clock=place.clock,
        lifetime=lifetime,
        name=name,
        password=password,
    )
    identity = identify(load_certificate(paths.certificate))
    if not existed:
        place.record("authority_made", name=identity.name, fingerprint=identity.fingerprint.hex())
    print_facts(
        [
            ("authority", f"spiffe://{domain}{' (kept)' if existed else ''}"),
            ("certificate", paths.certificate),
            ("key", f"{paths.key}{'' if password else ' (not encrypted: see --password-from)'}"),
            ("fingerprint", f"sha256:{identity.fingerprint.hex()}"),
            ("until", moment(identity.not_after)),
        ]
    )


@cert.command()
@click.argument("name")
@ca_option
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files go; by default beside the authority's.",
)
@click.option("--csr", type=click.Path(dir_okay=False, path_type=Path), help="A request to sign.")
@click.option(
    "--public-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A key to certify, in PEM.",
)
@key_type_option
@lifetime_option("1y")
@click.option("--no-spiffe-id", is_flag=True, help="Name it by its subject only.")
@click.option("--trust", is_flag=True, help="Pin it in the folder `trusted` beside the authority.")
@ca_password_option
@password_from_option
@answer_option
@click.pass_obj
def issue(
    invocation: Invocation,
    name: str,
    ca: Path | None,
    output: Path | None,
    csr: Path | None,
    public_key: Path | None,
    key_type: str | None,
    lifetime: float,
    no_spiffe_id: bool,  # noqa: FBT001  # click passes flags so
    trust: bool,  # noqa: FBT001
    ca_password_from: str | None,
    password_from: str | None,
) -> None:
    """Have the authority certify NAME: a role such as `web`, or a SPIFFE id of its trust domain.

    A key is made for it, unless the host that will use it has made one: then give the request of
    `cardoon cert request`, and the key never travels.
    """
    if csr and public_key:
        raise click.UsageError("give --csr or --public-key, not both")
    if (csr or public_key) and (key_type or password_from):
        raise click.UsageError("--key-type and --password-from are for a key that is made here")
    place = Place(invocation, ca)
    authority = place.open_authority(None, ca_password_from)
    subject = issuing.parse_subject(name, None if no_spiffe_id else authority.trust_domain)
    paths = paths_of(output or place.directory, subject.stem)
    if paths.certificate.exists():
        raise SecurityError(
            f"{paths.certificate}: exists; renew it with `cardoon cert renew`, or choose --output"
        )
    if csr or public_key:
        key = _read_key(csr, public_key, subject)
        signed = authority.certify(subject, key, clock=place.clock, lifetime=lifetime)
        _write(paths.certificate, signed)
    else:
        issue_identity(
            authority,
            subject,
            paths.certificate.parent,
            clock=place.clock,
            lifetime=lifetime,
            kind=KeyKind(key_type or KeyKind.ED25519),
            password=read_password(password_from, "the new key", is_new=True),
        )
    rows = _tell_issued(place, paths, is_proven=public_key is None)
    if trust:
        pinned = place.directory / TRUSTED
        placing.make_folder(pinned)
        encoded = load_certificate(paths.certificate).public_bytes(issuing.DER)
        rows.append(("pinned", add_trusted(pinned, paths, encoded)))
    print_facts(rows)


@cert.command()
@click.argument("name")
@directory_option
@click.option("--domain", help="Trust domain, where NAME is a role.")
@key_type_option
@password_from_option
@answer_option
@click.pass_obj
def request(
    invocation: Invocation,
    name: str,
    directory: Path | None,
    domain: str | None,
    key_type: str | None,
    password_from: str | None,
) -> None:
    """Make a key for NAME here, and a request that an authority elsewhere can sign.

    Where NAME has a certificate already, the key is the next one, and replaces the present one when
    `cardoon cert import` brings the answer.
    """
    place = Place(invocation, directory)
    subject = issuing.parse_subject(name, domain)
    paths = paths_of(place.directory, subject.stem)
    if paths.certificate.exists():
        paths = next_paths(paths)
    answer = place.directory / f"{subject.stem}.csr"
    with placing.failing_as_security_error(place.directory):
        placing.make_folder(place.directory)
        if paths.key.exists():
            password = unlock(paths.key, password_from)
        else:
            password = read_password(password_from, "the new key", is_new=True)
            made = issuing.generate_key(KeyKind(key_type or KeyKind.ED25519))
            placing.create(paths.key, issuing.encode_key(made, password), mode=placing.SECRET)
        key = load_key(paths.key, password)
        placing.replace(answer, issuing.make_request(key, subject), mode=placing.PUBLIC)
    print_facts([("request", answer), ("key", paths.key)])
    if not (invocation.quiet or wants_json()):
        click.echo(
            f"\nnext:\n  where the authority is: cardoon cert issue {subject.uri or name} --csr "
            f"{answer.name} --output .\n  here:                   cardoon cert import "
            f"{subject.stem}.pem --name {subject.stem}"
        )


def _read_key(csr: Path | None, public_key: Path | None, subject: Subject) -> PublicKey:
    """The key of somebody else, of which a request proves that they hold it."""
    if csr is not None:
        return issuing.read_request(str(csr), files.load_guarded(csr), subject)
    assert public_key is not None
    return issuing.read_public_key(str(public_key), files.load_guarded(public_key))


def _write(path: Path, certificate: x509.Certificate) -> None:
    with placing.failing_as_security_error(path.parent):
        placing.make_folder(path.parent)
        placing.create(path, issuing.encode_certificate(certificate), mode=placing.PUBLIC)


def _tell_issued(
    place: Place, paths: IdentityPaths, *, is_proven: bool
) -> list[tuple[str, object]]:
    """Record what was issued; returns what to say of it."""
    identity = identify(load_certificate(paths.certificate))
    fingerprint = identity.fingerprint.hex()
    place.record("issued", name=identity.name, fingerprint=fingerprint, proven=is_proven)
    rows: list[tuple[str, object]] = [
        ("name", printable(identity.name)),
        ("certificate", paths.certificate),
        ("fingerprint", f"sha256:{fingerprint}"),
        ("until", moment(identity.not_after)),
    ]
    if paths.key.exists():
        rows.append(("key", paths.key))
    if not is_proven:
        rows.append(("note", "nobody has proven to hold this key; --csr proves it"))
    return rows


for _command in (renew, import_, revoke, restore, crl, show, list_, check):
    cert.add_command(_command)
