"""Real workers, each on its queues: routes, bindings, direct queues, from clients and from tasks."""

from __future__ import annotations

import pytest

from cardoon.utils.nodenames import worker_direct
from tests.e2e.conftest import DEADLINE


@pytest.fixture
def routed(site, monkeypatch):
    """The client's side of the app, in the folder where its workers run."""
    monkeypatch.chdir(site.folder)
    with site.client("routed") as module:
        yield module


@pytest.mark.slow
def test_each_message_goes_to_the_worker_of_its_queue(site, routed):
    start = {"app": "routed", "wait": False}
    site.start("-n", "main@here", "-X", "videos,large", "-c", "1", **start)
    site.start("-n", "media@here", "-Q", "videos,large", "-c", "1", **start)
    where, film = routed.where, routed.film

    def get(result):
        return result.get(timeout=DEADLINE)

    sent = {
        "plain": where.delay(),
        "by its arguments": where.delay("large"),
        "by its name": film.delay(),
        "by its key": where.apply_async(exchange="media", routing_key="media.video.short"),
        "to one worker": where.apply_async(queue=worker_direct("media@here")),
        "to the other": where.apply_async(queue=worker_direct("main@here")),
    }
    assert {name: get(result) for name, result in sent.items()} == {
        "plain": ["main@here", "celery"],
        "by its arguments": ["media@here", "large"],
        "by its name": ["media@here", "videos"],
        "by its key": ["media@here", "videos"],
        "to one worker": ["media@here", "media@here.dq"],
        "to the other": ["main@here", "main@here.dq"],
    }

    inner = [get(routed.ask_for.delay(what)) for what in ("film", "large", "small")]
    assert [get(routed.app.AsyncResult(one))[1] for one in inner] == ["videos", "large", "celery"]
    assert get(routed.again.apply_async(queue="large")) == "large"

    with pytest.raises(ValueError, match="no"):
        get(routed.fail.delay())
    site.until(lambda: site.lines("failed"))
    assert site.lines("failed") == ["routed.fail no"]
