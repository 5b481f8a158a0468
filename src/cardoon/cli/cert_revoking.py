"""`cardoon cert revoke`, `restore` and `crl`: whom nobody is to believe any more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
from cryptography import x509

from cardoon.certificates import DENY_LIST, REVOCATION_LIST, find_revoked
from cardoon.cli.access import answer, answer_option, printable, wants_json
from cardoon.cli.cert_options import (
    Place,
    ca_option,
    ca_password_option,
    directory_option,
    duration_option,
    moment,
    print_facts,
)
from cardoon.cli.main import Invocation
from cardoon.exceptions import SecurityError
from cardoon.security import files
from cardoon.security.authority import ISSUED, Authority, paths_of
from cardoon.security.identity import identify, is_spiffe_id, load_certificate, parse_certificates
from cardoon.security.renewing import is_signed_by
from cardoon.security.revoking import deny, sign_list, write_entry
from cardoon.security.revoking import restore as take_off

_FINGERPRINT = re.compile(r"sha256:([0-9a-fA-F]{64})")

who_argument = click.argument("who", nargs=-1, required=True)
file_option = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The deny-list; by default the one that the settings name, or the project's.",
)
reason_option = click.option("--reason", required=True, help="Why; it is kept in the list.")
list_lifetime_option = duration_option(
    "--lifetime",
    default="30d",
    help="Until when the list is good; afterwards its authority's members are refused.",
)


class Revoked(NamedTuple):
    """Somebody who was named on the command line."""

    who: bytes | str
    """Fingerprint or SPIFFE id."""
    name: str
    certificate: x509.Certificate | None


@click.command()
@who_argument
@reason_option
@file_option
@directory_option
@click.option("--crl", "with_crl", is_flag=True, help="Sign the authority's revocation list, too.")
@ca_option
@list_lifetime_option
@ca_password_option
@answer_option
@click.pass_obj
def revoke(
    invocation: Invocation,
    who: tuple[str, ...],
    reason: str,
    path: Path | None,
    directory: Path | None,
    with_crl: bool,  # noqa: FBT001  # click passes flags so
    ca: Path | None,
    lifetime: float,
    ca_password_from: str | None,
) -> None:
    """Trust WHO no more: a role, a certificate's file, sha256:FINGERPRINT, or a SPIFFE id.

    A SPIFFE id bars every certificate of that name, those to come as well. Workers that read the list
    refuse it within five seconds, whatever was sent before included.
    """
    place = Place(invocation, directory)
    named = [_find(place, one) for one in who]
    _refuse_anchors(place, named)
    authority = place.open_authority(ca, ca_password_from) if with_crl else None
    serials = _find_serials(authority, named) if authority is not None else set()
    listed = path or _find_deny_list(place)
    told = []
    for one in named:
        is_new = deny(listed, one.who, clock=place.clock, reason=reason)
        said = "revoked" if is_new else "was revoked already"
        told.append({"who": write_entry(one.who), "name": one.name, "new": is_new})
        _echo(f"{write_entry(one.who)} ({printable(one.name)}): {said}, in {listed}")
        if is_new:
            place.record("revoked", who=write_entry(one.who), name=one.name, reason=reason)
    answer({"list": str(listed), "revoked": told}, "")
    if authority is not None:
        _sign(place, authority, serials, lifetime, is_aside=True)
    _warn_if_unread(place, listed)


@click.command()
@who_argument
@reason_option
@file_option
@directory_option
@answer_option
@click.pass_obj
def restore(
    invocation: Invocation,
    who: tuple[str, ...],
    reason: str,
    path: Path | None,
    directory: Path | None,
) -> None:
    """Take WHO off the deny-list. What an authority has revoked in its own list stays revoked."""
    place = Place(invocation, directory)
    listed = path or _find_deny_list(place)
    told = []
    for one in [_find(place, each) for each in who]:
        if not take_off(listed, one.who, clock=place.clock, reason=reason):
            raise SecurityError(
                f"{write_entry(one.who)}: not in {listed}; nothing was changed for it"
            )
        place.record("restored", who=write_entry(one.who), name=one.name, reason=reason)
        told.append({"who": write_entry(one.who), "name": one.name})
        _echo(f"{write_entry(one.who)} ({printable(one.name)}): trusted again, by {listed}")
    answer({"list": str(listed), "restored": told}, "")


@click.command()
@ca_option
@list_lifetime_option
@ca_password_option
@answer_option
@click.pass_obj
def crl(
    invocation: Invocation, ca: Path | None, lifetime: float, ca_password_from: str | None
) -> None:
    """Sign the authority's revocation list anew, before it runs out: ca.crl beside its key."""
    place = Place(invocation, ca)
    _sign(place, place.open_authority(None, ca_password_from), set(), lifetime)


