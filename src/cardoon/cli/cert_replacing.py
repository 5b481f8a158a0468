"""`cardoon cert renew` and `import`: a new key and certificate in place of old ones."""

from __future__ import annotations

from pathlib import Path

import click

from cardoon.certificates import DENY_LIST
from cardoon.cli.access import answer_option, printable, wants_json
from cardoon.cli.cert_options import (
    Place,
    ca_option,
    ca_password_option,
    directory_option,
    duration_option,
    key_type_option,
    lifetime_option,
    moment,
    password_from_option,
    password_option,
    print_facts,
    read_password,
    unlock,
)
from cardoon.cli.main import Invocation
from cardoon.exceptions import SecurityError
from cardoon.security import files
from cardoon.security.authority import (
    AUTHORITY,
    TRUSTED,
    Authority,
    IdentityPaths,
    paths_of,
)
from cardoon.security.identity import Identity, identify, parse_certificates
from cardoon.security.importing import import_identity, read_bundle
from cardoon.security.issuing import KeyKind, check_role
from cardoon.security.renewing import activate, prepare
from cardoon.security.revoking import deny


@click.command()
@click.argument("name")
@directory_option
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Where the key is.")
@ca_option
@lifetime_option("1y")
@duration_option(
    "--overlap",
    default=None,
    help="How long the old certificate stays trusted; by default as long as it says itself.",
)
@click.option("--prepare", "only_prepare", is_flag=True, help="Make the new pair, and stop there.")
@click.option("--activate", "only_activate", is_flag=True, help="Use the pair that was prepared.")
@key_type_option
@ca_password_option
@password_from_option
@answer_option
@click.pass_obj
def renew(
    invocation: Invocation,
    name: str,
    directory: Path | None,
    key: Path | None,
    ca: Path | None,
    lifetime: float,
    overlap: float | None,
    only_prepare: bool,  # noqa: FBT001  # click passes flags so
    only_activate: bool,  # noqa: FBT001
    key_type: str | None,
    ca_password_from: str | None,
    password_from: str | None,
) -> None:
    """Give NAME (a role, or the file of its certificate) a new key and a new certificate.

    The old certificate stays trusted. Where receivers on other hosts pin certificates, do it in two
    steps: --prepare, copy the new certificate to them, --activate.
    """
    if only_prepare and (only_activate or overlap is not None):
        raise click.UsageError("--prepare goes neither with --activate nor with --overlap")
    place = Place(invocation, directory)
    paths = place.find_paths(name, key)
    place.directory = directory or paths.certificate.parent
    password = unlock(paths.key, password_from)
    old = _identify(paths.certificate)
    new, pinned = old, None
    if not only_activate:
        _, new, pinned = prepare(
            paths,
            clock=place.clock,
            lifetime=lifetime,
            authority=_find_authority(place, ca, ca_password_from),
            trusted=place.directory / TRUSTED,
            kind=KeyKind(key_type) if key_type else None,
            password=password,
        )
    if not only_prepare:
        new = activate(paths, password=password)
    denied = None
    if not only_prepare and new.fingerprint != old.fingerprint:
        denied = _note_change(place, old, new, overlap)
    _print_change(old, new, pinned, denied)
    if not (invocation.quiet or wants_json()):
        click.echo(_advise(paths, pinned, denied, is_prepared=only_prepare, name=name))


