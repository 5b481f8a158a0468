"""What the settings may name, and what each name stands for."""

from __future__ import annotations

import pytest

from cardoon import contents
from cardoon.contents import JSON, MSGPACK, accept, find_content, split_codec
from cardoon.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("auth", "application/json"),
        ("application/data", "application/json"),
        ("json", "application/json"),
        ("application/json", "application/json"),
        ("msgpack", "application/x-msgpack"),
        ("application/x-msgpack", "application/x-msgpack"),
        ("yaml", "application/x-yaml"),
        ("pickle", "application/x-python-serialize"),
        ("application/x-python-serialize", "application/x-python-serialize"),
    ],
)
def test_a_content_is_found_by_its_name_and_by_its_media_type(name, media_type):
    found = find_content(name)

    assert found.media_type == media_type
    assert found.is_signed is (found.name != "json")


def test_a_list_takes_what_it_names_and_nothing_else():
    taken = accept(["auth", "msgpack"])

    assert taken.plain == frozenset()
    assert {split_codec(codec)[0] for codec in taken.signed} == {JSON, MSGPACK}
    assert accept(["json"]) == (frozenset(), contents.all_codecs([JSON]))
    assert JSON not in accept(["msgpack"]).signed


@pytest.mark.parametrize(
    ("codec", "parts"),
    [
        (JSON, (JSON, None)),
        (f"{JSON}+zlib", (JSON, "zlib")),
        (f"{JSON}+zstd", (f"{JSON}+zstd", None)),
        ("application/vnd.x+json", ("application/vnd.x+json", None)),
        ("application/vnd.x+json+lzma", ("application/vnd.x+json", "lzma")),
        ("+zlib", ("+zlib", None)),
        ("", ("", None)),
    ],
)
def test_a_codec_is_a_media_type_and_a_compression(codec, parts):
    assert split_codec(codec) == parts


@pytest.mark.parametrize(
    ("name", "media_type", "words"),
    [
        ("json", "application/x-mine", "name='json' is Cardoon's own"),
        ("auth", "application/x-mine", "name='auth' is Cardoon's own"),
        ("mine", "application/json", "content_type='application/json' is Cardoon's own"),
        ("mine", "application/data", "is Cardoon's own"),
        ("a/b", "application/x-mine", "without slash"),
        ("", "application/x-mine", "without slash"),
        ("mine", "mine", "not a media type"),
        ("mine", "a/", "not a media type"),
        ("mine", "a/b\n", "not a media type"),
        ("mine", "a/b,c", "not a media type"),
        ("mine", "a/" + "b" * 60, "at most 56 bytes"),
        ("mine", "a/ä", "not a media type"),
        ("mine", "a/b+zlib", "like a compressed one"),
    ],
)
def test_what_cannot_be_told_apart_cannot_be_registered(name, media_type, words):
    with pytest.raises(ImproperlyConfigured, match=words):
        contents.add_content(name, media_type)
    assert name not in contents.registered_contents()
