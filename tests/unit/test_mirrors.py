"""What Celery's users import is there under the same name, its root changed."""

from __future__ import annotations

import importlib

import pytest

from cardoon import states
from cardoon.celery_modules import MODULES, find_place, why_absent
from cardoon.utils.log import LOG_LEVELS, base_logger, get_logger, mlevel

STATES = "PENDING RECEIVED STARTED SUCCESS FAILURE REVOKED REJECTED RETRY IGNORED"
STATE_SETS = "READY_STATES UNREADY_STATES EXCEPTION_STATES PROPAGATE_STATES ALL_STATES"
SIGNALS = (
    "before_task_publish after_task_publish task_internal_error task_prerun task_postrun "
    "task_success task_received task_rejected task_unknown task_retry task_failure task_revoked "
    "celeryd_init celeryd_after_setup worker_init worker_before_create_process "
    "worker_process_init worker_process_shutdown worker_ready worker_shutdown "
    "worker_shutting_down setup_logging after_setup_logger after_setup_task_logger beat_init "
    "beat_embedded_init heartbeat_sent eventlet_pool_started eventlet_pool_preshutdown "
    "eventlet_pool_postshutdown eventlet_pool_apply import_modules user_preload_options"
)
NAMES = {
    "celery": "Celery shared_task Task chain group chord signature chunks xmap xstarmap Signature "
    "current_app current_task states maybe_signature subtask bugreport uuid",
    "celery.app": "Celery app_or_default default_app bugreport",
    "celery.app.base": "Celery",
    "celery.app.control": "Control",
    "celery.app.log": "TaskFormatter",
    "celery.app.registry": "TaskRegistry",
    "celery.app.task": "Task Context",
    "celery.app.utils": "Settings bugreport",
    "celery.canvas": "Signature chain chord chunks group maybe_signature signature xmap xstarmap",
    "celery.contrib.abortable": "AbortableTask AbortableAsyncResult ABORTED",
    "celery.events": "Event EventDispatcher EventReceiver group_from",
    "celery.events.dispatcher": "EventDispatcher",
    "celery.events.receiver": "EventReceiver",
    "celery.events.snapshot": "Polaroid",
    "celery.events.state": "State Task Worker",
    "celery.exceptions": "CeleryError ImproperlyConfigured SecurityError OperationalError "
    "TaskPredicate Ignore Reject Retry TaskError QueueNotFound NotRegistered AlreadyRegistered "
    "TimeoutError MaxRetriesExceededError TaskRevokedError InvalidTaskError ChordError "
    "BackendError BackendGetMetaError BackendStoreError SoftTimeLimitExceeded TimeLimitExceeded "
    "WorkerLostError Terminated CeleryWarning AlwaysEagerIgnored DuplicateNodenameWarning "
    "DuplicateTaskNameWarning FixupWarning NotConfigured SecurityWarning CDeprecationWarning "
    "CPendingDeprecationWarning",
    "celery.result": "ResultBase AsyncResult ResultSet GroupResult EagerResult result_from_tuple "
    "allow_join_result",
    "celery.states": f"{STATES} {STATE_SETS} precedence state PRECEDENCE",
    "celery.utils": "uuid gen_unique_id cached_property LOG_LEVELS",
    "celery.utils.log": "get_task_logger get_logger base_logger task_logger mlevel LOG_LEVELS",
    "celery.worker.control": "Panel control_command inspect_command",
    "celery._state": "current_app current_task get_current_app",
    "kombu.exceptions": "OperationalError EncodeError DecodeError",
    "kombu.log": "get_logger",
    "kombu.utils": "uuid",
    "kombu.utils.uuid": "uuid",
    "celery.utils.nodenames": "worker_direct nodename nodesplit",
    "kombu": "Queue Exchange binding",
    "kombu.common": "Broadcast",
    "kombu.entity": "Queue Exchange binding",
    "celery.contrib.django.task": "DjangoTask",
    "celery.contrib.pytest": "pytest_configure",  # which brings celery_app and the others
    "celery.contrib.testing.app": "TestApp setup_default_app",
    "celery.contrib.testing.worker": "start_worker",
    "celery.schedules": "crontab schedule crontab_parser maybe_schedule ParseException solar",
    "celery.signals": SIGNALS,
    "kombu.serialization": "register unregister",
}
"""Modules, and what their users import from them."""

EVERY = [(module, name) for module, names in NAMES.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), EVERY)
def test_a_name_is_there_under_the_new_root(module, name):
    place = find_place(module, name)

    found = importlib.import_module(place.module)

    assert getattr(found, place.name, None) is not None


@pytest.mark.parametrize("module", sorted(NAMES))
def test_an_import_of_all_takes_the_names_that_are_said_to_be_public(module):
    home = importlib.import_module(MODULES[module])
    public = getattr(home, "__all__", None)

    for name in public or ():
        assert hasattr(home, name)


def test_every_module_with_a_counterpart_stands_in_the_table():
    packages = {"celery.contrib", "celery.contrib.django", "celery.contrib.testing"}

    assert set(MODULES) - packages - {"celery.worker"} == set(NAMES)


@pytest.mark.parametrize(
    ("module", "name", "why"),
    [
        ("celery", "bootsteps", "cannot be extended"),
        ("celery.app", "amqp", "attributes of the app"),
        ("celery.worker.consumer", "Consumer", "cannot be exchanged"),
        ("celery.nosuch", "thing", "nothing of that name"),
        ("celery.result", "Nothing", "cardoon.result has no 'Nothing'"),
        ("kombu", "Connection", "no AMQP connections"),
        ("kombu.common", "maybe_declare", "no AMQP connections"),
    ],
)
def test_what_is_not_here_has_a_reason(module, name, why):
    assert why in why_absent(module, name)


@pytest.mark.parametrize(
    ("module", "name", "why"),
    [
        ("cardoon.exceptions", "WorkerShutdown", "send the worker SIGTERM"),
        ("cardoon.utils", "memoize", "functools.lru_cache"),
        ("cardoon.utils.log", "ColorFormatter", "not coloured"),
    ],
)
def test_an_import_of_what_is_refused_says_what_to_do(module, name, why):
    with pytest.raises(ImportError, match=why):
        exec(f"from {module} import {name}")  # as users write it
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = importlib.import_module(module).nosuch


def test_states_compare_by_precedence():
    assert states.state("PENDING") < states.state("STARTED") < states.state("SUCCESS")
    assert states.state("SUCCESS") >= states.state("SUCCESS") > states.state("PROGRESS")
    assert states.state("RETRY") <= states.state("REVOKED")
    assert states.precedence("PROGRESS") == states.NONE_PRECEDENCE


def test_states_have_celerys_order():
    celery = pytest.importorskip("celery.states")

    assert list(states.PRECEDENCE) == list(celery.PRECEDENCE)


def test_levels_are_known_by_name_and_number():
    assert (mlevel("info"), mlevel(30), mlevel(None)) == (20, 30, 0)
    assert (LOG_LEVELS["ERROR"], LOG_LEVELS[40]) == (40, "ERROR")
    assert get_logger("cardoon") is base_logger
