"""Has the real gate judge a message again, as a worker or a reader of this project would, and says why.

What the gate does is in `security.explaining`. Here are what a worker checks behind it, what each rule of
the policy lacks, and how all of that is put into words and into JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import click

from cardoon.broker import Accompanied, Delivery, KeptMessage
from cardoon.cli.access import json_of, printable
from cardoon.cli.advice import Advice, Facts, advise
from cardoon.clock import Clock
from cardoon.config import Settings, content_kind
from cardoon.contents import is_pickle
from cardoon.deployment import Deployment
from cardoon.exceptions import Refusal, RefusedError
from cardoon.lookup import Remembering
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import EVERY_WORKER, Claims, Kind
from cardoon.message.serializers import decode_body
from cardoon.producer import BRIDGED, RESULTS
from cardoon.queues import broadcast_names, private_queue
from cardoon.security.explaining import (
    Circumstances,
    Explanation,
    Question,
    Step,
    Verdict,
    explain,
    find_domain,
)
from cardoon.security.gate import Gate, Limits, VerifiedMessage
from cardoon.security.origins import Parties
from cardoon.security.policing import FilePolicy
from cardoon.security.policy import AllowTrusted, Policy, Request
from cardoon.security.replay import ReplayGuard
from cardoon.worker.leases import CONTROL
from cardoon.worker.opening import check_id

MAX_SHOWN_BODY = 4096
"""Characters of a body that are shown."""


class Listened:
    """A policy that remembers what it was asked last."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.request: Request | None = None

    def check(self, request: Request) -> Parties | None:
        """Decide as the policy does."""
        self.request = request
        return self.policy.check(request)


class _ExplainingDeployment(Deployment):
    """A project whose policy can be asked what it was asked."""

    def __init__(self, settings: Settings, *, clock: Clock, with_policy: bool) -> None:
        super().__init__(settings, clock=clock)
        self._listened = Listened(super().policy() if with_policy else AllowTrusted())

    def policy(self) -> Policy:
        """The file's, or one that allows all."""
        return self._listened

    @property
    def decides(self) -> Policy:
        """The policy itself."""
        return self._listened.policy

    @property
    def asked(self) -> Request | None:
        """What it was asked last."""
        return self._listened.request


class Found(NamedTuple):
    """Where a message was found, as far as that is known."""

    queue: str = ""
    id: str | None = None
    """Under which it lay; None for one that lay nowhere."""
    consumed: tuple[str, ...] = ()
    """The queues that a worker would consume; just its own if none are named."""
    kind: Kind = Kind.TASK
    again: str = ""
    """The command that has it judged anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What this project says of a message now."""

    explanation: Explanation
    steps: tuple[Step, ...]
    """The gate's, and those behind it."""
    refusals: tuple[RefusedError, ...]
    advice: tuple[Advice, ...]
    """One for each refusal."""
    rules: tuple[str, ...] = ()
    """What each rule of the policy has to do with it."""
    roles: tuple[str, ...] = ()
    """Of its signer."""

    @property
    def accepted(self) -> bool:
        """Whether it would be carried out, or read."""
        return not self.refusals


