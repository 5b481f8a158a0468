"""A project written for Celery runs here: rewritten by `upgrade settings`, or as it is behind the shim."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cardoon.loader import is_importable
from tests.e2e.conftest import Site, wait_until

SHOP = Path(__file__).parent / "celery_shop"
LATER = {"cardoon.signals": "shop/hooks.py"}
"""Modules of the project that wait for one of ours; with it they are included by themselves."""
EXPECTED = {
    "order": 45,
    "announced": "mail to ann",
    "mails": ["mail to bob", "mail to eve"],
    "described": {"state": "SUCCESS", "result": "mail to ann"},
    "whoami": ["shop", "shop.tasks.whoami", "Cardoon"],
    "lookup": True,
    "direct": 40,
    "by name": "mail to zoe",
}


@pytest.fixture
def shop(tmp_path):
    """The project in a folder of its own, and what runs there."""
    shutil.copytree(SHOP, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "celeryconfig.py"
    for needed, module in LATER.items():
        if is_importable(needed):
            name = module.removesuffix(".py").replace("/", ".")
            text = config.read_text().replace('"shop.flows",', f'"shop.flows", "{name}",')
            config.write_text(text)
        else:
            (tmp_path / module).unlink()
    made = Site(tmp_path)
    yield made
    made.stop()


def run(shop, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=shop.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + shop.log.read_text(errors="replace")
    return done.stdout


def serve(shop):
    """Start a worker as its operators do, and do what the shop's web application does."""
    shop.log.touch()
    shop.start("-n", "shop@%h", app="shop", wait=False)
    found = json.loads(run(shop, "client.py"))
    assert found == EXPECTED
    if (shop.folder / "shop/hooks.py").exists():
        wait_until(lambda: "shop.tasks.total SUCCESS yes" in shop.lines("hooks.log"))


@pytest.mark.slow
def test_a_project_that_was_upgraded_runs(shop):
    report = json.loads(run(shop, "-m", "cardoon", "upgrade", "settings", ".", "--json"))

    assert (report["decide"], report["unreadable"]) == ([], {})
    assert "celeryconfig.py" in report["files"]
    assert "shop/tasks.py" in report["files"]
    serve(shop)


@pytest.mark.slow
def test_a_project_that_was_not_changed_runs_behind_the_shim(shop):
    package = shop.folder / "shop/__init__.py"
    package.write_text("from cardoon.compat import celery\n\ncelery.install(kombu=False)\n")

    serve(shop)
