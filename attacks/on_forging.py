"""Forged: by strangers, without a signature, with somebody else's, or in another form."""

from __future__ import annotations

import base64
import json
import os
import pickle
import uuid

from attacks.makers import (
    HS256,
    NO_ALGORITHM,
    POLYMORPHIC_EDDSA,
    POLYMORPHIC_ES256,
    PS256,
    arguments,
    claims_of,
    encode,
    make_person,
    rebuilt,
    seal,
    task_claims,
)
from attacks.matrix import attack
from attacks.raid import Raid
from cardoon.message import cbor, envelope


def _forge(raid: Raid, **changes: object) -> tuple[str, dict[int, object], bytes]:
    """An id, and the claims and the body of a message that nobody has sent."""
    id = raid.id()
    body = arguments(raid.token())
    return id, task_claims(id, body, **changes), body


@attack("forge")
def signed_by_a_stranger(raid: Raid) -> None:
    """A well-formed message by a key that nobody vouches for."""
    id, claims, body = _forge(raid)
    raid.offer(seal(raid.people.stranger, claims, body), "unknown-signer", id=id)


@attack("forge")
def stranger_under_the_clients_name(raid: Raid) -> None:
    """A stranger's signature under the key id of the client."""
    id, claims, body = _forge(raid)
    frame = seal(raid.people.stranger, claims, body, key_id=raid.people.client.fingerprint)
    raid.offer(frame, "bad-signature", id=id)


@attack("forge")
def self_made_certificate_along(raid: Raid) -> None:
    """A stranger who sends a certificate of his own making along, with the client's name in it."""
    id, claims, body = _forge(raid)
    stranger = raid.people.stranger
    raid.offer(seal(stranger, claims, body, chain=[stranger.der]), "unknown-signer", id=id)


@attack("forge")
def self_made_authority_along(raid: Raid) -> None:
    """A stranger who sends an authority of his own making along."""
    id, claims, body = _forge(raid)
    authority = make_person("authority", is_authority=True, signs=False, usages=())
    leaf = make_person("client", issuer=authority)
    frame = seal(leaf, claims, body, chain=[leaf.der, authority.der])
    raid.offer(frame, "unknown-signer", id=id)


@attack("forge")
def empty_signature(raid: Raid) -> None:
    """The client's key id and no signature."""
    id, claims, body = _forge(raid)
    raid.offer(seal(raid.people.client, claims, body, signature=b""), "bad-signature", id=id)


@attack("forge")
def zero_signature(raid: Raid) -> None:
    """The client's key id and 64 zeros."""
    id, claims, body = _forge(raid)
    raid.offer(seal(raid.people.client, claims, body, signature=bytes(64)), "bad-signature", id=id)


@attack("forge")
def signature_of_another_message(raid: Raid) -> None:
    """New claims and arguments under a signature that the client has made for others."""
    _, genuine = raid.send_later()
    id, claims, body = _forge(raid)
    raid.offer(rebuilt(genuine, claims=encode(claims), body=body), "bad-signature", id=id)


@attack("forge")
def unsigned(raid: Raid) -> None:
    """The same message without a signature, as `accept_content=['json']` would take it."""
    id, claims, body = _forge(raid)
    raid.offer(envelope.build_plain(encode(claims), body), "unsigned", id=id)


@attack("forge")
def stripped_of_its_signature(raid: Raid) -> None:
    """A message of the client from which the signature was taken away."""
    sent, genuine = raid.send_later()
    parsed = envelope.parse_frame(genuine)
    raid.alter(sent, envelope.build_plain(parsed.claims, parsed.body), "unsigned")


@attack("forge")
def signature_with_a_flipped_bit(raid: Raid) -> None:
    """A message of the client whose signature differs in one bit."""
    sent, genuine = raid.send_later()
    parsed = envelope.parse_frame(genuine)
    assert isinstance(parsed, envelope.SignedFrame)
    flipped = parsed.signature[:-1] + bytes([parsed.signature[-1] ^ 1])
    raid.alter(sent, rebuilt(genuine, signature=flipped), "bad-signature")


@attack("forge")
def signature_beyond_the_order(raid: Raid) -> None:
    """The malleable form of the client's signature: S plus the order of the group."""
    sent, genuine = raid.send_later()
    parsed = envelope.parse_frame(genuine)
    assert isinstance(parsed, envelope.SignedFrame)
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(parsed.signature[32:], "little") + order
    other = parsed.signature[:32] + scalar.to_bytes(32, "little")
    raid.alter(sent, rebuilt(genuine, signature=other), "bad-signature")