class Judge:
    """Judges messages by the settings of a project. Makes nothing, sends nothing, claims nothing."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        with_policy: bool = True,
        domains: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._deployment = _ExplainingDeployment(settings, clock=clock, with_policy=with_policy)
        self._has_policy = with_policy and bool(settings.security_policy)
        self._limits = Limits(max_body=settings.message_max_bytes)
        # The default is what a project has that has not set it, so it is the likeliest mistake.
        others = dict.fromkeys([*domains, Settings().security_domain])
        self._domains = [one for one in others if one != settings.security_domain]

    def judge(self, frame: bytes, found: Found, memory: Remembering | None = None) -> Judgement:
        """Everything that stands in the way of a message. Raises nothing for what the bytes are.

        `memory` is asked whether the message was carried out before.
        """
        deployment, settings = self._deployment, self._settings
        gate = (
            deployment.result_gate()
            if found.kind is Kind.RESULT
            else deployment.make_gate(settings.accept_content)
        )
        question = self._question_of(found)
        accepted = (*settings.accept_content, *(settings.result_accept_content or ()))
        verifies = any(content_kind(name) == "auth" for name in accepted)
        circumstances = Circumstances(
            domain=settings.security_domain,
            trust=deployment.trust() if verifies else None,
            limits=self._limits,
            now=self._clock.now(),
            has_policy=self._has_policy,
        )
        explanation = explain(gate, frame, question, circumstances)
        behind = self._look_behind(explanation.message, found, memory)
        later = [step.refusal for step in behind if step.refusal is not None]
        refusals = (*explanation.refusals, *later)
        facts = self._facts(explanation, frame, found, question)
        roles, rules = self._ask_rules(explanation)
        return Judgement(
            explanation=explanation,
            steps=(*explanation.steps, *(step.step for step in behind)),
            refusals=refusals,
            advice=tuple(advise(refusal.reason, facts) for refusal in refusals),
            rules=rules,
            roles=roles,
        )

    def show_body(self, judgement: Judgement) -> str:
        """What a verified body says, as JSON of at most `MAX_SHOWN_BODY` characters; or why not."""
        message = judgement.explanation.message
        if message is None:
            return "not shown: the message was not verified"
        claims = message.claims
        if claims.encryption is not None:
            return "not shown: it is sealed, and only who has the key can read it"
        if is_pickle(claims.codec):
            return "not shown: to read a pickle is to run what it says"
        try:
            content = decode_body(
                claims.codec, message.body, max_bytes=self._settings.message_max_bytes
            )
        except RefusedError as error:
            return f"not shown: {error}"
        text = json_of(content, ensure_ascii=False)
        if len(text) > MAX_SHOWN_BODY:
            return f"{text[:MAX_SHOWN_BODY]}... ({len(text)} characters)"
        return text

    def _question_of(self, found: Found) -> Question:
        """What whoever took it from there would ask the gate."""
        match found.kind:
            case Kind.TASK:
                pass
            case Kind.CONTROL:
                return Question(Kind.CONTROL, audience=frozenset({EVERY_WORKER}))
            case _:
                return Question(found.kind, id=found.id)
        names = broadcast_names(self._settings.task_queues)
        for name in names:
            if found.queue.startswith(private_queue(name, "")):
                return Question(Kind.TASK, frozenset({f"q:{name}"}), name, reader=found.queue)
        consumed = found.consumed or ((found.queue,) if found.queue else ())
        audience = frozenset(f"q:{name}" for name in consumed) if consumed else None
        return Question(Kind.TASK, audience, found.queue)

    def _look_behind(
        self, message: VerifiedMessage | None, found: Found, memory: Remembering | None
    ) -> list[_Behind]:
        """What a worker checks that has a message from the gate."""
        if found.kind is not Kind.TASK:
            return []
        if message is None:
            return [_untouched(number, name) for number, name in _BEHIND]
        checks = (
            _check(5, "id", lambda: _find_id(message, found)),
            _check(6, "replay", lambda: _find_replay(message, memory)),
            _check(8, "content", lambda: self._find_content(message)),
        )
        return list(checks)

    def _find_content(self, message: VerifiedMessage) -> str | None:
        claims = message.claims
        if claims.encryption is not None or is_pickle(claims.codec):
            return None
        decode_body(claims.codec, message.body, max_bytes=self._settings.message_max_bytes)
        return "it can be read"

    def _facts(
        self, explanation: Explanation, frame: bytes, found: Found, question: Question
    ) -> Facts:
        settings = self._settings
        claims, signer = explanation.claims, explanation.signer
        refusal = explanation.refusal
        other = None
        if refusal is not None and refusal.reason is Refusal.BAD_SIGNATURE:
            other = find_domain(self._gates(found), frame, question, self._limits)
        request = self._deployment.asked
        pins = settings.security_cert_store
        store = f"security_cert_store ({', '.join(pins)})" if pins else ""
        return Facts(
            fingerprint="" if explanation.fingerprint is None else explanation.fingerprint.hex(),
            signer="" if signer is None else signer.name,
            task="" if claims is None else claims.task,
            action="send" if request is None else request.action.value,
            queue=question.queue,
            domain=settings.security_domain,
            other_domain=other or "",
            audience=() if claims is None else claims.audience,
            codec="" if claims is None else claims.codec,
            max_body=settings.message_max_bytes,
            store=store or str(self._deployment.state_directory / "trusted"),
            again=found.again,
        )

    def _gates(self, found: Found) -> dict[str, Gate]:
        """What other deployments of the same people would say."""
        made = {}
        for domain in self._domains:
            settings = replace(self._settings, security_domain=domain)
            other = _ExplainingDeployment(settings, clock=self._clock, with_policy=False)
            made[domain] = (
                other.result_gate()
                if found.kind is Kind.RESULT
                else other.make_gate(settings.accept_content)
            )
        return made

    def _ask_rules(self, explanation: Explanation) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The signer's roles, and what each rule has to do with the message."""
        policy, request = self._deployment.decides, self._deployment.asked
        if not isinstance(policy, FilePolicy) or request is None or explanation.message is None:
            return (), ()
        rules = policy.rules
        roles = tuple(sorted(rules.roles_of(request.signer)))
        try:
            objections = rules.explain(request)
        except RefusedError as error:
            return roles, (f"no rule: {error.detail}",)
        return roles, tuple(
            f"rule {number}: {objection or 'allows it'}" for number, objection in objections.items()
        )


class _Behind(NamedTuple):
    """One check behind the gate."""

    step: Step
    refusal: RefusedError | None = None


_BEHIND = {
    (5, "id"): "who found it under an id",
    (6, "replay"): "the store from which it was taken, while it lies there,",
    (8, "content"): "who runs it, for it is sealed, or a pickle, which runs what it says,",
}
"""Checks behind the gate, and who can make them where this command cannot."""


def _untouched(number: int, name: str) -> _Behind:
    return _Behind(Step(number=number, name=name, verdict=Verdict.NOT_REACHED, found=""))