def _echo(text: str) -> None:
    """Tell people at once, for what comes behind may fail."""
    if not wants_json():
        click.echo(text)


def _sign(
    place: Place,
    authority: Authority,
    serials: set[int],
    lifetime: float,
    *,
    is_aside: bool = False,
) -> None:
    path = authority.folder / REVOCATION_LIST
    added = sign_list(authority, path, serials, clock=place.clock, lifetime=lifetime)
    signed = x509.load_pem_x509_crl(path.read_bytes())
    assert signed.next_update_utc is not None
    ends = moment(signed.next_update_utc.timestamp())
    place.record("list_signed", path=path, entries=len(signed), added=added)
    if is_aside and wants_json():
        return  # the answer, what was revoked, is told
    print_facts([("list", path), ("entries", f"{len(signed)}, {added} new"), ("until", ends)])


def _find(place: Place, text: str) -> Revoked:
    fingerprint = _FINGERPRINT.fullmatch(text)
    if fingerprint:
        return Revoked(bytes.fromhex(fingerprint.group(1)), text[:23], None)
    if is_spiffe_id(text):
        return Revoked(text, text, None)
    path = Path(text)
    if not path.is_file():
        path = paths_of(place.directory, text).certificate
    if not path.is_file():
        raise SecurityError(
            f"{text!r}: neither a role here, a certificate's file, sha256:FINGERPRINT nor a SPIFFE id"
        )
    certificate = parse_certificates(path, files.load_guarded(path))[0]
    identity = identify(certificate)
    return Revoked(identity.fingerprint, identity.name, certificate)


def _refuse_anchors(place: Place, named: list[Revoked]) -> None:
    """To deny an authority by its fingerprint would change nothing for those it vouches for."""
    anchors = {identify(one.certificate).fingerprint for one in place.load_anchors()}
    for one in named:
        if one.who in anchors:
            raise SecurityError(
                f"{printable(one.name)}: an authority; take it out of security_ca_certificates instead"
            )


def _find_serials(authority: Authority, named: list[Revoked]) -> set[int]:
    """What a revocation list calls them; of some we know it only from the copies of what was signed."""
    issued = list(_read_issued(authority))
    serials = set()
    for one in named:
        known = [one.certificate] if one.certificate is not None else issued
        found = [
            each
            for each in known
            if is_signed_by(each, authority.certificate)
            and one.who in {identify(each).fingerprint, identify(each).name}
        ]
        if not found:
            raise SecurityError(
                f"{printable(one.name)}: not signed by this authority, or no copy in "
                f"{authority.folder / ISSUED}; leave --crl out, and the deny-list does it"
            )
        serials |= {each.serial_number for each in found}
    return serials


def _read_issued(authority: Authority) -> Iterator[x509.Certificate]:
    for path in sorted((authority.folder / ISSUED).glob("*.pem")):
        yield load_certificate(path)


def _find_deny_list(place: Place) -> Path:
    """The first list that the settings name and that is no authority's, or the project's own."""
    if place.directory == place.state:
        for name in place.settings.security_revoked:
            path = Path(name)
            if not path.exists() or b"X509 CRL" not in files.load_guarded(path, max_bytes=1 << 24):
                return path
    return place.directory / DENY_LIST


def _warn_if_unread(place: Place, path: Path) -> None:
    read, _ = find_revoked(place.settings)
    if path.absolute() not in {Path(one).absolute() for one in read}:
        click.secho(
            f"note: the settings of this project do not name {path}; whoever is to refuse them must "
            "have it in security_revoked",
            fg="yellow",
            err=True,
        )