@attack("swap")
def body_of_another_message(raid: Raid) -> None:
    """The client's claims and signature around the body of another of its messages."""
    sent, genuine = raid.send_later(value="a")
    _, other = raid.send_later(value="b")
    body = envelope.parse_frame(other).body
    raid.alter(sent, rebuilt(genuine, body=body), "wrong-digest", "wrong-length")


@attack("swap")
def arguments_changed_at_same_length(raid: Raid) -> None:
    """One letter of the client's arguments is another one."""
    sent, genuine = raid.send_later(value="pay 100")
    body = envelope.parse_frame(genuine).body
    assert b"pay 100" in body
    raid.alter(sent, rebuilt(genuine, body=body.replace(b"pay 100", b"pay 900")), "wrong-digest")


@attack("swap")
def body_longer_than_signed(raid: Raid) -> None:
    """Something is appended to the client's arguments."""
    sent, genuine = raid.send_later()
    body = envelope.parse_frame(genuine).body
    raid.alter(sent, rebuilt(genuine, body=body + b" "), "wrong-length")


@attack("swap")
def bytes_behind_the_frame(raid: Raid) -> None:
    """Something is appended to the client's message."""
    sent, genuine = raid.send_later()
    raid.alter(sent, genuine + b"\x40", "malformed")


@attack("swap")
def cut_short(raid: Raid) -> None:
    """The client's message without its last byte."""
    sent, genuine = raid.send_later()
    raid.alter(sent, genuine[:-1], "malformed")


@attack("swap")
def claims_of_another_message(raid: Raid) -> None:
    """Two messages of the client have exchanged their claims."""
    sent, genuine = raid.send_later()
    _, other = raid.send_later()
    claims = envelope.parse_frame(other).claims
    raid.alter(sent, rebuilt(genuine, claims=claims), "bad-signature")


@attack("swap")
def batch_proof_of_another_size(raid: Raid) -> None:
    """The client's message with the proof of a batch that it is not part of."""
    sent, genuine = raid.send_later()
    parsed = envelope.parse_frame(genuine)
    assert isinstance(parsed, envelope.SignedFrame)
    starts = envelope.begin_batch(parsed.protected, paths=[bytes(32), bytes(32)])
    frame = envelope.build_signed(starts[0], parsed.claims, parsed.signature, parsed.body)
    raid.alter(sent, frame, "malformed", "bad-signature")


@attack("domain")
def signed_for_another_deployment(raid: Raid) -> None:
    """The client has signed it for staging, where the same keys are trusted."""
    id, claims, body = _forge(raid)
    raid.offer(
        seal(raid.people.client, claims, body, domain="attacks/staging"), "bad-signature", id=id
    )


@attack("domain")
def signed_for_no_deployment(raid: Raid) -> None:
    """The client's signature without any domain."""
    id, claims, body = _forge(raid)
    raid.offer(seal(raid.people.client, claims, body, domain=""), "bad-signature", id=id)


def _enter_algorithms() -> None:
    for name, number in {
        "none": NO_ALGORITHM,
        "hmac": HS256,
        "polymorphic_eddsa": POLYMORPHIC_EDDSA,
        "polymorphic_ecdsa": POLYMORPHIC_ES256,
        "rsa": PS256,
    }.items():

        def act(raid: Raid, number: int = number) -> None:
            id, claims, body = _forge(raid)
            frame = seal(raid.people.insider, claims, body, algorithm=number)
            raid.offer(frame, "unknown-signer", id=id)

        text = f"A trusted Ed25519 key signs under the name of another algorithm ({number})."
        attack("downgrade", name=f"algorithm_{name}", text=text)(act)


_enter_algorithms()


@attack("downgrade")
def hmac_with_the_public_certificate(raid: Raid) -> None:
    """A MAC whose key is the client's public certificate, for who mistakes it for a signature."""
    import hashlib  # noqa: PLC0415
    import hmac  # noqa: PLC0415

    id, claims, body = _forge(raid)
    client = raid.people.client
    protected = envelope.protected_header(HS256, client.fingerprint, batch=False)
    to_sign = envelope.bytes_to_sign(protected, b"attacks/prod", encode(claims))
    mac = hmac.digest(client.der, to_sign, hashlib.sha256)
    frame = seal(client, claims, body, algorithm=HS256, signature=mac)
    raid.offer(frame, "unknown-signer", id=id)


