"""Serializers of users: registered as with kombu, and used as our own are."""

from __future__ import annotations

import json

import pytest

from cardoon.config import Conf
from cardoon.contents import registered_contents
from cardoon.exceptions import EncodeError, ImproperlyConfigured, Refusal, RefusedError
from cardoon.message.serializers import decode_body, encode_body
from cardoon.serialization import register, unregister

KIND = "application/x-reversed"


def write(value):
    return json.dumps(value)[::-1]


def read(text):
    assert isinstance(text, str)
    return json.loads(text[::-1])


@pytest.fixture(autouse=True)
def tidy():
    yield
    for name in registered_contents():
        unregister(name)


def refusal_of(body, codec=KIND):
    with pytest.raises(RefusedError) as refused:
        decode_body(codec, body, max_bytes=1000)
    return refused.value


@pytest.mark.parametrize("codec", [KIND, f"{KIND}+zlib"])
def test_what_is_registered_writes_and_reads_bodies(codec):
    register("reversed", write, read, content_type=KIND)

    body = encode_body([1, {"a": None}], codec)

    assert decode_body(codec, body, max_bytes=1000) == [1, {"a": None}]


def test_settings_may_name_it():
    register("reversed", write, read, KIND)
    conf = Conf({})
    conf.update(task_serializer="reversed", accept_content=["auth", KIND])

    assert conf.settings().result_serializer == "reversed"


def test_results_of_its_kind_need_json_beside_it_for_the_words_of_the_worker():
    register("reversed", write, read, KIND)
    conf = Conf({})
    conf.update(task_serializer="reversed", accept_content=["reversed"])

    with pytest.raises(ImproperlyConfigured, match=r"what the worker itself says.*add 'auth'"):
        conf.settings()


@pytest.mark.parametrize("encoding", ["binary", "ISO-8859-1"])
def test_a_decoder_of_other_content_is_given_bytes(encoding):
    given = []
    register("raw", bytes, given.append, KIND, content_encoding=encoding)

    decode_body(KIND, encode_body(b"\xff", KIND), max_bytes=1000)

    assert given == [b"\xff"]


def test_what_a_decoder_raises_refuses_the_message_and_is_not_quoted():
    def fail(_):
        raise KeyError("password")

    register("failing", write, fail, KIND)

    error = refusal_of(b"x")

    assert error.reason is Refusal.UNDECODABLE
    assert "KeyError" in error.detail
    assert "password" not in str(error)


def test_text_that_is_no_utf8_is_refused():
    register("reversed", write, read, KIND)

    assert refusal_of(b"\xff").reason is Refusal.UNDECODABLE


@pytest.mark.parametrize("returned", [5, None, object()])
def test_an_encoder_that_does_not_return_text_or_bytes_is_an_error(returned):
    register("odd", lambda _: returned, read, KIND)

    with pytest.raises(EncodeError, match="serializer 'odd' cannot carry this value"):
        encode_body([1], KIND)


def test_what_an_encoder_raises_is_said_to_the_sender():
    register("reversed", write, read, KIND)

    with pytest.raises(EncodeError, match=r"'reversed' cannot carry this value: .*object"):
        encode_body([object()], KIND)


def test_one_half_may_be_missing():
    register("reading", None, read, KIND)
    register("writing", write, None, "application/x-written")

    with pytest.raises(EncodeError, match="without an encoder"):
        encode_body([], KIND)
    assert decode_body(KIND, b"]1[", max_bytes=1000) == [1]
    body = encode_body([], "application/x-written")
    assert refusal_of(body, "application/x-written").reason is Refusal.CODEC_NOT_ACCEPTED


def test_the_bound_counts_for_it_too():
    called = []
    register("counting", write, called.append, KIND)

    assert refusal_of(b"x" * 1001).reason is Refusal.BOMB
    assert called == []


def test_what_is_unregistered_is_unknown():
    register("reversed", write, read, KIND)
    unregister("reversed")

    assert refusal_of(b"]1[").reason is Refusal.CODEC_NOT_ACCEPTED
    with pytest.raises(ImproperlyConfigured, match="'reversed' is not registered"):
        unregister("reversed")


def test_a_name_may_be_registered_anew():
    register("mine", write, read, KIND)
    register("mine", write, read, "application/x-other")

    assert registered_contents() == {"mine": "application/x-other"}
    assert refusal_of(b"]1[").reason is Refusal.CODEC_NOT_ACCEPTED
    assert decode_body("application/x-other", b"]1[", max_bytes=1000) == [1]


def test_a_media_type_belongs_to_one_name():
    register("mine", write, read, KIND)

    with pytest.raises(ImproperlyConfigured, match="already that of 'mine'"):
        register("other", write, read, KIND)


@pytest.mark.parametrize("told", ["encoder", "decoder"])
def test_what_cannot_be_called_is_refused(told):
    given = {"encoder": write, "decoder": read, told: "json"}

    with pytest.raises(ImproperlyConfigured, match=f"{told}='json' is not a function"):
        register("mine", content_type=KIND, **given)