def _check(number: int, name: str, look: Callable[[], str | None]) -> _Behind:
    """One check; None means that it cannot be made here."""
    try:
        found = look()
    except RefusedError as error:
        step = Step(
            number=number,
            name=name,
            verdict=Verdict.FAILED,
            found=error.detail,
            reason=error.reason,
        )
        return _Behind(step, error)
    if found is None:
        why = f"only {_BEHIND[number, name]} knows"
        return _Behind(Step(number=number, name=name, verdict=Verdict.UNKNOWN, found=why))
    return _Behind(Step(number=number, name=name, verdict=Verdict.PASSED, found=found))


def _find_id(message: VerifiedMessage, found: Found) -> str | None:
    claims = message.claims
    headers = parse_headers(claims.headers)
    if found.id is None:
        return None
    check_id(Delivery(found.queue, found.id, b"", 0, 1), claims, headers)
    return f"{found.id}, as signed"


def _find_replay(message: VerifiedMessage, memory: Remembering | None) -> str | None:
    if memory is None:
        return None
    if memory.were_done([message.nonce])[0]:
        raise RefusedError(Refusal.REPLAYED, "it was carried out before")
    if isinstance(memory, ReplayGuard) and message.nonce.signed_by < memory.memory().since:
        raise RefusedError(Refusal.BEFORE_EPOCH, "nobody remembers whether it was carried out")
    return "it was never carried out"


def memory_of(broker: object) -> Remembering | None:
    """Who knows what was carried out: a broker, or what keeps the marks beside it."""
    found = broker.companion if isinstance(broker, Accompanied) else broker
    return found if isinstance(found, Remembering) else None


def find_kept(message: KeptMessage, *, consumed: tuple[str, ...], again: str) -> Found | None:
    """Where a kept message came from; None for one of Celery's, which no gate of ours judges."""
    queue = message.queue
    if queue.startswith(BRIDGED):
        return None
    if queue == RESULTS:
        return Found(id=message.id, kind=Kind.RESULT)
    if queue == CONTROL and not message.id:
        return Found(kind=Kind.CONTROL)
    return Found(queue, message.id, consumed, again=again)


def describe_judgement(judgement: Judgement) -> dict[str, Any]:
    """It for programs."""
    explanation = judgement.explanation
    refusal = judgement.refusals[0] if judgement.refusals else None
    signer, claims = explanation.signer, explanation.claims
    return {
        "accepted": judgement.accepted,
        "reason": None if refusal is None else refusal.reason.value,
        "detail": None if refusal is None else refusal.detail,
        "steps": [
            {
                "number": step.number,
                "check": step.name,
                "verdict": step.verdict.value,
                "reason": step.reason,
                "found": step.found,
            }
            for step in judgement.steps
        ],
        "advice": [
            {"reason": one.reason.value, "cause": advice.cause, "remedy": advice.remedy}
            for one, advice in zip(judgement.refusals, judgement.advice, strict=True)
        ],
        "certificate": explanation.fingerprint and explanation.fingerprint.hex(),
        "signer": None
        if signer is None
        else {
            "name": signer.name,
            "fingerprint": signer.fingerprint.hex(),
            "not_before": signer.not_before,
            "not_after": signer.not_after,
        },
        "claims": None if claims is None else _describe_claims(claims),
        "roles": list(judgement.roles),
        "rules": list(judgement.rules),
    }


def print_judgement(judgement: Judgement) -> None:
    """It for people: a line for each check, then what to do."""
    for step in judgement.steps:
        colour = {Verdict.PASSED: "green", Verdict.FAILED: "red"}.get(step.verdict)
        reason = f"{step.reason.value}: " if step.reason is not None else ""
        told = printable(f"{reason}{step.found}") if step.found or reason else "-"
        click.echo(f"({step.number}) {step.name:<10}", nl=False)
        click.secho(f"{step.verdict.value:<12}", fg=colour, nl=False)
        click.echo(told)
    for line in judgement.rules:
        click.echo(f"    {printable(line)}")
    if judgement.accepted:
        click.secho("accepted", fg="green")
    for refusal, advice in zip(judgement.refusals, judgement.advice, strict=True):
        click.secho(f"refused: {refusal.reason.value}", fg="red")
        click.echo(f"  why:    {printable(advice.cause)}")
        click.echo(f"  remedy: {printable(advice.remedy)}")


def _describe_claims(claims: Claims) -> dict[str, Any]:
    """What the signer says, but for the body and what only machines read."""
    told = {
        "kind": claims.kind.name.lower(),
        "task": claims.task,
        "id": claims.id,
        "audience": list(claims.audience),
        "issued_at": claims.issued_at,
        "valid_until": claims.valid_until,
        "eta": None if claims.eta is None else claims.eta / 1000,
        "expires": None if claims.expires is None else claims.expires / 1000,
        "retries": claims.retries,
        "max_retries": claims.max_retries,
        "codec": claims.codec,
        "length": claims.length,
        "digest": claims.digest.hex(),
        "root": claims.root,
        "parent": claims.parent,
        "waits_for": None if claims.compose is None else claims.compose.size,
    }
    return {name: value for name, value in told.items() if value is not None}
