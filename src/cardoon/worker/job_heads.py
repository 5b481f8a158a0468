"""From a verified message to a job: what the process that runs it is told, and what it is not."""

from __future__ import annotations

from cardoon.worker.held import Held
from cardoon.worker.inputs import describe_inputs
from cardoon.worker.pool import Job
from cardoon.worker.terms import limits


def make_job(held: Held, *, hostname: str, max_bytes: int, ticket: str = "") -> Job:
    """The job of a message; `ticket` is for the outcome journal."""
    claims, delivery = held.message.claims, held.delivery
    hard, soft = limits(held)
    signer = held.message.signer
    head = {
        "key": held.key,
        "task": claims.task,
        "id": claims.id,
        "codec": claims.codec,
        "max_bytes": max_bytes,
        "retries": held.retries,
        "max_retries": claims.max_retries,
        "eta": claims.eta,
        "expires": claims.expires,
        "root": claims.root,
        "parent": claims.parent,
        "headers": held.headers,
        "queue": held.queue,
        "attempt": delivery.attempt,
        "hostname": hostname,
        "origin": None if signer is None else signer.name,
    }
    body = held.message.body
    if ticket and not held.settled:
        head["ticket"] = ticket
    if held.answer_codec != claims.codec:
        head["answer"] = held.answer_codec
    if claims.group is not None:
        head["group"] = claims.group
    if held.inputs is not None:
        head["inputs"], data = describe_inputs(held.inputs)
        head["own"] = len(body)
        body += data
    return Job(
        held.key,
        claims.task,
        claims.id,
        head,
        body,
        soft,
        hard,
        alone=delivery.crashes > 0,
        profile=held.profile,
        on_begun=held.on_begun,
    )
