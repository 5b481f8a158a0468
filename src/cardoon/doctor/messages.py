"""Checks of what a worker accepts, and what it may be made to do by those who are let in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cardoon.config import content_kind
from cardoon.contents import find_content, is_pickle
from cardoon.doctor.check import Severity, check
from cardoon.doctor.lures import Lure
from cardoon.doctor.scene import OTHERS_WRITE, NotApplicableError, Scene, UncheckedError
from cardoon.exceptions import CardoonError
from cardoon.security.policing import load_rules
from cardoon.security.rules import Rules

_WEEK = 7 * 86_400
_LONG_SKEW = 300
_LARGE = 64 << 20


@check(
    "MSG-01",
    Severity.CRITICAL,
    "signatures of messages",
    looks_at="accept_content, task_serializer; with --send-canaries what a worker does with messages that are "
    "not signed, changed, forged",
    remedy='accept_content = ["auth"]; task_serializer = "auth"',
)
def signatures(scene: Scene) -> Iterator[str]:
    """Unsigned tasks are anybody's who reaches the broker."""
    settings = scene.settings
    for name in settings.accept_content:
        if content_kind(name) == "json":
            yield f"accept_content names {name!r}, which is not signed"
    if content_kind(settings.task_serializer) == "json":
        yield f"task_serializer={settings.task_serializer!r} does not sign"
    yield from _see(scene, Lure.UNSIGNED, Lure.CHANGED, Lure.FORGED)


@check(
    "MSG-02",
    Severity.HIGH,
    "a policy of who may do what",
    looks_at="security_policy; with --send-canaries what a worker does with one that it denies",
    remedy="write a policy file (docs/policy.md), set security_policy, `cardoon policy check`",
)
def policy(scene: Scene) -> Iterator[str]:
    """Without one, every key that is trusted may send every task."""
    if scene.canaries is not None and scene.settings.security_policy:
        yield from _see(scene, Lure.DENIED)
    else:
        scene.require_shared()
    if not scene.settings.security_policy:
        yield "security_policy is not set: whoever is trusted may do anything"
    elif scene.status(Path(scene.settings.security_policy).expanduser()) is None:
        yield f"security_policy={scene.settings.security_policy!r} does not exist"


@check(
    "MSG-03",
    Severity.HIGH,
    "how long a message may be acted on",
    looks_at="security_max_age, security_clock_skew; with --send-canaries what a worker does with messages that "
    "are replayed, expired, of another queue",
    remedy="security_max_age = 86400; security_clock_skew = 60",
)
def age(scene: Scene) -> Iterator[str]:
    """Who has copied a message can use it for as long as that, should replay marks be lost."""
    settings = scene.settings
    if settings.security_max_age > _WEEK:
        yield f"security_max_age={settings.security_max_age:g} is more than seven days"
    if settings.security_clock_skew > _LONG_SKEW:
        yield f"security_clock_skew={settings.security_clock_skew:g} is more than five minutes"
    yield from _see(scene, Lure.REPLAYED, Lure.EXPIRED, Lure.ASTRAY)


@check(
    "MSG-04",
    Severity.HIGH,
    "encryption of arguments and results",
    looks_at="security_encrypt",
    remedy='security_encrypt = "body", after `cardoon keys init`',
)
def encryption(scene: Scene) -> Iterator[str]:
    """Whoever reads the broker or a backup of it reads all arguments."""
    scene.require_shared()
    if scene.settings.security_encrypt == "off":
        yield "security_encrypt='off' on a broker that others run"


@check(
    "MSG-05",
    Severity.MEDIUM,
    "signed results that end",
    looks_at="result_serializer, result_accept_content, result_expires",
    remedy='leave result_serializer and result_accept_content out; result_expires = "86400"',
)
def results(scene: Scene) -> Iterator[str]:
    """Who writes into the result store could answer callers in a worker's place."""
    settings = scene.settings
    for name in settings.result_accept_content or ():
        if content_kind(name) == "json":
            yield f"result_accept_content names {name!r}, which is not signed"
    if settings.result_expires is None:
        yield "result_expires is None: results stay for ever"


@check(
    "MSG-06",
    Severity.CRITICAL,
    "pickled arguments",
    looks_at="accept_content, unsafe_allow_pickle",
    remedy="take 'pickle' out of accept_content; unsafe_allow_pickle = False",
)
def pickles(scene: Scene) -> Iterator[str]:
    """To unpickle is to run what the sender says."""
    for name in scene.settings.accept_content:
        if is_pickle(find_content(name).media_type):
            yield f"accept_content names {name!r}"
    if scene.settings.unsafe_allow_pickle:
        yield "unsafe_allow_pickle is on"


