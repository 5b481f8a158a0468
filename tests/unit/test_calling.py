"""From a call in Python to a `Call` that can be signed."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.calling import (
    NO_OPTIONS,
    OPTION_NAMES,
    CallDefaults,
    check_options,
    check_text,
    choose_codec,
    make_call,
    to_epoch,
)
from cardoon.config import Settings
from cardoon.contents import MSGPACK
from cardoon.exceptions import EncodeError, InvalidTaskError
from cardoon.message.serializers import JSON, JSON_ZLIB, decode_body
from cardoon.testing import FakeClock

NOW = FakeClock().now()


def call(*args, defaults=None, settings=None, **options):
    return make_call(
        "shop.pay",
        (args, {}),
        check_options(options),
        defaults=defaults or CallDefaults(queue="celery", max_retries=3),
        settings=settings or Settings(),
        clock=FakeClock(),
        new_id=lambda: "new-id",
    )


def headers_of(made):
    return json.loads(made.headers) if made.headers else {}


def test_a_plain_call_has_arguments_and_nothing_else():
    made = call(1, "two")

    assert (made.task, made.id, made.queue, made.codec) == ("shop.pay", "new-id", "celery", JSON)
    assert decode_body(made.codec, made.body, max_bytes=1000) == [
        [1, "two"],
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert (made.headers, made.priority, made.eta, made.expires) == (b"", 0, None, None)
    assert (made.retries, made.max_retries) == (0, 3)


def test_the_options_of_a_call_win_over_the_tasks():
    defaults = CallDefaults(
        queue="celery",
        priority=1,
        max_retries=3,
        expires=60.0,
        time_limit=9,
        soft_time_limit=8,
        ignore_result=True,
        shadow="other",
    )

    made = call(
        defaults=defaults,
        task_id="mine",
        queue="fast",
        priority=9,
        max_retries=1,
        expires=5,
        time_limit=2,
        soft_time_limit=1,
        ignore_result=False,
        shadow="shown",
        headers={"trace": "abc"},
        root_id="r",
        parent_id="p",
        retries=1,
        compression="zlib",
    )

    assert (made.id, made.queue, made.priority, made.codec) == ("mine", "fast", 9, JSON_ZLIB)
    assert (made.expires, made.max_retries, made.retries) == (NOW + 5, 1, 1)
    assert (made.root, made.parent) == ("r", "p")
    assert headers_of(made) == {
        "timelimit": [2, 1],
        "priority": 9,
        "shadow": "shown",
        "headers": {"trace": "abc"},
    }


def test_the_tasks_options_count_where_the_call_says_nothing():
    defaults = CallDefaults(queue="q", expires=60.0, time_limit=9, ignore_result=True, priority=4)

    made = call(defaults=defaults)

    assert (made.queue, made.expires, made.priority) == ("q", NOW + 60, 4)
    assert headers_of(made) == {"timelimit": [9, None], "ignore_result": True, "priority": 4}


@pytest.mark.parametrize("countdown", [90, 90.0, timedelta(seconds=90)])
def test_a_countdown_is_from_now(countdown):
    assert call(countdown=countdown).eta == NOW + 90


@pytest.mark.parametrize("countdown", [0, -5])
def test_what_is_due_already_has_no_eta(countdown):
    assert call(countdown=countdown).eta is None


def test_an_eta_is_a_moment():
    assert call(eta=datetime.fromtimestamp(NOW + 60, UTC)).eta == NOW + 60


def test_a_naive_eta_is_in_the_time_zone_of_the_app():
    moment = datetime(2030, 7, 1, 12, 0, 0)  # noqa: DTZ001 - that is the point

    in_utc = call(eta=moment).eta
    in_berlin = call(eta=moment, settings=Settings(timezone="Europe/Berlin")).eta

    assert in_utc == moment.replace(tzinfo=UTC).timestamp()
    assert in_berlin == moment.replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    assert in_utc - in_berlin == 7200


@pytest.mark.parametrize(
    "expires", [60, timedelta(minutes=1), datetime.fromtimestamp(NOW + 60, UTC)]
)
def test_an_expiry_is_a_moment_or_from_now(expires):
    assert call(expires=expires).expires == NOW + 60


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_has_its_second(moment):
    back = datetime.fromtimestamp(0, UTC) + timedelta(seconds=to_epoch(moment, Settings()))

    assert abs(back - moment) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_id", ""),
        ("task_id", 5),
        ("task_id", "x" * 129),
        ("task_id", "a\nb"),
        ("task_id", "\ud800"),
        ("queue", 5),
        ("queue", "a\x1bb"),
        ("countdown", math.nan),
        ("countdown", math.inf),
        ("countdown", "soon"),
        ("eta", "2030-01-01"),
        ("eta", 5),
        ("expires", -1),
        ("expires", "tomorrow"),
        ("priority", 10),
        ("priority", -1),
        ("priority", 0.5),
        ("priority", True),
        ("time_limit", 0),
        ("soft_time_limit", 10**400),
        ("timeout", 0),
        ("max_retries", -1),
        ("max_retries", "x"),
        ("retries", 1.5),
        ("headers", 5),
        ("headers", {"x": object()}),
        ("headers", {"x": math.nan}),
        ("shadow", 5),
        ("ignore_result", "perhaps"),
        ("retry", "perhaps"),
        ("retry_policy", {"max_retries": None}),
        ("retry_policy", 5),
        ("root_id", 5),
        ("parent_id", ""),
        ("serializer", ["json"]),
        ("serializer", "pickle"),
        ("serializer", "msgpack"),
        ("serializer", "msgpak"),
        ("compression", "zstd"),
        ("link", 5),
        ("link", [5]),
        ("link", {"args": []}),
        ("link_error", {"task": 5}),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(name, value):
    with pytest.raises(InvalidTaskError, match=name):
        call(**{name: value})


def test_headers_that_never_end_are_refused():
    headers: dict = {}
    inner = headers
    for _ in range(100_000):
        inner["x"] = inner = {}

    with pytest.raises(InvalidTaskError, match="headers cannot be written"):
        call(headers=headers)


@given(
    st.sampled_from(sorted(OPTION_NAMES)),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
def test_any_option_makes_a_call_or_is_refused_in_our_own_words(name, value):
    told = name

    try:
        call(**{name: value})
    except InvalidTaskError as error:
        told = str(error)

    assert name in told


@pytest.mark.parametrize("twin", [True, 1.0])
def test_an_option_is_refused_though_an_equal_one_of_the_right_type_came_before(twin):
    assert check_options({"priority": 1}).priority == 1

    with pytest.raises(InvalidTaskError, match="priority"):
        check_options({"priority": twin})


def test_an_unknown_option_is_refused_with_a_suggestion():
    with pytest.raises(
        InvalidTaskError, match="unknown option 'countdwn'; did you mean 'countdown'"
    ):
        check_options({"countdwn": 5})
    with pytest.raises(InvalidTaskError, match=r"unknown option 'zzzzzz'$"):
        check_options({"zzzzzz": 5})


def test_an_option_of_celery_that_is_not_here_is_refused_with_the_reason():
    with pytest.raises(InvalidTaskError, match=r"no 'correlation_id' here: .* use task_id="):
        check_options({"correlation_id": "x"})


def test_countdown_and_eta_contradict_each_other():
    with pytest.raises(InvalidTaskError, match="countdown or eta, not both"):
        check_options({"countdown": 5, "eta": datetime.now(UTC)})


def test_the_soft_limit_is_below_the_hard_one():
    with pytest.raises(InvalidTaskError, match="soft_time_limit must be below"):
        check_options({"time_limit": 5, "soft_time_limit": 5})


def test_none_is_no_option():
    assert check_options({"countdown": None, "queue": None}) == NO_OPTIONS
    assert check_options({}) is NO_OPTIONS


def test_links_are_messages_of_their_own():
    link = {"task": "shop.ship", "args": [1]}

    made = call(link=link, link_error=[link, link])

    _, _, embed = decode_body(made.codec, made.body, max_bytes=1000)
    assert not any(embed.values())
    assert made.headers == b""


def test_arguments_that_cannot_travel_are_refused():
    with pytest.raises(EncodeError):
        call(object())


UNSIGNED = Settings(task_serializer="json", result_serializer="json", accept_content=("json",))
MSGPACKED = Settings(
    task_serializer="msgpack", result_serializer="msgpack", accept_content=("msgpack",)
)
BOTH = Settings(accept_content=("auth", "msgpack"))


@pytest.mark.parametrize("serializer", [None, "json", "auth", JSON])
@pytest.mark.parametrize("settings", [Settings(), UNSIGNED, BOTH])
def test_no_serializer_leaves_the_path_of_the_app(serializer, settings):
    assert choose_codec(serializer, None, settings) == JSON


@pytest.mark.parametrize(
    ("serializer", "settings"),
    [(None, MSGPACKED), ("msgpack", MSGPACKED), ("msgpack", BOTH), (MSGPACK, BOTH)],
)
def test_a_serializer_says_how_the_body_is_written(serializer, settings):
    assert choose_codec(serializer, None, settings) == MSGPACK
    assert choose_codec(serializer, "zlib", settings) == f"{MSGPACK}+zlib"


@pytest.mark.parametrize(
    ("serializer", "settings", "words"),
    [
        ("msgpack", Settings(), r"accept_content=\['auth'\] does not take it.*add 'msgpack' there"),
        ("json", MSGPACKED, "add 'auth' there"),
        ("pickle", Settings(), "add 'pickle' there"),
        ("msgpack", UNSIGNED, r"without signature.*set task_serializer='auth'"),
        ("msgpak", BOTH, "unknown content 'msgpak'; did you mean 'msgpack'"),
        ("orjson", BOTH, "cardoon.serialization.register"),
    ],
)
def test_a_serializer_that_the_workers_would_refuse_is_refused_here(serializer, settings, words):
    with pytest.raises(InvalidTaskError, match=words):
        choose_codec(serializer, None, settings)


@pytest.mark.parametrize(
    ("compression", "suffix"),
    [
        *((name, "zlib") for name in ("zlib", "gzip", "application/x-gzip")),
        *((name, "bzip2") for name in ("bzip2", "bzip", "application/x-bz2")),
        *((name, "lzma") for name in ("lzma", "xz", "application/x-lzma")),
    ],
)
def test_compression_goes_by_its_names(compression, suffix):
    assert choose_codec(None, compression, Settings()) == f"{JSON}+{suffix}"


@given(st.text())
def test_text_that_passes_the_check_is_printable_and_within_its_bytes(text):
    try:
        check_text("name", text, 16)
    except InvalidTaskError:
        assert not text.isprintable() or not 0 < len(text.encode()) <= 16
    else:
        assert text.isprintable()
        assert 0 < len(text.encode()) <= 16
