"""The example projects with real workers and real web servers, and Flask's own recipe."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from salesreports import create_app as create_shop
from wordcount import tasks as wordcount
from wordcount.main import create_app as create_wordcount
from wordcount.settings import Settings

from tests.e2e.conftest import DEADLINE, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
ORDERS = [
    {"day": "2026-01-02", "customer": "ada", "cents": 1999},
    {"day": "2026-01-31", "customer": "bob", "cents": 500},
    {"day": "2026-02-01", "customer": "ada", "cents": 70000},
]
REPORT = {
    "month": "2026-01",
    "orders": 2,
    "total": "24.99",
    "best": [{"customer": "ada", "total": "19.99"}, {"customer": "bob", "total": "5"}],
}
TEXT = "the thistle and the field " * 2000
WORDS = [
    {"word": "the", "count": 4000},
    {"word": "and", "count": 2000},
    {"word": "field", "count": 2000},
]


class Site:
    """A folder in which a project's worker and servers run."""

    def __init__(self, folder: Path, project: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(project), **environment}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *command: str) -> Path:
        """Run a Python module in the folder; returns its log."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=out,
                    stderr=out,
                )
            )
        return log

    def serve(self, name: str, *command: str) -> str:
        """Run a web server on a free port; returns its address when it listens."""
        log = self.start(name, *command)
        address = re.compile(r"http://127\.0\.0\.1:\d+")
        wait_until(
            lambda: address.search(log.read_text()) or self.processes[-1].poll() is not None,
            name,
        )
        found = address.search(log.read_text())
        assert found, log.read_text()
        return found.group()

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(url: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
    """What a server answers: status, JSON, and the cookie that it sets."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            cookie = str(answer.headers.get("Set-Cookie", "")).partition(";")[0]
            return answer.status, json.load(answer), cookie
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), ""


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("flask")
    site = Site(folder, EXAMPLES / "flask", FLASK_DATABASE=str(folder / "shop.db"))
    site.start("worker", "cardoon", "-A", "salesreports:create_app()", "worker", "-c", "2")
    yield site
    site.stop()


class TestFlask:
    def test_a_report_is_written_and_shown(self, shop):
        app = create_shop(
            {
                "TESTING": True,
                "SECRET_KEY": "of the tests",
                "DATABASE": str(shop.folder / "shop.db"),
                "CARDOON": {"state_directory": str(shop.folder / ".cardoon")},
            }
        )
        client = app.test_client()
        client.post("/orders", json=ORDERS)

        started = client.post("/reports", json={"month": "2026-01"}).json
        wait_until(lambda: client.get(started["status"]).json["ready"], "the report")
        shown = client.get(started["status"]).json

        assert shown["state"] == "SUCCESS", shown
        assert shown["result"] == REPORT
        assert app.test_client().get(started["status"]).status_code == 404
        app.extensions["cardoon"].close()

    def test_servers_that_were_forked_after_the_import_do_the_same(self, shop):
        shop.environment["FLASK_SECRET_KEY"] = "of the tests"
        address = shop.serve(
            "gunicorn",
            *("gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:0"),
            "salesreports:create_app()",
        )

        for _ in range(4):  # so that each of the two has its turn, as likely as not
            status, started, cookie = ask(f"{address}/reports", {"month": "2026-03"})
            assert status == 202
            status, shown, _ = ask(f"{address}{started['status']}?wait=10", Cookie=cookie)
            assert (status, shown["state"]) == (200, "SUCCESS"), shown
            assert shown["result"]["orders"] == 0
        assert ask(f"{address}{started['status']}")[0] == 404


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("fastapi")
    site = Site(folder, EXAMPLES / "fastapi")
    site.start("worker", "cardoon", "-A", "wordcount.tasks", "worker", "-c", "2")
    yield site
    site.stop()


