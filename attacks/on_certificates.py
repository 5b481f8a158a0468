"""Certificates: those that an authority we trust should not have issued, or that are good no more."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from attacks.makers import (
    SIGNATURE_OF_SMALL_ORDER,
    Person,
    arguments,
    make_person,
    make_rsa,
    seal,
    small_order_key,
    task_claims,
)
from attacks.matrix import attack
from attacks.raid import Raid

HOUR = 3600.0


def _present(
    raid: Raid,
    person: Person,
    *reasons: str,
    between: tuple[bytes, ...] = (),
    signature: bytes | None = None,
) -> None:
    """A message by somebody who sends his certificate along."""
    id = raid.id()
    body = arguments(raid.token())
    claims = task_claims(id, body)
    frame = seal(person, claims, body, chain=[person.der, *between], signature=signature)
    raid.offer(frame, *reasons, id=id)


@attack("certificates")
def certificate_expired(raid: Raid) -> None:
    """By our authority, and its time is over."""
    # Within the life of the authority, which is some minutes old here.
    person = make_person("client", issuer=raid.people.authority, begins=-200.0, ends=-20.0)
    _present(raid, person, "certificate-expired")


@attack("certificates")
def certificate_of_tomorrow(raid: Raid) -> None:
    """By our authority, and not yet valid."""
    person = make_person("client", issuer=raid.people.authority, begins=24 * HOUR, ends=48 * HOUR)
    _present(raid, person, "certificate-not-yet-valid")


@attack("certificates")
def certificate_for_servers(raid: Raid) -> None:
    """By our authority, for TLS servers."""
    usages = (ExtendedKeyUsageOID.SERVER_AUTH,)
    _present(
        raid, make_person("client", issuer=raid.people.authority, usages=usages), "unknown-signer"
    )


@attack("certificates")
def certificate_for_code(raid: Raid) -> None:
    """By our authority, to sign programs."""
    usages = (ExtendedKeyUsageOID.CODE_SIGNING,)
    _present(
        raid, make_person("client", issuer=raid.people.authority, usages=usages), "unknown-signer"
    )


@attack("certificates")
def certificate_that_must_not_sign(raid: Raid) -> None:
    """By our authority, for encryption only."""
    _present(
        raid, make_person("client", issuer=raid.people.authority, signs=False), "unknown-signer"
    )


@attack("certificates")
def authority_signs_itself(raid: Raid) -> None:
    """The authority's own key signs a task."""
    _present(raid, raid.people.authority, "unknown-signer")


@attack("certificates")
def client_as_authority(raid: Raid) -> None:
    """A trusted client issues a certificate to somebody else."""
    leaf = make_person("client", issuer=raid.people.client)
    _present(raid, leaf, "unknown-signer", between=(raid.people.client.der,))


@attack("certificates")
def insider_as_authority(raid: Raid) -> None:
    """A certificate by our authority that says it is an authority itself, below one of path length 0."""
    between = make_person(
        "between", key=ec.generate_private_key(ec.SECP256R1()), issuer=raid.people.authority,
        is_authority=True, usages=(), uris=(),
    )  # fmt: skip
    leaf = make_person("client", issuer=between)
    _present(raid, leaf, "unknown-signer", between=(between.der,))


@attack("certificates")
def certificate_with_two_names(raid: Raid) -> None:
    """By our authority, with the client's name and another one."""
    uris = ("spiffe://attacks.local/insider", "spiffe://attacks.local/client")
    _present(raid, make_person("client", issuer=raid.people.authority, uris=uris), "unknown-signer")


@attack("certificates")
def certificate_for_another_trust_domain(raid: Raid) -> None:
    """By our authority, which the policy does not know under this name."""
    uris = ("spiffe://other.example/client",)
    person = make_person("client", issuer=raid.people.authority, uris=uris)
    _present(raid, person, "denied", "unknown-signer")


@attack("certificates")
def certificate_without_a_name(raid: Raid) -> None:
    """By our authority, for nobody."""
    _present(raid, make_person("client", issuer=raid.people.authority, uris=()), "denied")


@attack("certificates")
def rsa_of_1024_bits(raid: Raid) -> None:
    """By our authority, for a short key."""
    person = make_person("client", key=make_rsa(1024), issuer=raid.people.authority)
    _present(raid, person, "unknown-signer")


@attack("certificates")
def curve_that_is_not_taken(raid: Raid) -> None:
    """By our authority, for a key on another curve, under the name of the one that is taken."""
    key = ec.generate_private_key(ec.SECP256K1())
    _present(raid, make_person("client", key=key, issuer=raid.people.authority), "unknown-signer")


@attack("certificates")
def key_of_small_order(raid: Raid) -> None:
    """By our authority, for the one key to which a constant is a signature of anything."""
    holder = ed25519.Ed25519PrivateKey.generate()
    person = make_person(
        "client", key=holder, public_key=small_order_key(), issuer=raid.people.authority
    )
    _present(raid, person, "unknown-signer", signature=SIGNATURE_OF_SMALL_ORDER)


@attack("certificates")
def certificate_of_somebody_else(raid: Raid) -> None:
    """The client's certificate comes along, under another key id and a stranger's signature."""
    id = raid.id()
    body = arguments(raid.token())
    stranger = raid.people.stranger
    frame = seal(stranger, task_claims(id, body), body, chain=[raid.people.client.der])
    raid.offer(frame, "unknown-signer", id=id)


@attack("certificates")
def certificates_that_are_junk(raid: Raid) -> None:
    """A chain of bytes that are no certificates, and one that is too long."""
    for chain in ([b"junk"], [b"junk"] * 8, [b"junk"] * 9, [b""], [bytes(20_000)] * 4):
        id = raid.id()
        body = arguments(raid.token())
        frame = seal(raid.people.stranger, task_claims(id, body), body, chain=chain)
        raid.offer(frame, "unknown-signer", "malformed", "too-large", id=id)


@attack("certificates")
def revoked_client(raid: Raid) -> None:
    """A client that the policy knows, and whose certificate was revoked."""
    id = raid.id()
    body = arguments(raid.token())
    frame = seal(raid.people.revoked, task_claims(id, body), body)
    raid.offer(frame, "certificate-revoked", id=id)


@attack("certificates")
def revoked_client_with_its_chain(raid: Raid) -> None:
    """The same sends its certificate along."""
    _present(raid, raid.people.revoked, "certificate-revoked")
