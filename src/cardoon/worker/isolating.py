"""Plans isolation: what tasks ask for, whether pool and machine can hold it, and what then is held."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cardoon.builtins import PREFIX
from cardoon.config import Settings
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured
from cardoon.sandbox.confining import tell_level
from cardoon.sandbox.layers import REMEDIES, Layers
from cardoon.sandbox.merging import MAX_PROFILES, SETTING, Choice, Profiles, Row
from cardoon.sandbox.probing import probe
from cardoon.sandbox.profile import Level, Sandbox
from cardoon.security.policing import FilePolicy
from cardoon.worker.catalogue import Catalogue
from cardoon.worker.hidden import find_secrets
from cardoon.worker.isolation import Isolation

logger = logging.getLogger(__name__)

ISOLATED = "isolated"
"""The pool that has a process for each task."""
BEST_EFFORT = "unsafe_sandbox_best_effort"
_MAX_NAMED = 8
"""Tasks that an error names; the rest is counted."""


def isolate(deployment: Deployment, catalogue: Catalogue, *, queues: Iterable[str]) -> Isolation:
    """`plan_isolation` for a worker, with what its policy file says."""
    settings = deployment.settings
    holds = settings.worker_pool == ISOLATED or settings.worker_sandbox is not None
    return plan_isolation(
        settings,
        catalogue,
        rows=rows_of(deployment),
        queues=queues,
        secrets=find_secrets(deployment) if holds else (),
    )


def rows_of(deployment: Deployment) -> tuple[Row, ...]:
    """The `[[sandbox]]` of the policy file, as it was read last."""
    policy = deployment.policy()
    return policy.rules.sandboxes if isinstance(policy, FilePolicy) else ()


def profiles_of(settings: Settings, catalogue: Catalogue, rows: Sequence[Row]) -> Profiles:
    """The sandboxes that the tasks of an app may get."""
    own = {name: rules.sandbox for name, rules in catalogue.items() if rules.sandbox is not None}
    profiles = Profiles(rows=rows, own=own, setting=settings.worker_sandbox)
    if len(profiles.table) > MAX_PROFILES:
        raise ImproperlyConfigured(
            f"sandbox: {len(profiles.table)} different profiles in one worker; at most {MAX_PROFILES}: "
            "let tasks share some, or have another worker with queues of its own run the rest"
        )
    return profiles


def plan_isolation(
    settings: Settings,
    catalogue: Catalogue,
    *,
    rows: Sequence[Row],
    queues: Iterable[str],
    secrets: Sequence[str] = (),
    find_layers: Callable[[], Layers] = probe,
) -> Isolation:
    """What this worker's pool holds its tasks to; `ImproperlyConfigured` if it cannot.

    With `unsafe_sandbox_best_effort` what cannot be held is a warning. `find_layers` tries what this machine
    can enforce.
    """
    profiles, places = profiles_of(settings, catalogue, rows), tuple(queues)
    if settings.worker_pool == ISOLATED:
        wanted = _used(profiles, catalogue, places)
        return _plan_each(settings, profiles, wanted, find_layers(), secrets)
    objections = [
        *_find_unheld(profiles, catalogue, places, settings.worker_pool),
        *_find_unshared(settings),
    ]
    if objections and not settings.unsafe_sandbox_best_effort:
        raise ImproperlyConfigured(
            f"{'; '.join(objections)}; use -P {ISOLATED}, or {BEST_EFFORT}=True to go without"
        )
    if settings.worker_sandbox is None or settings.worker_pool == "solo":
        return _warned(Isolation(profiles, chooses=False, warnings=objections))
    return _plan_shared(settings, objections, find_layers(), secrets)


def _plan_each(
    settings: Settings,
    profiles: Profiles,
    wanted: Mapping[Sandbox, str],
    layers: Layers,
    secrets: Sequence[str],
) -> Isolation:
    """For a process of each task. `wanted` are the profiles that tasks may get, each with one of them."""
    missing = _find_missing(wanted, layers)
    _check_missing(settings, missing)
    reached = [_reach(one.level, layers) for one in profiles.table]
    return _warned(
        Isolation(
            profiles,
            chooses=True,
            reached=reached,
            warnings=missing,
            layers=layers,
            secrets=secrets,
            is_best_effort=settings.unsafe_sandbox_best_effort,
        )
    )


def _plan_shared(
    settings: Settings,
    objections: Sequence[str],
    layers: Layers,
    secrets: Sequence[str],
) -> Isolation:
    """For processes that serve many tasks: all are held to what such a process can be held to."""
    asked = settings.worker_sandbox
    assert asked is not None
    held = dataclasses.replace(asked, level=min(asked.level, Level.CONFINED), tmp=0, cpu=None)
    missing = _find_missing({held: f"the setting {SETTING}"}, layers)
    _check_missing(settings, missing)
    return _warned(
        Isolation(
            Profiles(setting=held),
            chooses=False,
            reached=[f"shared-{_reach(held.level, layers)}"],
            warnings=[*objections, *missing],
            layers=layers,
            secrets=secrets,
            is_best_effort=settings.unsafe_sandbox_best_effort,
        )
    )


def _used(
    profiles: Profiles, catalogue: Iterable[str], queues: Sequence[str]
) -> dict[Sandbox, str]:
    """The profiles that tasks of these queues may get, each with who gets it."""
    wanted = {profiles.table[0]: "every task without a sandbox of its own"}
    for task in sorted(catalogue):
        if not task.startswith(PREFIX):
            for choice in profiles.choices(task, queues):
                wanted.setdefault(choice.profile, f"{task} ({choice.source})")
    return wanted


def _find_missing(wanted: Mapping[Sandbox, str], layers: Layers) -> list[str]:
    """A line for each level that cannot be reached here, and for each layer that is missing for it.

    And for each user that this worker cannot make of a task.
    """
    found = []
    levels: dict[Level, str] = {}
    for profile, who in wanted.items():
        levels.setdefault(profile.level, who)
        for name, present in (("uid", os.getuid()), ("gid", os.getgid())):
            if os.geteuid() != 0 and getattr(profile, name) not in {None, present}:
                found.append(
                    f"sandbox: {name}={getattr(profile, name)}, which {who} needs, takes a worker that is "
                    f"root; this one is {present}"
                )
    for level, who in sorted(levels.items()):
        if missing := layers.missing_for(level):
            found.append(f"sandbox: level {level.text!r}, which {who} needs, is not to be had here")
            found += [f"{one.name}: {one.detail}; needs {REMEDIES[one.name]}" for one in missing]
    return list(dict.fromkeys(found))


def _check_missing(settings: Settings, missing: Sequence[str]) -> None:
    if missing and not settings.unsafe_sandbox_best_effort:
        told = "\n  ".join(missing)
        raise ImproperlyConfigured(
            f"{told}\nsee `cardoon sandbox check`; ask for a lower level ({SETTING}, or [[sandbox]] in the "
            f"policy file), or set {BEST_EFFORT}=True to run with what there is"
        )


def _reach(level: Level, layers: Layers) -> str:
    """What of a level is enforced, as results tell it."""
    return tell_level(min(level, layers.reached))


def _warned(isolation: Isolation) -> Isolation:
    for one in isolation.warnings:
        logger.warning("not held: %s", one)
    return isolation


class Wish(NamedTuple):
    """A task that asks for a sandbox of its own, and where that is said."""

    task: str
    choice: Choice


def find_wishes(profiles: Profiles, catalogue: Iterable[str], queues: Iterable[str]) -> list[Wish]:
    """The tasks that a pool without a process for each cannot hold."""
    places = tuple(queues)
    return [
        Wish(task, choice)
        for task in sorted(catalogue)
        if not task.startswith(PREFIX)
        for choice in profiles.choices(task, places)
        if not choice.is_shared
    ]


def _find_unheld(
    profiles: Profiles, catalogue: Catalogue, queues: Iterable[str], pool: str
) -> list[str]:
    wishes = find_wishes(profiles, catalogue, queues)
    if not wishes:
        return []
    named = [f"{one.task} ({one.choice.source})" for one in wishes[:_MAX_NAMED]]
    more = f" and {len(wishes) - _MAX_NAMED} more" if len(wishes) > _MAX_NAMED else ""
    told = f"{', '.join(named)}{more}"
    return [
        f"sandbox: worker_pool={pool!r} has no process for each task, and so no sandbox for {told}"
    ]


def _find_unshared(settings: Settings) -> list[str]:
    """What of `worker_sandbox` processes cannot be held to that serve many tasks."""
    profile, pool = settings.worker_sandbox, settings.worker_pool
    if profile is None:
        return []
    if pool == "solo":
        return [f"{SETTING}: worker_pool={pool!r} runs tasks in the process that holds the keys"]
    found = []
    if profile.level is Level.STRICT:
        found.append("level='strict', which needs a process for each task")
    if profile.cpu is not None:
        found.append(f"cpu={profile.cpu:g}, which would count all tasks of a process together")
    if isinstance(profile.network, tuple):
        found.append("a list of addresses as network, which belongs to one task")
    return [f"{SETTING}: worker_pool={pool!r} cannot hold {one}" for one in found]
