"""Every error that Cardoon raises, and the three ways a task may end itself.

    CardoonError
    ├── ImproperlyConfigured        a setting is wrong, or two contradict each other
    ├── OperationalError            the broker or result backend did not answer in time
    ├── EncodeError                 arguments or a result that the serializer cannot carry
    ├── MessageError                bytes that are not a message
    ├── SecurityError
    │   ├── IdentityError           our own identity cannot sign now
    │   └── RefusedError            the gate's word on one message; carries a `Refusal`
    ├── TaskError
    │   ├── AlreadyRegistered, NotRegistered, InvalidTaskError
    │   ├── TimeoutError            a result did not come in time
    │   ├── IncompleteStream        of those that a task has called, some have not ended
    │   ├── MaxRetriesExceededError, TaskRevokedError, TaskDeniedError, ChordError, QueueNotFound
    │   ├── ScheduleError           a periodic task cannot be kept, or is not there
    │   ├── WorkerLostError, TimeLimitExceeded, Terminated
    │   └── RemoteError             a task's exception whose type is not rebuilt here
    └── TaskPredicate               raised by task code to say how it ends
        └── Retry, Ignore, Reject, Replaced
    SoftTimeLimitExceeded, SoftShutdown    raised inside a running task

Names without the ending `Error` are Celery's, which users catch. Those at the end are Celery's second
names, and warnings that nothing here gives, so that filters can name them.
"""

from __future__ import annotations

import enum
from typing import Any


class Refusal(enum.StrEnum):
    """Why a message was refused: stable codes for quarantine, audit and metrics.

    In the order of the checks in `security.gate`.
    """

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    UNSIGNED = "unsigned"
    NOT_ACCEPTED = "content-not-accepted"
    UNKNOWN_SIGNER = "unknown-signer"
    CERTIFICATE_NOT_YET_VALID = "certificate-not-yet-valid"
    CERTIFICATE_EXPIRED = "certificate-expired"
    REVOKED = "certificate-revoked"
    BAD_SIGNATURE = "bad-signature"
    BAD_CLAIMS = "bad-claims"
    WRONG_KIND = "wrong-kind"
    ISSUED_IN_FUTURE = "issued-in-future"
    EXPIRED = "expired"
    WRONG_AUDIENCE = "wrong-audience"
    WRONG_LENGTH = "wrong-length"
    WRONG_DIGEST = "wrong-digest"
    CODEC_NOT_ACCEPTED = "codec-not-accepted"
    DENIED = "denied"
    NOT_ENCRYPTED = "not-encrypted"
    TOO_MANY_SESSIONS = "too-many-sessions"
    REPLAYED = "replayed"
    BEFORE_EPOCH = "before-epoch"
    UNKNOWN_KEY = "unknown-key"
    UNDECRYPTABLE = "undecryptable"
    UNDECODABLE = "undecodable"
    BOMB = "decompression-bomb"
    WRONG_REQUEST = "wrong-request"
    WRONG_INPUT = "wrong-input"
    WRONG_ID = "wrong-id"


class CardoonError(Exception):
    """The root of every error that Cardoon raises on its own account."""


class ImproperlyConfigured(CardoonError):
    """A setting is unknown, has a wrong value, or contradicts another."""


class OperationalError(CardoonError):
    """The broker or the result backend did not do what was asked in time."""


class EncodeError(CardoonError, TypeError):
    """Arguments or a result hold something that the serializer cannot carry."""


class MessageError(CardoonError, ValueError):
    """Bytes that do not parse as a message."""


class SecurityError(CardoonError):
    """An identity, a key or a message cannot be trusted."""


class IdentityError(SecurityError):
    """Our own identity cannot sign now: its certificate has expired, or its key does not fit."""


class DriftError(SecurityError):
    """Code is not what its baseline says, and so is not to run."""


class RefusedError(SecurityError):
    """The gate refuses a message.

    `reason` is the stable code; `detail` says more and never quotes the body.
    """

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