class TestFastApi:
    def test_words_are_counted_and_shown(self, service):
        wordcount.queue.conf.update(broker_url="", state_directory=str(service.folder / ".cardoon"))
        ada, bob = ({"Authorization": f"Bearer {token}"} for token in "ab")

        with TestClient(create_wordcount(Settings(tokens={"a": "ada", "b": "bob"}))) as client:
            started = client.post("/texts", json={"text": TEXT, "most": 3}, headers=ada).json()
            shown = client.get(started["status"], params={"wait": 20}, headers=ada).json()

            assert shown["state"] == "SUCCESS", shown
            assert shown["result"] == WORDS
            assert client.get(started["status"], headers=bob).status_code == 404

    def test_a_real_server_does_the_same(self, service):
        service.environment["WORDCOUNT_TOKENS"] = "ada=a bob=b"
        address = service.serve(
            "uvicorn", "uvicorn", "--factory", "--port", "0", "wordcount.main:create_app"
        )

        status, started, _ = ask(
            f"{address}/texts", {"text": TEXT, "most": 3}, Authorization="Bearer a"
        )
        assert status == 202
        status, shown, _ = ask(f"{address}{started['status']}?wait=20", Authorization="Bearer a")

        assert (status, shown["state"], shown["result"]) == (200, "SUCCESS", WORDS)
        assert ask(f"{address}{started['status']}", Authorization="Bearer b")[0] == 404
        assert ask(f"{address}{started['status']}", Authorization="Bearer x")[0] == 401


RECIPE = {
    "task_app/__init__.py": """
        from flask import Flask
        from cardoon import Celery, Task

        def celery_init_app(app: Flask) -> Celery:
            class FlaskTask(Task):
                def __call__(self, *args: object, **kwargs: object) -> object:
                    with app.app_context():
                        return self.run(*args, **kwargs)

            celery_app = Celery(app.name, task_cls=FlaskTask)
            celery_app.config_from_object(app.config["CELERY"])
            celery_app.set_default()
            app.extensions["celery"] = celery_app
            return celery_app

        def create_app() -> Flask:
            app = Flask(__name__)
            app.config.from_mapping(
                CELERY=dict(broker_url="sqlite:///shop.db", task_ignore_result=True),
                GREETING="hello",
            )
            app.config.from_prefixed_env()
            celery_init_app(app)
            from . import views
            app.register_blueprint(views.bp)
            return app
    """,
    "task_app/tasks.py": """
        from flask import current_app
        from cardoon import shared_task

        @shared_task(ignore_result=False)
        def greet(name: str) -> str:
            return f"{current_app.config['GREETING']} {name}"
    """,
    "task_app/views.py": """
        from flask import Blueprint
        from cardoon.result import AsyncResult
        from . import tasks

        bp = Blueprint("tasks", __name__)

        @bp.get("/greet/<name>")
        def greet(name: str) -> dict[str, object]:
            return {"result_id": tasks.greet.delay(name).id}

        @bp.get("/result/<id>")
        def result(id: str) -> dict[str, object]:
            result = AsyncResult(id)
            ready = result.ready()
            return {
                "ready": ready,
                "successful": result.successful() if ready else None,
                "value": result.get() if ready else result.result,
            }
    """,
    "make_celery.py": """
        from task_app import create_app

        flask_app = create_app()
        celery_app = flask_app.extensions["celery"]
    """,
}


def test_a_project_written_as_flask_documents_it_runs(tmp_path):
    for name, text in RECIPE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    site = Site(tmp_path, tmp_path)
    try:
        site.start("worker", "cardoon", "-A", "make_celery", "worker", "--loglevel", "INFO")
        address = site.serve("flask", "flask", "--app", "task_app", "run", "--port", "0")

        _, started, _ = ask(f"{address}/greet/you")
        url = f"{address}/result/{started['result_id']}"
        wait_until(lambda: ask(url)[1]["ready"], "the greeting")

        assert ask(url)[1] == {"ready": True, "successful": True, "value": "hello you"}
    finally:
        site.stop()
