"""The names that Celery's settings had before its version 4, and what they are called now."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from cardoon.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)

_UNPREFIXED = """
azureblockblob_base_path azureblockblob_connection_timeout azureblockblob_container_name
azureblockblob_read_timeout azureblockblob_retry_increment_base
azureblockblob_retry_initial_backoff_sec azureblockblob_retry_max_attempts
broker_channel_error_retry broker_connection_max_retries broker_connection_retry
broker_connection_retry_on_startup broker_connection_timeout broker_failover_strategy
broker_heartbeat broker_heartbeat_checkrate broker_host broker_login_method
broker_native_delayed_delivery_queue_type broker_password broker_pool_acquire_timeout
broker_pool_limit broker_port broker_read_url broker_transport broker_transport_options
broker_url broker_use_ssl broker_user broker_vhost broker_write_url
cassandra_auth_kwargs cassandra_auth_provider cassandra_bundle_path cassandra_entry_ttl
cassandra_keyspace cassandra_options cassandra_port cassandra_read_consistency
cassandra_servers cassandra_table cassandra_write_consistency
control_exchange control_queue_durable control_queue_exclusive control_queue_expires
control_queue_ttl
cosmosdbsql_collection_name cosmosdbsql_consistency_level cosmosdbsql_database_name
cosmosdbsql_max_retry_attempts cosmosdbsql_max_retry_wait_time
database_create_tables_at_setup database_engine_callback database_table_schemas
enable_utc gcs_base_path gcs_bucket gcs_project gcs_ttl result_accept_content
s3_access_key_id s3_base_path s3_bucket s3_endpoint_url s3_region s3_secret_access_key
"""
_CELERY = """
accept_content arangodb_backend_settings cache_backend cache_backend_options
couchbase_backend_settings
elasticsearch_max_retries elasticsearch_retry_on_timeout elasticsearch_save_meta_as_text
elasticsearch_timeout
event_exchange event_queue_durable event_queue_exclusive event_queue_expires event_queue_prefix
event_queue_ttl event_serializer imports include mongodb_backend_settings
redis_backend_use_ssl redis_db redis_host redis_max_connections redis_password redis_port
redis_retry_on_timeout redis_socket_connect_timeout redis_socket_keepalive redis_socket_timeout
redis_username
result_backend result_backend_always_retry result_backend_base_sleep_between_retries_ms
result_backend_max_retries result_backend_max_sleep_between_retries_ms
result_backend_transport_options result_chord_expires result_chord_join_timeout
result_chord_retry_interval result_compression result_exchange result_exchange_type
result_extended result_failure_expires result_persistent result_serializer
security_cert_store security_certificate security_digest security_key security_key_password
task_protocol task_publish_retry task_publish_retry_policy task_serializer timezone worker_direct
"""
_TASK = """
acks_late acks_on_failure acks_on_failure_or_timeout acks_on_timeout
allow_error_cb_on_chord_header always_eager annotations create_missing_queue_exchange_type
create_missing_queue_type create_missing_queues default_delivery_mode default_exchange
default_exchange_type default_priority default_queue default_queue_type default_rate_limit
default_routing_key ignore_result inherit_parent_priority queue_max_priority queues
reject_on_worker_lost remote_tracebacks repr_maxlevels retry_on_worker_lost routes
store_eager_result store_errors_even_if_ignored track_started
"""
_CELERYD = """
agent autoscaler cancel_long_running_tasks_on_connection_loss concurrency consumer
deduplicate_successful_tasks detect_quorum_queues disable_prefetch
enable_prefetch_count_reduction enable_soft_shutdown_on_idle eta_task_limit
hijack_root_logger log_color log_datefmt log_format max_memory_per_child max_tasks_per_child
pool pool_putlocks pool_restarts pool_start_method prefetch_multiplier proc_alive_timeout
soft_shutdown_timeout state_db task_log_datefmt task_log_format timer timer_precision
"""
_CELERYBEAT = """
cron_starting_deadline enable_remote_control max_loop_interval remote_control_max_tick_age
schedule schedule_filename scheduler sync_every
"""
_WORKER = "disable_rate_limits enable_remote_control redirect_stdouts redirect_stdouts_level"


def _names(words: str, old: str, new: str) -> dict[str, str]:
    return {old + word.upper(): new + word for word in words.split()}


OLD_NAMES: Mapping[str, str] = {
    **_names(_UNPREFIXED, "", ""),
    **_names(_CELERY, "CELERY_", ""),
    **_names(_TASK, "CELERY_", "task_"),
    **_names(_WORKER, "CELERY_", "worker_"),
    **_names(_CELERYD, "CELERYD_", "worker_"),
    **_names(_CELERYBEAT, "CELERYBEAT_", "beat_"),
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "task_eager_propagates",
    "CELERY_MAX_CACHED_RESULTS": "result_cache_max",
    "CELERY_MESSAGE_COMPRESSION": "task_compression",
    "CELERY_RESULT_DBURI": "database_url",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "database_short_lived_sessions",
    "CELERY_RESULT_DB_TABLENAMES": "database_table_names",
    "CELERY_RESULT_ENGINE_OPTIONS": "database_engine_options",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
    "CELERY_SEND_TASK_SENT_EVENT": "task_send_sent_event",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
}
"""What each old name is called now, whether or not Cardoon has the setting."""


def old_names_among(names: Iterable[str]) -> dict[str, str]:
    """The old names among these, each with its present one."""
    return {name: OLD_NAMES[name] for name in names if name in OLD_NAMES}


def with_present_names(values: Mapping[str, Any], *, known: Iterable[str]) -> Mapping[str, Any]:
    """The same settings under the names that they have now; `known` are those.

    All of one source are named the old way or the new one: two names for one setting, of which one would
    have to lose, are `ImproperlyConfigured`, with what to write instead. A setting given under both is
    the new one's, as in modules that serve two versions of Celery.
    """
    renamed = old_names_among(values)
    if not renamed:
        return values
    left = {old: new for old, new in renamed.items() if new not in values}
    present = sorted(set(known) & values.keys())
    if left and present:
        told = ", ".join(f"{new} instead of {old}" for old, new in sorted(left.items()))
        raise ImproperlyConfigured(
            f"old and new names of settings are mixed: {', '.join(present)} are new; write {told}, "
            "or let `cardoon upgrade settings` do it"
        )
    for old, new in sorted(renamed.items()):
        logger.info("setting %s is called %s now", old, new)
    found = {name: value for name, value in values.items() if name not in renamed}
    return {**found, **{new: values[old] for old, new in left.items()}}
