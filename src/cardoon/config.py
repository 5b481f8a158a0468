"""Settings: read once, validated, frozen.

`Conf` is what users write into (`app.conf.update(...)`, `app.conf.task_serializer = ...`); `Settings`
is the frozen value that everything else is built from. Names are Celery's wherever Celery has one.

Environment variables are read here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardoon.annotations import parse_annotations
from cardoon.celery_names import OLD_NAMES, with_present_names
from cardoon.celery_settings import UNNEEDED, find_reason
from cardoon.contents import COMPRESSIONS, JSON, PICKLE, find_content, is_built_in
from cardoon.detection_settings import DetectionSettings
from cardoon.exceptions import ImproperlyConfigured
from cardoon.option import (
    boolean,
    celery_bridge,
    choice,
    integer,
    names,
    optional,
    paths,
    priority,
    publish_policy,
    rate,
    sandbox,
    seconds,
    status_address,
    text,
    timezone,
    tls_options,
    transport,
    urls,
)
from cardoon.queues import EXCHANGE_TYPES, Queue, parse_queue_name, parse_queues, tell_queues
from cardoon.routes import Entry, exchange_name, parse_routes
from cardoon.sandbox.profile import Sandbox
from cardoon.setting import Option, setting
from cardoon.timetable import EMPTY, STANDARD, Timetable, parse_scheduler, parse_timetable

logger = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "CARDOON_"
ROLE_VARIABLE = "CARDOON_PROCESS"
"""Set by the supervisor to "task" in processes that run task code and must hold no secret."""
WITHHELD = "withheld:"
"""What a variable that holds a secret reads as in a task process; the variable's name follows."""
POOLS = ("prefork", "isolated", "threads", "asyncio", "solo")
_LEAST_LEASE = 1.0
_MOST_SHOWN = 200
"""Characters of a wrong value in its error."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings(DetectionSettings):
    """Every setting, checked. docs/configuration.md explains each one to users."""

    # Where things are
    broker_url: str = setting("", urls, secret=True)
    result_backend: str = setting("", urls, secret=True)
    broker_use_ssl: bool | Mapping[str, Any] | None = setting(
        None, optional(tls_options), secret=True
    )
    redis_backend_use_ssl: bool | Mapping[str, Any] | None = setting(
        None, optional(tls_options), secret=True
    )
    unsafe_allow_plaintext_broker: bool = setting(False, boolean)
    unsafe_allow_unverified_tls: bool = setting(False, boolean)
    unsafe_allow_eviction: bool = setting(False, boolean)
    broker_transport_options: Mapping[str, Any] = setting({}, transport)
    result_backend_transport_options: Mapping[str, Any] = setting({}, transport)
    celery_broker_url: str = setting("", urls, secret=True)
    celery_result_backend: str = setting("", urls, secret=True)
    unsafe_celery_bridge: Mapping[str, Any] = setting({}, celery_bridge)
    state_directory: str = setting(".cardoon", text)
    include: tuple[str, ...] = setting((), names)
    imports: tuple[str, ...] = setting((), names)
    enable_utc: bool = setting(True, boolean)
    timezone: str = setting("UTC", timezone)

    # Who is trusted
    security_key: str = setting("", text, secret=True)
    security_key_password: str = setting("", text, secret=True)
    security_certificate: str = setting("", text)
    security_cert_store: tuple[str, ...] = setting((), paths)
    security_ca_certificates: tuple[str, ...] | Mapping[str, str] = setting((), paths)
    security_revoked: tuple[str, ...] = setting((), paths)
    security_digest: str = setting("sha256", choice("sha256", "sha384", "sha512"))
    security_domain: str = setting("default", text)
    security_max_age: float = setting(86400.0, seconds(1, 366 * 86400))
    security_clock_skew: float = setting(60.0, seconds(0, 3600))
    security_expiry_warning: float = setting(30 * 86400.0, seconds(0, 366 * 86400))
    security_send_chain: bool = setting(False, boolean)
    security_policy: str = setting("", text)
    security_encrypt: str = setting("off", choice("off", "body"))
    security_keyset: str = setting("", text)
    security_reply_keyset: str = setting("", text)
    security_require_encryption: bool = setting(False, boolean)
    quarantine_max_messages: int = setting(10_000, integer(100, 10_000_000))
    quarantine_max_bytes: int = setting(256 << 20, integer(1 << 20, 1 << 40))
    message_max_bytes: int = setting(8 << 20, integer(1024, 256 << 20))

    # What is sent
    accept_content: tuple[str, ...] = setting(("auth",), names)
    result_accept_content: tuple[str, ...] | None = setting(None, optional(names))
    task_serializer: str = setting("auth", text)
    result_serializer: str = setting("", text)
    event_serializer: str = setting("auth", choice("auth"))
    task_send_sent_event: bool = setting(False, boolean)
    worker_send_task_events: bool = setting(False, boolean)
    task_compression: str | None = setting(None, optional(choice(*COMPRESSIONS)))
    unsafe_allow_pickle: bool = setting(False, boolean)
    task_default_queue: str = setting("celery", parse_queue_name)
    task_default_exchange: str | None = setting(None, optional(exchange_name))
    task_default_exchange_type: str | None = setting(None, optional(choice(*EXCHANGE_TYPES)))
    task_default_routing_key: str | None = setting(None, optional(text))
    task_queues: tuple[Queue, ...] = setting((), parse_queues, tell=tell_queues)
    task_create_missing_queues: bool = setting(True, boolean)
    task_routes: tuple[Entry, ...] = setting((), parse_routes, tell=None)
    task_annotations: tuple[Any, ...] = setting((), parse_annotations, tell=None)
    task_default_priority: int = setting(0, priority)
    task_ignore_result: bool = setting(False, boolean)
    task_publish_retry: bool = setting(True, boolean)
    task_publish_retry_policy: Mapping[str, Any] = setting({}, publish_policy)
    task_publish_timeout: float = setting(10.0, seconds(0.01, 3600))
    task_always_eager: bool = setting(False, boolean)
    task_eager_propagates: bool = setting(False, boolean)
    result_extended: bool = setting(False, boolean)
    result_expires: float | None = setting(86400.0, optional(seconds(1, 366 * 86400)))

    # What is sent by itself
    beat_schedule: Timetable = setting(EMPTY, parse_timetable, tell=None)  # noqa: RUF009  # as all the others
    beat_max_loop_interval: float = setting(0.0, seconds(0, 3600))
    beat_cron_starting_deadline: float | None = setting(None, optional(seconds(0, 366 * 86400)))
    beat_scheduler: str = setting(STANDARD, parse_scheduler)

    # How tasks run
    task_acks_late: bool = setting(True, boolean)
    task_acks_on_failure_or_timeout: bool = setting(True, boolean)
    task_reject_on_worker_lost: bool = setting(True, boolean)
    task_max_crashes: int = setting(3, integer(1, 100))
    task_store_errors_even_if_ignored: bool = setting(False, boolean)
    task_track_started: bool = setting(False, boolean)
    task_time_limit: float | None = setting(None, optional(seconds(0.01, 30 * 86400)))
    task_soft_time_limit: float | None = setting(None, optional(seconds(0.01, 30 * 86400)))
    task_default_rate_limit: str | float | None = setting(None, optional(rate))
    worker_direct: bool = setting(False, boolean)
    worker_enable_remote_control: bool = setting(True, boolean)
    worker_pool: str = setting("prefork", choice(*POOLS))
    worker_concurrency: int | None = setting(None, optional(integer(1, 10_000)))
    worker_prefetch_multiplier: int = setting(0, integer(0, 10_000))
    worker_max_tasks_per_child: int | None = setting(None, optional(integer(1, 1 << 31)))
    worker_max_memory_per_child: int | None = setting(None, optional(integer(1, 1 << 40)))
    worker_sandbox: Sandbox | None = setting(  # noqa: RUF009  # as all the others
        None, optional(sandbox), tell=lambda found: found and found.to_mapping()
    )
    unsafe_sandbox_best_effort: bool = setting(False, boolean)
    worker_soft_shutdown_timeout: float = setting(25.0, seconds(0, 86400))
    worker_pass_environment: tuple[str, ...] = setting((), names)
    worker_metrics_address: str = setting("", status_address)
    worker_metrics_token: str = setting("", text, secret=True)
    unsafe_allow_open_metrics: bool = setting(False, boolean)
    worker_hijack_root_logger: bool = setting(True, boolean)
    worker_log_format: str = setting(
        "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s", text
    )
    worker_task_log_format: str = setting(
        "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s", text
    )

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={'***' if OPTIONS[name].secret and getattr(self, name) else value!r}"
            for name, value in changed(self).items()
        )
        return f"Settings({shown})"


OPTIONS: Mapping[str, Option] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(Settings)
}
SECRETS = tuple(name for name, option in OPTIONS.items() if option.secret)


def changed(settings: Settings) -> dict[str, Any]:
    """The settings that differ from their default."""
    default = Settings()
    return {
        name: getattr(settings, name)
        for name in OPTIONS
        if getattr(settings, name) != getattr(default, name)
    }


def check_setting(name: str, value: object) -> Any:
    """The value as its option reads it; `ImproperlyConfigured` names setting, value and remedy."""
    option = OPTIONS.get(name)
    if option is None:
        if name in OLD_NAMES:
            raise ImproperlyConfigured(f"setting {name!r} is called {OLD_NAMES[name]!r} now")
        if reason := find_reason(name):
            raise ImproperlyConfigured(f"setting {name!r} is Celery's and not here: {reason}")
        close = difflib.get_close_matches(name, OPTIONS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "; see docs/configuration.md"
        raise ImproperlyConfigured(f"unknown setting {name!r}{hint}")
    try:
        return option.parse(value)
    except (TypeError, ValueError) as error:
        shown = repr(value)
        if option.secret or len(shown) > _MOST_SHOWN:
            shown = "the given value"
        raise ImproperlyConfigured(f"{name}: {shown} {error}") from None


class Conf:
    """The settings of an app, open for writing: attributes, items and `update`."""

    __slots__ = ("_environ", "_explicit", "_settings", "_watch")

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._watch: tuple[Callable[[], object], Callable[[], object]] | None = None
        self._explicit: dict[str, Any] = {}
        self._settings: Settings | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in OPTIONS:
            check_setting(name, None)
        return getattr(self.settings(), name)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.update({name: value})

    __getitem__ = __getattr__
    __setitem__ = __setattr__

    def __contains__(self, name: object) -> bool:
        return name in OPTIONS

    def __iter__(self) -> Iterator[str]:
        return iter(OPTIONS)

    def __repr__(self) -> str:
        return repr(self.settings()).replace("Settings(", "Conf(", 1)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a setting, or `default` for a name that is no setting."""
        return getattr(self.settings(), name) if name in OPTIONS else default

    def update(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set several settings, or, if one of them is wrong, none. Celery's old names will do."""
        self._explicit = {**self._explicit, **self._check({**(values or {}), **more})}
        self._settings = None

    def reset(self, values: Mapping[str, Any]) -> None:
        """Set these, and take back whatever else was set by hand; or, if one is wrong, do nothing."""
        self._explicit = self._check(values)
        self._settings = None

    def _check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        given = with_present_names(values, known=OPTIONS)
        for name in UNNEEDED.keys() & given.keys():
            logger.info("setting %s changes nothing here: %s", name, UNNEEDED[name])
        return {
            name: check_setting(name, value)
            for name, value in given.items()
            if name not in UNNEEDED
        }

    @property
    def explicit(self) -> Mapping[str, Any]:
        """What was set by hand, without defaults and environment."""
        return self._explicit

    def tell(self) -> dict[str, Any]:
        """`explicit` as JSON, for a worker, which has none of the app's code."""
        return {
            name: tell(value)
            for name, value in self._explicit.items()
            if (tell := OPTIONS[name].tell) is not None
        }

    def draft(self) -> Settings:
        """The settings so far, each checked by itself: when the app, which has a say, is yet to come."""
        return Settings(**{**read_environment(self._environ), **self._explicit})

    def settings(self) -> Settings:
        """The frozen settings of this moment; the same object until something changes.

        A value set by hand wins over `CARDOON_<NAME>` in the environment, and that over the default.
        """
        if self._settings is None:
            return self._read()
        return self._settings

    def watch(self, before: Callable[[], object], after: Callable[[], object]) -> None:
        """Call these around the first time that the settings are read; both may change settings."""
        self._watch = (before, after)

    def _read(self) -> Settings:
        watch, self._watch = self._watch, None
        try:
            if watch is not None:
                watch[0]()
            settings = freeze({**read_environment(self._environ), **self._explicit})
        except BaseException:
            self._watch = watch
            raise
        self._settings = settings
        if watch is not None:
            watch[1]()
        return self.settings()


def freeze(values: Mapping[str, Any]) -> Settings:
    """Settings from checked values; refuses combinations that contradict each other."""
    settings = Settings(**values)
    settings = _check_contents(settings)
    if settings.task_time_limit and settings.task_soft_time_limit:  # noqa: SIM102
        if settings.task_soft_time_limit >= settings.task_time_limit:
            raise ImproperlyConfigured(
                f"task_soft_time_limit={settings.task_soft_time_limit} is not below "
                f"task_time_limit={settings.task_time_limit}; the task could never see it"
            )
    lease = settings.broker_transport_options.get("visibility_timeout", _LEAST_LEASE)
    if lease < _LEAST_LEASE:
        raise ImproperlyConfigured(
            f"broker_transport_options: visibility_timeout={lease} is below {_LEAST_LEASE:g} second; "
            "no worker could renew its leases in time"
        )
    return settings


def content_kind(name: str, *, setting: str = "accept_content") -> str:
    """`json` for the name of messages without signature, `auth` for any other that is known."""
    return "auth" if find_content(name, setting=setting).is_signed else "json"


def _check_contents(settings: Settings) -> Settings:
    """Refuse serializers that do not fit what is accepted; results are written like tasks unless said."""
    sends = find_content(settings.task_serializer, setting="task_serializer")
    if not settings.result_serializer:
        # What task processes make is never unpickled, by anybody.
        like_tasks = "auth" if sends.media_type == PICKLE else settings.task_serializer
        settings = dataclasses.replace(settings, result_serializer=like_tasks)
    answers = find_content(settings.result_serializer, setting="result_serializer")
    accepting = "result_accept_content" if settings.result_accept_content else "accept_content"
    _check_pickle(settings)
    if settings.security_encrypt != "off" and not (sends.is_signed and answers.is_signed):
        raise ImproperlyConfigured(
            f"security_encrypt={settings.security_encrypt!r}, but task_serializer={sends.name!r} and "
            f"result_serializer={answers.name!r}: what nobody has signed anybody can have sealed; use 'auth'"
        )
    for writer, content, name in (
        ("task_serializer", sends, "accept_content"),
        ("result_serializer", answers, accepting),
    ):
        accepted = getattr(settings, name)
        if content not in {find_content(one, setting=name) for one in accepted}:
            raise ImproperlyConfigured(
                f"{writer}={content.name!r}, but {name}={list(accepted)!r}: what this app sends "
                f"its own workers and clients would refuse; add {content.name!r} to {name}"
            )
    names = {find_content(one).name for one in settings.accept_content}
    if "json" in names and len(names) > 1 and "auth" not in names and sends.is_signed:
        raise ImproperlyConfigured(
            f"accept_content={list(settings.accept_content)!r} takes JSON without signature from anybody, "
            f"but task_serializer={sends.name!r} signs; write 'auth' for signed JSON in place of 'json', "
            "or beside it if JSON without signature is wanted as well"
        )
    readable = {find_content(one).media_type for one in getattr(settings, accepting)}
    if not is_built_in(answers.media_type) and JSON not in readable:
        raise ImproperlyConfigured(
            f"result_serializer={answers.name!r}: what the worker itself says of a task is JSON, since it "
            f"imports no code of yours; add 'auth' to {accepting}"
        )
    return settings


def _check_pickle(settings: Settings) -> None:
    """Pickles are for the arguments of tasks, and where they are allowed by name."""
    if find_content(settings.result_serializer).media_type == PICKLE:
        raise ImproperlyConfigured(
            "result_serializer='pickle': task code makes results, and to unpickle is to run what they "
            "say; use 'auth', 'msgpack' or 'yaml'"
        )
    for name in ("accept_content", "result_accept_content"):
        listed = getattr(settings, name) or ()
        if PICKLE not in {find_content(one, setting=name).media_type for one in listed}:
            continue
        if name == "result_accept_content":
            raise ImproperlyConfigured(f"{name}: results are never pickled; take 'pickle' out")
        if not settings.unsafe_allow_pickle:
            raise ImproperlyConfigured(
                f"{name} names 'pickle': whoever may sign tasks could then run any code in this app's "
                "workers; take it out, or set unsafe_allow_pickle=True if you trust them with that"
            )


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Settings from `CARDOON_<NAME>` variables; a name that is no setting is left alone."""
    found = {}
    for name in OPTIONS:
        value = environ.get(ENVIRONMENT_PREFIX + name.upper())
        if value:
            found[name] = check_setting(name, value)
    return found


def is_task_process(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs task code on behalf of a worker, and must hold no secret."""
    return environ.get(ROLE_VARIABLE) == "task"


def reveal(settings: Settings, name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The value of a secret setting, its reference (`file:PATH` or `env:NAME`) followed.

    Called only in the process that needs the secret, so that no other one ever holds it.
    """
    return follow(str(getattr(settings, name)), name=name, environ=environ)


def follow(value: str, *, name: str, environ: Mapping[str, str] = os.environ) -> str:
    """What a value or a reference says; `name` is the setting's, for errors."""
    if value.startswith(WITHHELD):
        raise ImproperlyConfigured(f"{name} is withheld from processes that run tasks")
    if value.startswith("env:"):
        variable = value.removeprefix("env:")
        if not environ.get(variable):
            raise ImproperlyConfigured(f"{name}: the environment has no variable {variable!r}")
        return environ[variable]
    if value.startswith("file:"):
        path = Path(value.removeprefix("file:"))
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ImproperlyConfigured(f"{name}: cannot read {str(path)!r}: {error}") from error
    return value


def find_state_directory(settings: Settings, start: Path | None = None) -> Path:
    """The project's state directory: the nearest one here or above, else one here.

    So that a client started in a sub-folder of the project finds the project's own broker.
    """
    name = Path(settings.state_directory).expanduser()
    here = (start or Path.cwd()).resolve()
    if name.is_absolute():
        return name
    for folder in (here, *here.parents):
        if (folder / name).is_dir():
            return folder / name
    return here / name


Reveal = Callable[[Settings, str], str]
