"""An identity's word for the key of an audit log's epoch: how it is given, and how it is judged."""

from __future__ import annotations

import json

from cardoon.contents import JSON
from cardoon.deployment import Deployment
from cardoon.exceptions import RefusedError
from cardoon.message.protocol import Kind
from cardoon.security.gate import SIGNED, Gate
from cardoon.security.signing import Draft, Signer
from cardoon.transparency.handover import Certifier, Certify, Statement, belongs_to
from cardoon.transparency.verifying import Witness

TASK = "audit.epoch"
"""What such a message says it is."""


def certifier_of(deployment: Deployment) -> Certifier | None:
    """Who we are, and what signs for us; None where nothing is signed."""
    if not deployment.signs:
        return None
    return Certifier(
        deployment.identity().identity.name, make_certify(deployment.make_signer("auth"))
    )


def make_certify(signer: Signer) -> Certify:
    """Have an identity certify epochs."""

    def certify(statement: Statement) -> bytes:
        draft = Draft(
            kind=Kind.AUDIT_CHECKPOINT,
            task=TASK,
            id=statement.key.hex(),
            audience=(TASK,),
            codec=JSON,
            body=_body(statement),
        )
        [signed] = signer.sign([draft])
        return signed.frame

    return certify


def make_witness(deployment: Deployment) -> Witness:
    """Judges certificates of epochs by whom this deployment trusts today.

    It raises `ValueError` for one by somebody who is not trusted, about another log or key, or by an
    identity that the log is not called after.
    """
    gate = Gate(
        domain=deployment.settings.security_domain,
        trust=deployment.trust(),
        accept=(SIGNED,),
        clock=deployment.clock,
        skew=deployment.settings.security_clock_skew,
    )

    def judge(frame: bytes, statement: Statement) -> str:
        try:
            message = gate.open(
                frame,
                kind=Kind.AUDIT_CHECKPOINT,
                audience=frozenset({TASK}),
                id=statement.key.hex(),
                at_any_age=True,  # it is about a moment of the past
            )
        except RefusedError as error:
            raise ValueError(f"its certificate does not verify: {error}") from error
        if message.body != _body(statement) or message.signer is None:
            raise ValueError("its certificate is about another log, epoch or key")
        name = message.signer.name
        if not belongs_to(statement.origin, name):
            raise ValueError(f"certified by {name}, whose log this is not")
        return name

    return judge


def _body(statement: Statement) -> bytes:
    told = {"epoch": statement.epoch, "key": statement.key.hex(), "log": statement.origin}
    return json.dumps(told, sort_keys=True).encode()