def _rules(scene: Scene) -> Rules:
    path = scene.settings.security_policy
    if not path:
        raise NotApplicableError("there is no policy")
    try:
        return load_rules(Path(path).expanduser())
    except CardoonError as error:
        raise UncheckedError(str(error)) from error


@check(
    "MSG-07",
    Severity.MEDIUM,
    "breadth of the policy",
    looks_at="the rules of security_policy",
    remedy="name the tasks that a role needs, such as task = ['shop.*'], in place of '**'",
)
def breadth(scene: Scene) -> Iterator[str]:
    """A rule without names, or with one that covers all, is a policy in name only."""
    for rule in _rules(scene).rules:
        told = {str(one.text) for one in rule.names}
        if not told or "**" in told:
            actions = ", ".join(sorted(one.value for one in rule.actions))
            roles = ", ".join(sorted(rule.roles))
            yield f"rule {rule.number} lets {roles} do {actions} with any name"


@check(
    "MSG-08",
    Severity.MEDIUM,
    "refusal of what is not sealed",
    looks_at="security_require_encryption",
    remedy="security_require_encryption = True, once all senders seal",
)
def sealed_only(scene: Scene) -> Iterator[str]:
    """One sender that forgets to seal is not noticed otherwise."""
    if scene.settings.security_encrypt == "off":
        raise NotApplicableError("nothing is sealed")
    if not scene.settings.security_require_encryption:
        yield "security_require_encryption is off: tasks that nobody has sealed are run"


@check(
    "MSG-09",
    Severity.MEDIUM,
    "the bridge for Celery's messages",
    looks_at="unsafe_celery_bridge",
    remedy="unsafe_celery_bridge = {}, when the last client of Celery's is gone",
)
def bridge(scene: Scene) -> Iterator[str]:
    """It signs what nobody has signed."""
    if scene.settings.unsafe_celery_bridge:
        yield "unsafe_celery_bridge is set: messages without a signature are signed and run"


@check(
    "MSG-10",
    Severity.LOW,
    "a name for the deployment",
    looks_at="security_domain",
    remedy='security_domain = "shop-production", the same on both sides',
)
def domain(scene: Scene) -> Iterator[str]:
    """A message of the test system, copied, is good here if both have one name and one authority."""
    scene.require_shared()
    if scene.settings.security_domain == "default":
        yield "security_domain='default'"


@check(
    "MSG-11",
    Severity.LOW,
    "size of messages",
    looks_at="message_max_bytes",
    remedy="message_max_bytes = 8388608; large things belong into a store of files",
)
def size(scene: Scene) -> Iterator[str]:
    """Each slot of a worker may have to hold as much as that, several times."""
    if scene.settings.message_max_bytes > _LARGE:
        yield f"message_max_bytes={scene.settings.message_max_bytes} is more than 64 MiB"


@check(
    "MSG-12",
    Severity.HIGH,
    "owner and mode of the policy",
    looks_at="the file of security_policy",
    remedy="chown root FILE; chmod 644 FILE",
)
def policy_file(scene: Scene) -> Iterator[str]:
    """Who can write it decides who may do what."""
    path = scene.settings.security_policy
    if not path:
        raise NotApplicableError("there is no policy")
    if wrong := scene.open_to_others(Path(path).expanduser(), OTHERS_WRITE):
        yield wrong


def _see(scene: Scene, *lures: Lure) -> Iterator[str]:
    """The canaries that a worker took; `UncheckedError` where it is not known of each that it was refused."""
    trial = scene.canaries
    if trial is None:
        return
    unknown = []
    for lure in lures:
        seen = trial.find(lure)
        if seen is None:
            unknown.append(f"{lure}: not sent")
        elif seen.was_taken:
            said = f", {seen.detail}" if seen.detail else ""
            yield f"a worker of queue {trial.queue!r} took canary {trial.ids}-{lure}: {seen.fate}{said}"
        elif not trial.withstood(seen):
            unknown.append(str(seen))
    if unknown:
        raise UncheckedError(trial.doubt or f"of canaries it is not known: {'; '.join(unknown)}")


CHECKS = (
    signatures,
    policy,
    age,
    encryption,
    results,
    pickles,
    breadth,
    sealed_only,
    bridge,
    domain,
    size,
    policy_file,
)