@attack("downgrade")
def celery_message_of_protocol_2(raid: Raid) -> None:
    """A plain Celery message, as JSON with base64."""
    id = raid.id()
    body = base64.b64encode(arguments(raid.token())).decode()
    headers = {"lang": "py", "task": "canary.note", "id": id, "root_id": id, "retries": 0}
    properties = {"correlation_id": id, "delivery_info": {"exchange": "", "routing_key": "celery"}}
    message = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    raid.offer(json.dumps(message).encode(), "malformed", id=id)


@attack("downgrade")
def celery_body_alone(raid: Raid) -> None:
    """The body of a Celery message and nothing else, as AMQP carries it."""
    raid.offer(arguments(raid.token()), "malformed")


@attack("downgrade")
def celery_auth_frame(raid: Raid) -> None:
    """Celery's own signed form: five parts with a separator, in base64."""
    parts = [os.urandom(64), b"signer", b"application/json", b"utf-8", arguments(raid.token())]
    raid.offer(base64.b64encode(b"\x00\x01".join(parts)), "malformed")


@attack("downgrade")
def pickle_alone(raid: Raid) -> None:
    """A pickle that would write into the diary."""
    command = f'echo \'["note", "x", "{raid.token()}", null]\' >> $ATTACKS_DIARY'
    raid.offer(pickle.dumps(_Bomb(command)), "malformed")


class _Bomb:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self._command,)


def _enter_codecs() -> None:
    for name, codec in {
        "pickle": "application/x-python-serialize",
        "yaml": "application/x-yaml",
        "msgpack": "application/x-msgpack",
        "unknown": "application/x-mallory",
        "unknown_compression": "application/json+mallory",
    }.items():

        def act(raid: Raid, codec: str = codec) -> None:
            token = raid.token()
            command = f'echo \'["note", "x", "{token}", null]\' >> $ATTACKS_DIARY'
            body = pickle.dumps(_Bomb(command)) if "python" in codec else arguments(token)
            id = raid.id()
            frame = seal(raid.people.insider, task_claims(id, body, codec=codec), body)
            raid.offer(frame, "codec-not-accepted", id=id)

        text = f"A trusted client signs a body that is written as {codec}."
        attack("content", name=f"content_{name}", text=text)(act)


_enter_codecs()


@attack("content")
def json_that_is_pickle(raid: Raid) -> None:
    """A trusted client calls a pickle JSON."""
    token = raid.token()
    body = pickle.dumps(_Bomb(f'echo \'["note", "x", "{token}", null]\' >> $ATTACKS_DIARY'))
    id = raid.id()
    raid.offer(seal(raid.people.insider, task_claims(id, body), body), "undecodable", id=id)


@attack("forge")
def looks_signed(raid: Raid) -> None:
    """A CBOR tag for a signed message with nothing behind it that makes sense."""
    for junk in (b"\xd2\x84", b"\xd2\x84" + os.urandom(200), b"", b"\x00", os.urandom(500)):
        raid.offer(junk, "malformed")


@attack("forge")
def claims_in_another_order(raid: Raid) -> None:
    """A trusted client signs claims that are not in the one order that there is."""
    id, claims, body = _forge(raid)
    entries = [cbor.encode({label: value})[1:] for label, value in claims.items()]
    mixed = cbor.head(cbor.MAP, len(entries)) + b"".join(reversed(entries))
    raid.offer(seal(raid.people.insider, mixed, body), "bad-claims", id=id)


@attack("forge")
def claims_that_are_said_twice(raid: Raid) -> None:
    """A trusted client signs a map with two ids."""
    id, claims, body = _forge(raid)
    entries = [cbor.encode({label: value})[1:] for label, value in claims.items()]
    entries.insert(3, entries[2])
    twice = cbor.head(cbor.MAP, len(entries)) + b"".join(entries)
    raid.offer(seal(raid.people.insider, twice, body), "bad-claims", id=id)


@attack("forge")
def guessed_digest(raid: Raid) -> None:
    """The client's genuine envelope under a new id, and with another body of its length."""
    _, genuine = raid.send_later(value="aaaa")
    body = envelope.parse_frame(genuine).body.replace(b"aaaa", b"bbbb")
    assert claims_of(genuine)
    raid.offer(rebuilt(genuine, body=body), "wrong-digest", id=str(uuid.uuid4()))
