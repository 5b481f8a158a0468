"""Every serializer through a real worker, which imports no code of the project itself."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from cardoon.contents import registered_contents
from cardoon.exceptions import InvalidTaskError
from cardoon.serialization import unregister
from tests.e2e.conftest import DEADLINE, PROJECT


@pytest.fixture
def packed(site, monkeypatch):
    """The client's import of the project, beside a worker that answers in its serializer."""
    monkeypatch.chdir(site.folder)
    spec = importlib.util.spec_from_file_location("packed", PROJECT / "packed.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "packed", module)
    spec.loader.exec_module(module)
    env = {"CARDOON_RESULT_SERIALIZER": "mirrored"}
    site.start("-P", "prefork", "-c", "1", app="packed", env=env, wait=False)
    yield module
    module.app.close()
    for name in registered_contents():
        unregister(name)


def test_every_serializer_reaches_the_task_and_its_result_comes_back(site, packed):
    item = packed.Item("chair", packed.Colour.RED, ("leg", "seat"))

    painted = packed.paint.delay(item, packed.Colour.RED)

    assert painted.get(timeout=DEADLINE) == item
    [report] = packed.app.sender.load([painted.handle]).values()
    assert report.codec == "application/x-mirrored"
    for serializer in ("json", "yaml", "msgpack", "mirrored", "pickle"):
        sent = packed.describe.apply_async(({"a": 1},), serializer=serializer, compression="xz")
        assert sent.get(timeout=DEADLINE) == "dict in a task process"
    sent = packed.describe.apply_async((1 + 2j,), serializer="pickle")
    assert sent.get(timeout=DEADLINE) == "complex in a task process"
    with pytest.raises(InvalidTaskError, match="task code cannot send pickled arguments"):
        packed.send_pickle.delay().get(timeout=DEADLINE)
    with pytest.raises(InvalidTaskError, match=r"argument item\.colour: "):
        packed.paint.delay({"name": "x", "colour": "blue"}, "red").get(timeout=DEADLINE)

    assert "PICKLES are unpickled" in site.log.read_text()
    trail = (site.folder / ".cardoon" / "audit.jsonl").read_text().splitlines()
    assert [
        one["setting"] for one in map(json.loads, trail) if one["event"] == "config.unsafe"
    ] == ["unsafe_allow_pickle"]
