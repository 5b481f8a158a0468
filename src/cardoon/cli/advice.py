"""What most likely is behind a refusal, and what to do: two sentences for each reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from cardoon.exceptions import Refusal


class Facts(NamedTuple):
    """What the sentences need to know."""

    fingerprint: str = ""
    """Of the certificate that the message names, in hexadecimal digits."""
    signer: str = ""
    """The signer's name, where the signature is right."""
    task: str = ""
    action: str = "send"
    queue: str = ""
    domain: str = ""
    """The security domain of this project."""
    other_domain: str = ""
    """The one for which the message was signed, where that is proven."""
    audience: tuple[str, ...] = ()
    codec: str = ""
    max_body: int = 0
    store: str = "security_cert_store"
    """Where trusted certificates are put."""
    again: str = ""
    """The command that has it judged anew; empty where there is none."""


class Advice(NamedTuple):
    """Two sentences, without a full stop."""

    cause: str
    remedy: str


def advise(reason: Refusal, facts: Facts) -> Advice:
    """What to think of a refusal, and what to do about it."""
    cause, remedy = _ADVICE[reason](facts)
    if reason in _WORTH_ANOTHER_LOOK and facts.again:
        remedy = f"{remedy}; then `{facts.again}`"
    return Advice(cause, remedy)


_WORTH_ANOTHER_LOOK = frozenset(
    {
        Refusal.TOO_LARGE,
        Refusal.UNSIGNED,
        Refusal.NOT_ACCEPTED,
        Refusal.UNKNOWN_SIGNER,
        Refusal.CERTIFICATE_NOT_YET_VALID,
        Refusal.REVOKED,
        Refusal.ISSUED_IN_FUTURE,
        Refusal.WRONG_AUDIENCE,
        Refusal.CODEC_NOT_ACCEPTED,
        Refusal.DENIED,
        Refusal.TOO_MANY_SESSIONS,
        Refusal.NOT_ENCRYPTED,
        Refusal.UNKNOWN_KEY,
    }
)
"""What the operator of this side can change; the rest stays refused however often it is looked at."""

_PURGE = "do not release it; purge it when you have seen enough"
_TAMPERED = "somebody who can write to the broker or the store has changed it"


def _too_large(facts: Facts) -> tuple[str, str]:
    return (
        f"its sender sends more than this side takes; message_max_bytes is {facts.max_body}",
        "raise message_max_bytes here, or have the sender store the data elsewhere and send its name",
    )


def _malformed(_: Facts) -> tuple[str, str]:
    return (
        "it was not written by a Cardoon of this protocol version, or it was cut or changed on its way",
        f"find out who else writes to this broker; {_PURGE}",
    )


def _unsigned(_: Facts) -> tuple[str, str]:
    return (
        "its sender does not sign, and accept_content takes signed messages only",
        (
            "give the sender an identity (`cardoon init`) and task_serializer='auth'; only where everybody "
            "who can write to the broker may run any task, add 'json' to accept_content"
        ),
    )


def _not_accepted(_: Facts) -> tuple[str, str]:
    return (
        "it is signed, and accept_content takes messages without a signature only",
        "add 'auth' to accept_content, and say whom to trust with security_cert_store",
    )


def _unknown_signer(facts: Facts) -> tuple[str, str]:
    named = f"sha256:{facts.fingerprint}" if facts.fingerprint else "that it names"
    return (
        (
            f"the certificate {named} is not in {facts.store}, and no authority of "
            "security_ca_certificates vouches for it"
        ),
        f"if it is that of one of your senders, put it into {facts.store}",
    )


def _not_yet_valid(_: Facts) -> tuple[str, str]:
    return (
        "its certificate begins later than now; one of the clocks is wrong, or it was issued ahead",
        "compare the clocks of this host and of whoever issued the certificate, or wait",
    )


def _certificate_expired(_: Facts) -> tuple[str, str]:
    return (
        "its sender's certificate has run out since it signed",
        "renew the sender's certificate and have it send again; this message stays refused",
    )


def _revoked(_: Facts) -> tuple[str, str]:
    return (
        "its sender's certificate is in a list of security_revoked, or such a list is out of date",
        "if the key was stolen, leave it; if it is revoked by mistake, correct the list",
    )


def _bad_signature(facts: Facts) -> tuple[str, str]:
    if facts.other_domain:
        return (
            f"it was signed for security domain {facts.other_domain!r}, and here it is {facts.domain!r}",
            (
                "it belongs to another deployment: find out how it came here, or set security_domain alike on "
                "both sides and have the sender send again"
            ),
        )
    return (
        (
            "it was changed on its way, or signed for another security domain than "
            f"{facts.domain!r}, or by somebody without the key of that certificate"
        ),
        (
            "compare security_domain of sender and worker (`--domain NAME` tells whether it was signed for "
            f"that one); if they agree, take it for an attack: {_PURGE}"
        ),
    )


def _bad_claims(_: Facts) -> tuple[str, str]:
    return (
        "a trusted sender signed something that this version does not understand",
        "bring sender and worker to the same version of Cardoon, and have it send again",
    )


def _wrong_kind(_: Facts) -> tuple[str, str]:
    return (
        "it is a genuine message of another kind, put where it does not belong",
        f"find out who can write to the broker besides your senders and workers; {_PURGE}",
    )


def _from_future(_: Facts) -> tuple[str, str]:
    return (
        "the sender's clock is ahead, or this host's is behind",
        "put the clocks right (NTP), or wait until that time has come",
    )


def _expired(_: Facts) -> tuple[str, str]:
    return (
        "it lay longer than its signature holds (security_max_age of its sender), or it is an old copy",
        "have the sender send again; raise security_max_age there if queues are that long",
    )