class TaskError(CardoonError):
    """The root of errors about tasks."""


class AlreadyRegistered(TaskError):
    """Two different functions want one task name."""


class NotRegistered(TaskError, KeyError):
    """No task has this name here."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class InvalidTaskError(TaskError, TypeError):
    """A call does not fit the task: arguments, options or limits."""


class QueueNotFound(TaskError, KeyError):
    """A queue that the settings do not allow, or none where they lead."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ScheduleError(TaskError, ValueError):
    """An entry cannot be kept as it is, is not there, or was changed by somebody else meanwhile."""


class TimeoutError(TaskError):
    """A result did not arrive within the time asked for."""


class IncompleteStream(TaskError):
    """The results that a task has called are not all there yet."""


class MaxRetriesExceededError(TaskError):
    """A task asked for one more retry than it has."""


class TaskRevokedError(TaskError):
    """The task was revoked, or it expired before it could run."""


class TaskDeniedError(TaskError):
    """The policy does not let the sender have this task run; it did not (`security_policy`)."""


class ChordError(TaskError):
    """One of the tasks that a chord's body waits for did not succeed."""


class WorkerLostError(TaskError):
    """The process that ran the task died under it."""


class TimeLimitExceeded(TaskError):
    """The task ran into its hard time limit and was killed."""


class Terminated(TaskError):
    """The running task was stopped on request."""


class RemoteError(TaskError):
    """A task failed with an exception that is not rebuilt on this side.

    Only exceptions on a short allow-list are rebuilt, because to build an object
    that a message names is to let the message choose code. `type_name` and
    `module` say what was raised there.
    """

    def __init__(self, type_name: str, message: str, module: str = "") -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.message = message
        self.module = module


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task whose soft time limit has passed; it may clean up."""


class SoftShutdown(Exception):
    """Raised inside a task whose worker is about to stop; the task is handed back."""


class TaskPredicate(CardoonError):
    """Raised by task code to say how it ends; not a failure."""


class Ignore(TaskPredicate):
    """The task ends without a result."""


class Replaced(TaskPredicate):
    """Another canvas takes the task's place; raised by `self.replace(signature)`."""

    def __init__(self, signature: Any) -> None:
        super().__init__("replaced")
        self.signature = signature


class Reject(TaskPredicate):
    """The task refuses its message: back to the queue, or to the dead letters."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:  # noqa: FBT001, FBT002
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue


class Retry(TaskPredicate):
    """The task is to run again, at `when` seconds since the epoch.

    `exc` is the exception that made it necessary, `sig` a signature that replaces
    the message if arguments or options changed.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | None = None,
        *,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.when = when
        self.is_eager = is_eager
        self.sig = sig

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"retry: {self.exc!r}" if self.exc is not None else "retry"


class CardoonWarning(UserWarning):
    """The root of warnings; this version has none."""


CeleryError = CardoonError
BackendError = BackendGetMetaError = BackendStoreError = OperationalError
DecodeError = MessageError
CeleryWarning = AlwaysEagerIgnored = DuplicateNodenameWarning = CardoonWarning
DuplicateTaskNameWarning = FixupWarning = NotConfigured = SecurityWarning = CardoonWarning
CDeprecationWarning = DeprecationWarning
CPendingDeprecationWarning = PendingDeprecationWarning

_NOT_HERE = {
    "CeleryCommandException": "commands raise click's exceptions",
    "IncompleteStream": "messages are never read from a stream",
    "WorkerShutdown": "a task cannot stop its worker; send the worker SIGTERM",
    "WorkerTerminate": "a task cannot stop its worker; send the worker SIGQUIT",
    "reraise": "use `raise ... from error`",
}


def __getattr__(name: str) -> Any:
    # An ImportError, because `from ... import` would drop the text of an AttributeError.
    if name in _NOT_HERE:
        raise ImportError(f"cardoon.exceptions has no {name}: {_NOT_HERE[name]}")
    raise AttributeError(f"module 'cardoon.exceptions' has no attribute {name!r}")
