"""A real Celery app, set up so that it waits for nothing without an end and decodes nothing but JSON."""

from __future__ import annotations

import ssl
from typing import Any

from cardoon.config import WITHHELD, Conf, Settings, reveal
from cardoon.contrib.celery.amqp import tls_options
from cardoon.contrib.celery.source import import_real
from cardoon.endpoints import Access, Endpoint, Tls, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured

RPC = "rpc://"
_REDIS_CERTIFICATES = {True: ssl.CERT_REQUIRED, False: ssl.CERT_NONE}


def find_url(settings: Settings, given: str, setting: str) -> str:
    """The URL that is given, or the setting's, references followed."""
    if given:
        conf = Conf(environ={})
        conf.update({setting: given})
        settings = conf.draft()
    found = reveal(settings, setting)
    if found.startswith(WITHHELD):
        raise ImproperlyConfigured(
            f"{setting} is withheld from processes that run tasks; if tasks are to reach Celery, name "
            "its variable in worker_pass_environment"
        )
    return found


def find_servers(settings: Settings, url: str, setting: str) -> tuple[Endpoint, ...]:
    """The servers of a URL of Celery's; plain text to other hosts is refused as everywhere."""
    access = Access(
        allow_plaintext=settings.unsafe_allow_plaintext_broker,
        allow_unverified=settings.unsafe_allow_unverified_tls,
    )
    if not url:
        raise ImproperlyConfigured(f"{setting} is not set; name the server of Celery's messages")
    return parse_endpoints(url, setting=setting, access=access)


def make_celery(settings: Settings, *, broker_url: str, result_backend: str, timeout: float) -> Any:
    """A Celery app that sends to these servers, each step within `timeout` seconds."""
    [broker, *_] = find_servers(settings, broker_url, "celery_broker_url")
    made = import_real("celery").Celery("cardoon", set_as_current=False)
    made.conf.update(
        broker_url=broker_url,
        broker_connection_timeout=timeout,
        broker_transport_options=_transport(broker, timeout),
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_publish_retry=False,  # ours is tried again, until a deadline
        task_create_missing_queues=True,
        worker_hijack_root_logger=False,
        result_expires=settings.result_expires,
        result_backend=result_backend or "disabled://",
    )
    if broker.tls is not None:
        made.conf.broker_use_ssl = _tls(broker)
    if result_backend and result_backend != RPC:
        [store, *_] = find_servers(settings, result_backend, "celery_result_backend")
        if store.kind != "redis":
            raise ImproperlyConfigured("celery_result_backend: use a redis:// URL, or rpc://")
        made.conf.update(
            redis_socket_timeout=timeout,
            redis_socket_connect_timeout=timeout,
            result_backend_transport_options={"retry_policy": {"max_retries": 0}},
        )
        if store.tls is not None:
            made.conf.redis_backend_use_ssl = _redis_tls(store.tls)
    return made


def _transport(broker: Endpoint, timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {"max_retries": 0, "interval_start": 0, "interval_step": 0}
    if broker.kind == "amqp":
        return {
            **options,
            "confirm_publish": True,
            "read_timeout": timeout,
            "write_timeout": timeout,
        }
    if broker.kind != "redis":
        raise ImproperlyConfigured("celery_broker_url: use an amqp:// or a redis:// URL")
    return {**options, "socket_timeout": timeout, "socket_connect_timeout": timeout}


def _tls(broker: Endpoint) -> Any:
    assert broker.tls is not None
    if broker.kind == "amqp":
        return tls_options(broker.tls, broker.host)
    return _redis_tls(broker.tls)


def _redis_tls(tls: Tls) -> dict[str, Any]:
    options = {
        "ssl_ca_certs": tls.ca,
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key,
        "ssl_cert_reqs": _REDIS_CERTIFICATES[tls.verify],
    }
    return {name: value for name, value in options.items() if value != ""}
