"""The guide's Python, run as it stands: what it declares first, then what it does, beside a worker."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cardoon.contrib.testing.worker import start_worker

GUIDE = Path(__file__).parents[2] / "docs/guide.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DECLARES = ("app = ", "@app.task", "app.conf", ".connect", "add_periodic_task")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The module that the guide is about."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CARDOON_BROKER_URL", "memory://")
    made = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", made)
    return made


def test_every_block_of_the_guide_does_what_it_says(shop):
    page = GUIDE.read_text(encoding="utf-8")
    # Empty lines in front, so that a failure names the line of the page.
    blocks = ["\n" * page.count("\n", 0, one.start(1)) + one[1] for one in _BLOCK.finditer(page)]
    declaring = [block for block in blocks if any(sign in block for sign in _DECLARES)]
    assert len(blocks) > len(declaring) > 5

    for block in declaring:
        exec(compile(block, str(GUIDE), "exec"), vars(shop))
    with start_worker(shop.app, queues="celery,reports", perform_ping_check=False):
        for block in blocks:
            if block not in declaring:
                exec(compile(block, str(GUIDE), "exec"), vars(shop))

    assert [(name, type(error)) for name, error in shop.failed] == [("shop.report", TypeError)]
    shop.app.close()
