"""Serializers of your own, registered as with kombu: `register` and `unregister`.

    from cardoon.serialization import register

    register("orjson", orjson.dumps, orjson.loads, content_type="application/x-orjson", content_encoding="binary")
    app.conf.update(task_serializer="orjson", accept_content=["auth", "orjson"])

What arrives is given to a decoder only after its signature has been verified, in clients and in the
processes that run tasks. The worker itself imports no code of yours and passes bodies on unread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cardoon.contents import add_content, registered_contents, remove_content
from cardoon.exceptions import ImproperlyConfigured
from cardoon.message.registered import TEXT, Registered, drop, keep

__all__ = ["register", "unregister"]


def register(
    name: str,
    encoder: Callable[[Any], str | bytes] | None,
    decoder: Callable[[Any], Any] | None,
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Make a serializer known, before settings, tasks or calls name it.

    `encoder` returns text or bytes. `decoder` is given text where `content_encoding` is UTF-8 or ASCII, and
    bytes for any other one, such as "binary"; what it raises refuses the message. With None in place of
    either, nothing is written, or nothing is read. A name may be registered anew; Cardoon's own cannot be
    taken: `ImproperlyConfigured`.
    """
    for told, function in (("encoder", encoder), ("decoder", decoder)):
        if function is not None and not callable(function):
            raise ImproperlyConfigured(
                f"serializer {name!r}: {told}={function!r} is not a function"
            )
    before = registered_contents().get(name)
    add_content(name, content_type)
    if before is not None:
        drop(before)
    keep(content_type, Registered(name, encoder, decoder, content_encoding.lower() in TEXT))


def unregister(name: str) -> None:
    """Forget a serializer; `ImproperlyConfigured` if there is none of this name."""
    drop(remove_content(name))
