"""The counting and the service, without a worker."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from wordcount import tasks
from wordcount.main import create_app
from wordcount.settings import Settings, read_settings

SETTINGS = Settings(tokens={"token of ada": "ada", "token of bob": "bob"})
ADA = {"Authorization": "Bearer token of ada"}
BOB = {"Authorization": "Bearer token of bob"}


@pytest.fixture
def client(tmp_path):
    tasks.queue.conf.update(broker_url="memory://", state_directory=str(tmp_path))
    with TestClient(create_app(SETTINGS)) as made:
        yield made


def test_the_most_frequent_words_come_first():
    parts = [tasks.count_part("The thistle"), tasks.count_part("the, field: THE")]

    assert tasks.add_up(parts, 2) == [{"word": "the", "count": 3}, {"word": "field", "count": 1}]


def test_a_text_is_split_between_words_and_nothing_is_lost():
    text = "word " * 10_000

    parts = tasks.split(text)

    assert "".join(parts) == text
    assert len(parts) == 3
    assert all(part.split()[0] == part.split()[-1] == "word" for part in parts)


def test_a_count_can_be_followed_by_who_started_it_and_nobody_else(client):
    started = client.post("/texts", json={"text": "a thistle"}, headers=ADA)

    assert started.status_code == 202
    status = started.json()["status"]
    assert client.get(status, headers=ADA).json()["state"] == "PENDING"
    assert client.get(status, headers=BOB).status_code == 404
    assert client.get(status).status_code in {401, 403}


@pytest.mark.parametrize("wrong", [{}, {"text": ""}, {"text": "a", "most": 0}])
def test_a_wrong_text_starts_nothing(client, wrong):
    assert client.post("/texts", json=wrong, headers=ADA).status_code == 422


def test_the_document_says_what_a_result_is(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    assert set(schemas["Word"]["properties"]) == {"word", "count"}


def test_tokens_come_from_the_environment():
    settings = read_settings(
        {"WORDCOUNT_TOKENS": "ada=secret1 bob=secret2", "WORDCOUNT_MAX_WAIT": "5"}
    )

    assert settings == Settings(tokens={"secret1": "ada", "secret2": "bob"}, max_wait=5)
    assert "secret" not in repr(settings)
    with pytest.raises(ValueError, match="write name=token"):
        read_settings({"WORDCOUNT_TOKENS": "ada"})
