"""FastAPI: the lifespan, the dependencies, and the route that shows results."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions within functions.

import asyncio
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel

from cardoon import AsyncResult
from cardoon.contrib.fastapi import (
    CardoonApp,
    lifespan,
    result_dependency,
    result_router,
    unavailable,
)
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.message.serializers import JSON, encode_body
from cardoon.worker.concluding import ResultState
from cardoon.worker.settler import State
from tests.unit.stage import PATIENCE, failed, held_of, make_app, succeeded


async def says_please(request: Request, task_id: str) -> bool:
    """Whether the request is polite; remembers what it was asked for."""
    request.app.state.asked.append(task_id)
    return request.headers.get("please") == "1"


PLEASE = {"please": "1"}


class Total(BaseModel):
    """What a task returns."""

    total: int


def make_site(**options: Any) -> FastAPI:
    made = FastAPI(**options)
    made.state.asked = []
    return made


class TestTheLifespan:
    def test_it_connects_before_the_first_request_and_closes_after_the_last(self, app, tmp_path):
        site = make_site(lifespan=lifespan(app))

        with TestClient(site):
            assert (tmp_path / "state" / "client.key").exists()
            producer = app.sender
            assert app.sender is producer

        assert app.sender is not producer

    def test_a_broker_that_is_not_there_stops_the_start(self, tmp_path):
        queue = make_app(tmp_path, broker_url="carrier-pigeon://loft")

        with (
            pytest.raises(ImproperlyConfigured, match="carrier-pigeon"),
            TestClient(make_site(lifespan=lifespan(queue))),
        ):
            raise AssertionError("it started")

    def test_ones_own_runs_within_it(self, app):
        seen = []

        @asynccontextmanager
        async def mine(site):
            seen.append(site.state.cardoon)
            yield {"answer": 42}
            seen.append("end")

        site = make_site(lifespan=lifespan(app, mine))

        @site.get("/")
        def read(request: Request) -> int:
            return request.state.answer

        with TestClient(site) as client:
            assert client.get("/").json() == 42
            assert seen == [app]
        assert seen == [app, "end"]

    def test_it_closes_when_ones_own_fails(self, app):
        @asynccontextmanager
        async def mine(site):
            seen.append(app.sender)
            raise RuntimeError("no database")
            yield

        seen = []

        with (
            pytest.raises(RuntimeError, match="no database"),
            TestClient(make_site(lifespan=lifespan(app, mine))),
        ):
            raise AssertionError("it started")
        assert app.sender is not seen[0]

    def test_an_eager_app_connects_to_nothing(self, tmp_path):
        queue = make_app(tmp_path / "state", task_always_eager=True)

        with TestClient(make_site(lifespan=lifespan(queue))):
            pass

        assert not (tmp_path / "state").exists()

    def test_without_it_a_route_says_what_to_do(self):
        site = make_site()

        @site.get("/")
        def read(queue: CardoonApp) -> None: ...

        with pytest.raises(ImproperlyConfigured, match=r"lifespan=lifespan\(queue\)"):
            TestClient(site).get("/")


class TestRoutes:
    def test_a_route_is_given_the_app(self, app):
        site = make_site(lifespan=lifespan(app))

        @site.post("/pay")
        async def pay(queue: CardoonApp) -> str:
            return queue.send_task("shop.pay", (5,)).id

        with TestClient(site) as client:
            task_id = client.post("/pay").json()

        assert len(task_id) == 36

    def test_sending_does_not_block_the_event_loop(self, app):
        begun, let_go = threading.Event(), threading.Event()

        class SlowBroker:
            """Stores when it is let."""

            def send(self, calls, *, timeout):
                begun.set()
                assert let_go.wait(PATIENCE)
                return [bytes(32) for _ in calls]

        app.attach(SlowBroker())
        pay = app.task(name="shop.pay")(lambda: None)
        site = make_site()

        @site.post("/pay")
        async def start() -> str:
            return (await pay.adelay()).id

        @site.get("/ping")
        async def ping() -> str:
            return "pong"

        async def both():
            transport = httpx2.ASGITransport(app=site)
            async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
                paying = asyncio.create_task(client.post("/pay"))
                await asyncio.to_thread(begun.wait, PATIENCE)
                answered = (await client.get("/ping")).json()
                waited = not paying.done()
                let_go.set()
                return answered, waited, (await paying).status_code

        assert asyncio.run(asyncio.wait_for(both(), PATIENCE)) == ("pong", True, 200)

    def test_a_broker_that_does_not_answer_in_time_is_a_503(self, app, caplog):
        let_go = threading.Event()

        class DeadBroker:
            """Answers nobody."""

            def send(self, calls, *, timeout):
                let_go.wait(PATIENCE)
                raise OperationalError("sqlite: locked")

        app.attach(DeadBroker())
        app.conf.task_publish_timeout = 0.05
        pay = app.task(name="shop.pay")(lambda: None)
        site = make_site(exception_handlers={OperationalError: unavailable})

        @site.post("/pay")
        async def start() -> str:
            return (await pay.adelay()).id

        answer = TestClient(site).post("/pay")
        let_go.set()

        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json() == {"detail": "the task queue does not answer; try again"}
        assert "POST '/pay': 503: publish: not confirmed within 0.05 seconds" in caplog.text


class TestTheResultRoute:
    @pytest.fixture
    def client(self, stage):
        site = make_site(lifespan=lifespan(stage.app))
        site.include_router(result_router(authorize=says_please, max_wait=5), prefix="/results")
        with TestClient(site) as made:
            yield made

    def test_it_shows_a_task_from_its_start_to_its_end(self, stage, client):
        task_id = stage.send().id
        path = f"/results/{task_id}"
        assert client.get(path, headers=PLEASE).json()["state"] == "PENDING"

        [job] = stage.consume()
        progress = encode_body({"result": {"done": 1}}, JSON)
        stage.settler.put(State(held_of(stage, job), ResultState("PROGRESS", JSON, progress)))
        stage.flush()
        found = client.get(path, headers=PLEASE).json()
        assert (found["state"], found["ready"]) == ("PROGRESS", False)
        assert found["progress"] == {"done": 1}

        stage.end(job, succeeded({"total": 5}))
        answer = client.get(path, headers=PLEASE)
        assert answer.json() == {
            "id": task_id,
            "state": "SUCCESS",
            "ready": True,
            "result": {"total": 5},
            "error": None,
            "progress": None,
        }
        assert answer.headers["Cache-Control"] == "no-store"

    def test_a_failure_says_what_and_not_where(self, stage, client):
        task_id = stage.send().id
        stage.end(stage.consume()[0], failed(ValueError("bad luck")))

        found = client.get(f"/results/{task_id}", headers=PLEASE).json()

        assert found["error"] == {"type": "ValueError", "message": "bad luck", "traceback": None}

    def test_a_stranger_sees_no_more_than_of_an_id_that_cannot_be(self, stage, client):
        task_id = stage.send().id

        refused = client.get(f"/results/{task_id}")
        impossible = client.get(f"/results/{'x' * 129}", headers=PLEASE)

        for answer in (refused, impossible):
            assert answer.status_code == 404
            assert answer.json() == {"detail": "no such task"}
            assert answer.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("wrong", ["x" * 129, "%00", "a%0ab", "%e2%80%ae"])
    def test_nobody_is_asked_about_an_id_that_cannot_be_one(self, client, wrong):
        assert client.get(f"/results/{wrong}", headers=PLEASE).status_code == 404
        assert client.app.state.asked == []

    def test_it_waits_for_the_end_if_asked_to(self, stage, client):
        task_id = stage.send().id
        [job] = stage.consume()
        ending = threading.Timer(0.05, stage.end, (job, succeeded(5)))
        ending.start()

        found = client.get(f"/results/{task_id}?wait=5", headers=PLEASE).json()

        ending.join()
        assert found["result"] == 5

    def test_it_answers_when_the_time_is_over(self, stage, client):
        task_id = stage.send().id

        for _ in range(2):
            found = client.get(f"/results/{task_id}?wait=0.01", headers=PLEASE).json()
            assert found["state"] == "PENDING"

    def test_waiting_does_not_block_the_event_loop(self, stage, client):
        ids = [stage.send().id for _ in range(50)]
        jobs = stage.consume()

        async def all_of_them():
            transport = httpx2.ASGITransport(app=client.app)
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://x", headers=PLEASE, timeout=PATIENCE
            ) as http:
                waiting = [
                    asyncio.create_task(http.get(f"/results/{task_id}?wait=5")) for task_id in ids
                ]
                found = await http.get(f"/results/{ids[0]}")
                assert found.json()["state"] == "PENDING"
                for number, job in enumerate(jobs):
                    await asyncio.to_thread(stage.end, job, succeeded(number))
                return [(await one).json()["result"] for one in waiting]

        assert asyncio.run(asyncio.wait_for(all_of_them(), PATIENCE)) == list(range(50))

    @pytest.mark.parametrize("wrong", ["-1", "5.1", "nan", "inf", "long"])
    def test_how_long_it_may_wait_is_bounded(self, client, wrong):
        assert client.get(f"/results/t1?wait={wrong}", headers=PLEASE).status_code == 422

    def test_the_document_describes_it(self, client):
        document = client.get("/openapi.json").json()

        operation = document["paths"]["/results/{task_id}"]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/TaskStatus"}
        described = document["components"]["schemas"]["TaskStatus"]
        assert set(described["properties"]) == {
            "id",
            "state",
            "ready",
            "result",
            "error",
            "progress",
        }
        [wait] = [one for one in operation["parameters"] if one["name"] == "wait"]
        assert wait["schema"]["maximum"] == 5
        assert "404" in operation["responses"]


class TestWhatARouterMayBeTold:
    def site(self, stage, **options):
        made = make_site()
        made.include_router(result_router(cardoon=stage.app, **options), prefix="/results")
        return TestClient(made)

    def test_the_app_may_be_named(self, stage):
        client = self.site(stage, authorize=lambda: True)

        assert client.get("/results/t1").json()["state"] == "PENDING"

    def test_the_type_of_results_is_described_and_held_to(self, stage):
        client = self.site(stage, authorize=lambda: True, result_type=Total)
        good, other = stage.send().id, stage.send().id
        for job in stage.consume():
            value = {"total": 5} if job.id == good else {"secret": 1}
            stage.end(job, succeeded(value))

        assert client.get(f"/results/{good}").json()["result"] == {"total": 5}
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        assert "Total" in schemas
        with pytest.raises(Exception, match="total"):
            client.get(f"/results/{other}")

    def test_a_traceback_is_shown_where_it_is_asked_for(self, stage):
        client = self.site(stage, authorize=lambda: True, traceback=True)
        task_id = stage.send().id
        stage.end(stage.consume()[0], failed())

        assert client.get(f"/results/{task_id}").json()["error"]["traceback"] == "..."

    def test_authorize_may_ask_for_dependencies_and_answer_by_itself(self, stage):
        def current_user(token: Annotated[str, Header()] = "") -> str:
            if not token:
                raise HTTPException(401, "who are you?")
            return token

        def is_mine(task_id: str, user: Annotated[str, Depends(current_user)]) -> bool:
            return task_id.startswith(f"{user}.")

        client = self.site(stage, authorize=is_mine)

        assert client.get("/results/ada.1").status_code == 401
        assert client.get("/results/ada.1", headers={"token": "ada"}).status_code == 200
        assert client.get("/results/bob.1", headers={"token": "ada"}).status_code == 404

    @pytest.mark.parametrize("answer", [None, "yes", 1])
    def test_an_answer_that_is_not_true_or_false_fails_closed(self, stage, answer):
        client = self.site(stage, authorize=lambda: answer)

        with pytest.raises(TypeError, match="it must be True or False"):
            client.get("/results/t1")

    def test_it_cannot_be_made_without_authorization(self):
        with pytest.raises(TypeError, match="authorize"):
            result_router()
        with pytest.raises(ImproperlyConfigured, match="authorize=None is not a function"):
            result_router(authorize=None)
        with pytest.raises(ImproperlyConfigured, match="authorize=None is not a function"):
            result_dependency(authorize=None)

    def test_a_route_of_ones_own_may_use_a_result(self, stage):
        site = make_site()
        find = result_dependency(authorize=says_please, cardoon=stage.app)

        @site.delete("/tasks/{task_id}")
        def cancel(result: Annotated[AsyncResult[Any], Depends(find)]) -> str:
            result.revoke()
            return result.id

        client = TestClient(site)

        assert client.delete("/tasks/t1").status_code == 404
        assert client.delete("/tasks/t1", headers=PLEASE).json() == "t1"
        assert "operator.revoke" in stage.event_names()


def test_without_fastapi_the_import_says_what_to_install():
    script = "import sys; sys.modules['fastapi'] = None; import cardoon.contrib.fastapi"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert "pip install cardoon[fastapi]" in done.stderr.splitlines()[-1]


def test_the_handler_is_for_nothing_else():
    with pytest.raises(ValueError, match="mine"):
        asyncio.run(unavailable(None, ValueError("mine")))