def _wrong_audience(facts: Facts) -> tuple[str, str]:
    meant = ", ".join(one.removeprefix("q:") for one in facts.audience[:5])
    meant = meant or "somebody else"
    where = f"queue {facts.queue}" if facts.queue else "where it was found"
    return (
        (
            f"it was signed for {meant}, and not for {where}: a worker took it that does not consume that "
            "queue, or somebody has moved it"
        ),
        f"if a worker of yours is to carry it out, start it with -Q {meant.replace(', ', ',')}"
        + (f",{facts.queue}" if facts.queue else ""),
    )


def _changed_body(_: Facts) -> tuple[str, str]:
    return f"its body is not the one that was signed: {_TAMPERED}", _PURGE


def _codec(facts: Facts) -> tuple[str, str]:
    written = facts.codec or "a serializer"
    return (
        f"its body is written as {written}, which accept_content does not name",
        "add that serializer to accept_content here, or have the sender use one that is there",
    )


def _denied(facts: Facts) -> tuple[str, str]:
    who = f"sha256:{facts.fingerprint}" if facts.fingerprint else "unsigned"
    asked = " ".join(one for one in (who, facts.action, facts.task or "TASK", facts.queue) if one)
    return (
        f"no rule of security_policy lets {facts.signer or 'its sender'} do that",
        f"see what each rule lacks with `cardoon policy explain {asked}`, and add one if it may",
    )


def _too_many_sessions(_: Facts) -> tuple[str, str]:
    return (
        (
            "its sender begins more sessions an hour than max_sessions of its role allows: it has more processes "
            "than that was made for, or somebody uses its key to fill the replay store"
        ),
        "find out which; raise max_sessions in security_policy if its processes are that many",
    )


def _replayed(_: Facts) -> tuple[str, str]:
    return (
        "the same message was carried out before: this is a copy that somebody has put into the queue",
        f"find out who can write to the broker; {_PURGE}",
    )


def _not_encrypted(_: Facts) -> tuple[str, str]:
    return (
        "its body is in the clear, and security_require_encryption is set here",
        "have its sender seal bodies, and send again; or, while senders are being changed, unset it here",
    )


def _unknown_key(_: Facts) -> tuple[str, str]:
    return (
        "its body is sealed to other keys than those that are here",
        "if it is meant for this side, bring the key here or have the sender use the keys of today",
    )


def _undecryptable(_: Facts) -> tuple[str, str]:
    return (
        "its sealed body was made by another signer or for another message, or is damaged",
        f"look at its sender; {_PURGE}",
    )


def _before_epoch(_: Facts) -> tuple[str, str]:
    return (
        "it was signed before the replay store began to remember, so nobody knows whether it has run",
        (
            "find out whether its task has run; if it has, purge it; if not, or if it may run twice, release it "
            "with --unsafe-accept-old"
        ),
    )


def _undecodable(_: Facts) -> tuple[str, str]:
    return (
        "a trusted sender signed a body that is not what its codec says",
        "look at how the sender writes it; have it send again",
    )


def _bomb(_: Facts) -> tuple[str, str]:
    return (
        "a trusted sender signed a body that grows beyond message_max_bytes when it is unpacked",
        "look at what the sender sends; raise message_max_bytes if that is right, and have it send again",
    )


def _wrong_request(_: Facts) -> tuple[str, str]:
    return (
        "it answers another message than the one under whose id it lay",
        f"somebody who can write to the result store has moved it; {_PURGE}",
    )


def _wrong_input(_: Facts) -> tuple[str, str]:
    return (
        "the results that lay beside it are not those that its sender had it wait for",
        f"somebody who can write to the store has put them there; {_PURGE}",
    )


def _wrong_id(_: Facts) -> tuple[str, str]:
    return (
        "it lay under another id than it was signed with: somebody has copied it",
        f"find out who can write to the broker; {_PURGE}",
    )


_ADVICE: Mapping[Refusal, Callable[[Facts], tuple[str, str]]] = {
    Refusal.TOO_LARGE: _too_large,
    Refusal.MALFORMED: _malformed,
    Refusal.UNSIGNED: _unsigned,
    Refusal.NOT_ACCEPTED: _not_accepted,
    Refusal.UNKNOWN_SIGNER: _unknown_signer,
    Refusal.CERTIFICATE_NOT_YET_VALID: _not_yet_valid,
    Refusal.CERTIFICATE_EXPIRED: _certificate_expired,
    Refusal.REVOKED: _revoked,
    Refusal.BAD_SIGNATURE: _bad_signature,
    Refusal.BAD_CLAIMS: _bad_claims,
    Refusal.WRONG_KIND: _wrong_kind,
    Refusal.ISSUED_IN_FUTURE: _from_future,
    Refusal.EXPIRED: _expired,
    Refusal.WRONG_AUDIENCE: _wrong_audience,
    Refusal.WRONG_LENGTH: _changed_body,
    Refusal.WRONG_DIGEST: _changed_body,
    Refusal.CODEC_NOT_ACCEPTED: _codec,
    Refusal.DENIED: _denied,
    Refusal.TOO_MANY_SESSIONS: _too_many_sessions,
    Refusal.REPLAYED: _replayed,
    Refusal.NOT_ENCRYPTED: _not_encrypted,
    Refusal.BEFORE_EPOCH: _before_epoch,
    Refusal.UNKNOWN_KEY: _unknown_key,
    Refusal.UNDECRYPTABLE: _undecryptable,
    Refusal.UNDECODABLE: _undecodable,
    Refusal.BOMB: _bomb,
    Refusal.WRONG_REQUEST: _wrong_request,
    Refusal.WRONG_INPUT: _wrong_input,
    Refusal.WRONG_ID: _wrong_id,
}