@click.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="Role; the files are called <role>.key and <role>.pem.")
@directory_option
@click.option("--decrypt", is_flag=True, help="Write a key that was encrypted without encryption.")
@click.option("--trust", is_flag=True, help="Pin it in the folder `trusted`, if there is one.")
@password_option("--password-from", "the key that is given, or of the one that is there")
@answer_option
@click.pass_obj
def import_(
    invocation: Invocation,
    sources: tuple[Path, ...],
    name: str,
    directory: Path | None,
    decrypt: bool,  # noqa: FBT001  # click passes flags so
    trust: bool,  # noqa: FBT001
    password_from: str | None,
) -> None:
    """Take in a key and its certificates: PEM, DER or PKCS#12, in one file or several.

    With a certificate alone, the key is the one that `cardoon cert request` made. A key that was
    encrypted stays so, with the same password.
    """
    check_role(name)
    if name == AUTHORITY:
        raise SecurityError(
            f"role {AUTHORITY!r}: that is the authority itself; choose another name"
        )
    place = Place(invocation, directory)
    password = read_password(password_from, "the key")
    bundle = read_bundle(sources, password)
    taken = import_identity(
        bundle,
        paths_of(place.directory, name),
        clock=place.clock,
        password=password,
        key_password=password if bundle.was_encrypted and not decrypt else None,
        trusted=place.directory / TRUSTED if trust else None,
    )
    identity = taken.identity
    place.record("imported", name=identity.name, fingerprint=identity.fingerprint.hex())
    rows: list[tuple[str, object]] = [
        ("name", printable(identity.name)),
        ("certificate", taken.paths.certificate),
        ("key", taken.paths.key),
        ("fingerprint", f"sha256:{identity.fingerprint.hex()}"),
        ("until", moment(identity.not_after)),
    ]
    if taken.trusted is not None:
        rows.append(("pinned", taken.trusted))
    if taken.remark:
        rows.append(("note", taken.remark))
    print_facts(rows)


def _find_authority(place: Place, ca: Path | None, source: str | None) -> Authority | None:
    """The authority that was named, or one that lies there; None where there is none."""
    folder = ca or place.directory
    if ca is None and not paths_of(folder, AUTHORITY).key.exists():
        return None
    return place.open_authority(folder, source)


def _identify(path: Path) -> Identity:
    return identify(parse_certificates(path, files.load_guarded(path))[0])


def _note_change(place: Place, old: Identity, new: Identity, overlap: float | None) -> Path | None:
    """Record it; and have the old certificate trusted no longer than the overlap, if there is one."""
    fingerprint = old.fingerprint.hex()
    place.record("renewed", name=new.name, fingerprint=new.fingerprint.hex(), old=fingerprint)
    if overlap is None:
        return None
    path = place.directory / DENY_LIST
    until = place.clock.now() + overlap
    reason = f"replaced by sha256:{new.fingerprint.hex()}"
    deny(path, old.fingerprint, clock=place.clock, reason=reason, moment=until)
    place.record("revoked", fingerprint=fingerprint, reason=reason, since=moment(until))
    return path


def _print_change(old: Identity, new: Identity, pinned: Path | None, denied: Path | None) -> None:
    rows: list[tuple[str, object]] = [
        ("name", printable(new.name)),
        ("new", f"sha256:{new.fingerprint.hex()}, until {moment(new.not_after)}"),
        ("old", f"sha256:{old.fingerprint.hex()}, until {moment(old.not_after)}"),
    ]
    if pinned is not None:
        rows.append(("pinned", pinned))
    if denied is not None:
        rows.append(("retired", f"the old one, by {denied}"))
    print_facts(rows)


def _advise(
    paths: IdentityPaths,
    pinned: Path | None,
    denied: Path | None,
    *,
    is_prepared: bool,
    name: str,
) -> str:
    """What is to be done where the files of this folder are not."""
    lines = ["", "on other hosts:"]
    copied = pinned or paths.certificate
    when = "now, before --activate" if is_prepared else "at once, unless they have it"
    lines.append(f"  pinned: copy {copied} into security_cert_store, {when}")
    lines.append("  trusted by the authority: nothing, where security_send_chain is on")
    if denied is not None:
        lines.append(f"  copy {denied} to what security_revoked names")
    if is_prepared:
        lines += ["", f"then here:\n  cardoon cert renew {name} --activate"]
    else:
        lines += ["", f"processes that sign with {paths.certificate} take it up by themselves"]
    return "\n".join(lines)
