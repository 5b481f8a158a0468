"""Celery's settings that Cardoon does not have, each with the reason.

A setting that would change nothing here is taken and noted; one that asks for something that is not
there is refused, because silence would be taken for consent.
"""

from __future__ import annotations

_CONNECTIONS = "connections are made anew for as long as it takes, and every wait has a deadline"
_EVENTS = "events go through the broker's store, which keeps each for a minute"
_BEAT = "beats take no commands; start or stop them, or pause their entries"
_CONTROL = "commands go by the store of the broker, and have no queues"
_URL = "set broker_url, which says all of it"
_BACKEND = (
    "results are kept in sqlite, redis, postgresql or memory, or sent by rpc; set result_backend"
)
_POOLS = "the pools are made otherwise here"
_OWN_PROCESS = "the parts of the worker cannot be exchanged"

UNNEEDED: dict[str, str] = {
    "beat_schedule_filename": "how far entries were sent is kept in the broker's store",
    "beat_sync_every": "how far an entry was sent is noted with every tick",
    "broker_channel_error_retry": _CONNECTIONS,
    "broker_connection_max_retries": _CONNECTIONS,
    "broker_connection_retry": _CONNECTIONS,
    "broker_connection_retry_on_startup": _CONNECTIONS,
    "broker_connection_timeout": _CONNECTIONS,
    "broker_failover_strategy": "servers are tried in turn, from the one that answered last",
    "broker_heartbeat": _CONNECTIONS,
    "broker_heartbeat_checkrate": _CONNECTIONS,
    "broker_pool_acquire_timeout": _CONNECTIONS,
    "broker_pool_limit": _CONNECTIONS,
    "control_exchange": _CONTROL,
    "control_queue_durable": _CONTROL,
    "control_queue_exclusive": _CONTROL,
    "control_queue_expires": _CONTROL,
    "control_queue_ttl": _CONTROL,
    "redis_max_connections": _CONNECTIONS,
    "redis_retry_on_timeout": _CONNECTIONS,
    "redis_socket_connect_timeout": _CONNECTIONS,
    "redis_socket_keepalive": _CONNECTIONS,
    "redis_socket_timeout": _CONNECTIONS,
    "result_backend_always_retry": _CONNECTIONS,
    "result_backend_base_sleep_between_retries_ms": _CONNECTIONS,
    "result_backend_max_retries": _CONNECTIONS,
    "result_backend_max_sleep_between_retries_ms": _CONNECTIONS,
    "result_cache_max": "clients keep no cache of results",
    "result_chord_join_timeout": "a chord's body is woken by its last member, and joins nothing",
    "result_chord_retry_interval": "a chord's body is woken by its last member, and polls nothing",
    "result_persistent": "results are kept durably, and by rpc:// not at all",
    "task_create_missing_queue_exchange_type": "a queue that nobody declared is found by its name",
    "task_create_missing_queue_type": "queues have no types here",
    "task_default_delivery_mode": "messages are always kept durably",
    "task_default_queue_type": "queues have no types here",
    "task_inherit_parent_priority": "the sender signs every task's priority",
    "task_queue_max_priority": "every queue has the priorities 0 to 9, 9 first",
    "task_protocol": "there is one protocol, and its messages are signed",
    "worker_cancel_long_running_tasks_on_connection_loss": "a lost lease stops its task",
    "worker_deduplicate_successful_tasks": "what was carried out is never run again",
    "worker_detect_quorum_queues": "late acknowledgement needs no detection",
    "worker_disable_prefetch": "workers claim only what they have room for",
    "worker_enable_prefetch_count_reduction": "workers claim only what they have room for",
    "worker_eta_task_limit": "tasks with an ETA wait in the broker, not in the worker",
    "worker_lost_wait": "the death of a process is noticed at once",
    "worker_pool_putlocks": _POOLS,
    "worker_pool_restarts": "who may restart a pool is for the policy to say",
    "worker_proc_alive_timeout": _POOLS,
    "worker_redirect_stdouts": "what tasks print goes where the worker's own output goes",
    "worker_redirect_stdouts_level": "what tasks print goes where the worker's own output goes",
    "worker_state_db": "revocations are kept by the broker",
    "worker_timer_precision": _POOLS,
    "worker_log_color": "logs are not coloured",
}
"""Taken, and noted: there is nothing to set."""

REFUSED: dict[str, str] = {
    **dict.fromkeys(("broker_read_url", "broker_write_url"), "one broker_url is read and written"),
    **dict.fromkeys(("broker_host", "broker_port", "broker_user", "broker_password"), _URL),
    **dict.fromkeys(("broker_vhost", "broker_transport", "broker_login_method"), _URL),
    "result_compression": "set task_compression, which results share",
    "result_exchange": _BACKEND,
    "result_exchange_type": _BACKEND,
    "result_failure_expires": "results and failures expire alike; set result_expires",
    "task_acks_on_failure": "set task_acks_on_failure_or_timeout",
    "task_acks_on_timeout": "set task_acks_on_failure_or_timeout",
    "task_allow_error_cb_on_chord_header": "give header tasks their own link_error",
    "task_remote_tracebacks": "a failed task's traceback is in result.traceback",
    "task_repr_maxlevels": "arguments are never shown",
    "task_retry_on_worker_lost": "set task_reject_on_worker_lost",
    "task_store_eager_result": "eager results are returned, and stored nowhere",
    "worker_autoscaler": "use --autoscale of `cardoon worker`, or app.control.autoscale",
    "worker_disable_rate_limits": "take the rate_limit off the tasks",
    "worker_enable_soft_shutdown_on_idle": "an idle worker stops at once",
    "worker_log_datefmt": "set worker_log_format",
    "worker_task_log_datefmt": "set worker_task_log_format",
    "worker_agent": _OWN_PROCESS,
    "worker_consumer": _OWN_PROCESS,
    "worker_timer": _OWN_PROCESS,
    "worker_pool_start_method": _POOLS,
    "cache_backend": _BACKEND,
    "cache_backend_options": _BACKEND,
}
"""Refused, with what to do instead."""

_PREFIXES = {
    "beat_": _BEAT,
    "event_": _EVENTS,
    "broker_native_delayed_delivery": "tasks with an ETA always wait in the broker",
    "result_chord_expires": "what a chord waits for is kept until it has run",
    **dict.fromkeys(
        ("arangodb_", "azureblockblob_", "cassandra_", "cosmosdbsql_", "couchbase_", "database_"),
        _BACKEND,
    ),
    **dict.fromkeys(("elasticsearch_", "gcs_", "mongodb_", "redis_", "s3_"), _BACKEND),
}


def find_reason(name: str) -> str | None:
    """Why a setting of Celery's is refused here; None for a name that is not Celery's."""
    if name in UNNEEDED:
        return None
    if name in REFUSED:
        return REFUSED[name]
    return next((why for prefix, why in _PREFIXES.items() if name.startswith(prefix)), None)
