"""Flask: settings, contexts, and the page that shows results."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import flask
import pytest
from flask import Flask, abort, g

from cardoon import AsyncResult, Celery, Task, shared_task
from cardoon.app import current_application
from cardoon.context import Request
from cardoon.contrib.flask import FlaskCardoon, FlaskTask, result_blueprint, unavailable
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.executor import execute_async
from cardoon.message.serializers import JSON, encode_body
from cardoon.worker.concluding import ResultState
from cardoon.worker.settler import State
from tests.unit.stage import failed, held_of, rules, succeeded

MEMORY = {"broker_url": "memory://"}


@pytest.fixture
def site():
    """A Flask application that remembers how its contexts ended."""
    made = Flask("shop")
    made.config.update(CARDOON=MEMORY, GREETING="hello")
    made.ended = []
    made.teardown_appcontext(made.ended.append)
    return made


@pytest.fixture
def queue(site):
    made = FlaskCardoon(site)
    yield made
    made.close()


class TestSettings:
    def test_they_come_from_the_dict_in_the_config(self, site):
        site.config["CARDOON"] = {**MEMORY, "task_ignore_result": True}

        queue = FlaskCardoon(site)

        assert queue.conf.broker_url == "memory://"
        assert queue.conf.task_ignore_result

    def test_celerys_name_will_do(self):
        site = Flask("shop")
        site.config.from_mapping(CELERY={"broker_url": "memory://", "task_ignore_result": True})

        assert FlaskCardoon(site).conf.task_ignore_result

    def test_they_may_stand_one_by_one_beside_the_dict(self, site):
        site.config["CARDOON_TASK_DEFAULT_QUEUE"] = "slow"

        conf = FlaskCardoon(site).conf

        assert (conf.task_default_queue, conf.broker_url) == ("slow", "memory://")

    def test_they_may_come_from_flasks_environment(self, site, monkeypatch):
        site.config.pop("CARDOON")
        monkeypatch.setenv("FLASK_CARDOON__TASK_DEFAULT_QUEUE", "slow")
        monkeypatch.setenv("FLASK_CARDOON_TASK_IGNORE_RESULT", "true")

        site.config.from_prefixed_env()
        conf = FlaskCardoon(site).conf

        assert (conf.task_default_queue, conf.task_ignore_result) == ("slow", True)

    def test_they_win_over_keyword_arguments(self, site):
        queue = FlaskCardoon(site, broker_url="sqlite:///other.db", task_default_queue="slow")

        assert queue.conf.broker_url == "memory://"
        assert queue.conf.task_default_queue == "slow"

    def test_an_unknown_one_is_an_error_with_a_suggestion(self, site):
        site.config["CARDOON_TASK_DEFAULT_QUEU"] = "slow"

        with pytest.raises(ImproperlyConfigured, match="did you mean 'task_default_queue'"):
            FlaskCardoon(site)

    def test_one_that_is_said_twice_is_an_error(self, site):
        site.config["CARDOON_BROKER_URL"] = "memory://"

        with pytest.raises(ImproperlyConfigured, match="broker_url is set in 'CARDOON' and by"):
            FlaskCardoon(site)

    def test_two_dicts_are_an_error(self, site):
        site.config["CELERY"] = MEMORY

        with pytest.raises(ImproperlyConfigured, match="has CARDOON and CELERY"):
            FlaskCardoon(site)

    def test_what_is_no_dict_is_an_error(self, site):
        site.config["CARDOON"] = "memory://"

        with pytest.raises(ImproperlyConfigured, match="CARDOON='memory://' is not a dict"):
            FlaskCardoon(site)


class TestTheExtension:
    def test_it_is_found_where_extensions_are(self, site, queue):
        assert site.extensions["cardoon"] is site.extensions["celery"] is queue
        assert current_application() is queue
        assert queue.main == "shop"

    def test_a_second_one_is_refused(self, site, queue):
        with pytest.raises(ImproperlyConfigured, match="'shop' has a Cardoon app already"):
            FlaskCardoon(site)

    def test_tasks_may_be_declared_before_there_is_an_application(self, site):
        queue = FlaskCardoon()

        @queue.task
        def greet(name):
            return f"{flask.current_app.config['GREETING']} {name}"

        queue.init_app(site)

        assert greet.apply(("you",)).get() == "hello you"

    def test_without_an_application_a_task_says_what_to_do(self):
        queue = FlaskCardoon(**MEMORY)
        task = queue.task(name="x")(lambda: 1)

        with pytest.raises(ImproperlyConfigured, match=r"init_app\(app\) has not been called"):
            task.apply().get()

    def test_a_second_application_takes_the_place_of_the_first(self):
        queue = FlaskCardoon(broker_url="memory://")
        task = queue.task(name="x")(lambda: flask.current_app.name)
        first, second = Flask("first"), Flask("second")
        first.config["CARDOON"] = {"task_default_queue": "slow"}

        queue.init_app(first)
        queue.init_app(second)

        assert task.apply().get() == "second"
        assert (queue.conf.task_default_queue, queue.conf.broker_url) == ("celery", "memory://")
        assert queue.main == "second"

    def test_a_task_class_without_context_is_refused(self, site):
        with pytest.raises(ImproperlyConfigured, match="is not a subclass of FlaskTask"):
            FlaskCardoon(site, task_cls=Task)

    def test_a_flask_task_of_another_app_says_so(self, app):
        task = app.task(name="x", base=FlaskTask)(lambda: 1)

        with pytest.raises(ImproperlyConfigured, match="'x': a FlaskTask belongs to a FlaskCard"):
            task()


class TestContexts:
    def test_each_call_has_a_fresh_one_that_is_torn_down(self, site, queue):
        @queue.task
        def count():
            assert not flask.has_request_context()
            g.seen = g.get("seen", 0) + 1
            return g.seen

        assert [count.apply().get() for _ in range(2)] == [1, 1]
        assert site.ended == [None, None]

    def test_what_a_task_raises_reaches_the_teardown(self, site, queue):
        @queue.task
        def fail():
            raise ValueError("no")

        assert isinstance(fail.apply().get(propagate=False), ValueError)
        assert [str(error) for error in site.ended] == ["no"]

    def test_a_coroutine_has_its_own_till_it_ends(self, site, queue):
        @queue.task
        async def greet():
            await asyncio.sleep(0)
            assert site.ended == []
            return flask.current_app.config["GREETING"]

        assert greet.apply().get() == "hello"
        assert site.ended == [None]

    def test_coroutines_side_by_side_do_not_see_each_others(self, queue):
        @queue.task
        async def remember(value):
            g.value = value
            await asyncio.sleep(0.01)
            return g.value

        async def several():
            requests = (
                Request(task=remember.name, id=str(n), args=(n,), called_directly=False)
                for n in range(3)
            )
            return await asyncio.gather(*(execute_async(remember, one) for one in requests))

        assert [outcome.value for outcome in asyncio.run(several())] == [0, 1, 2]

    def test_a_bound_task_has_its_request(self, queue):
        @queue.task(bind=True)
        def describe(self, x):
            return self.request.id, self.name, x, flask.current_app.name

        found = describe.apply((5,), task_id="t1").get()

        assert found == ("t1", describe.name, 5, "shop")

    def test_a_task_that_is_called_like_a_function_has_one(self, site, queue):
        task = queue.task(name="x")(lambda: flask.current_app.name)

        assert task() == "shop"
        assert site.ended == [None]

    def test_a_shared_task_has_one(self, queue, monkeypatch):
        monkeypatch.setattr("cardoon.shared.SHARED", [])

        @shared_task
        def where():
            return flask.current_app.name

        assert where.apply().get() == "shop"

    def test_a_class_of_the_users_own_has_one(self, queue):
        class Report(FlaskTask):
            name = "report"

            def run(self):
                return flask.current_app.name

        assert queue.register_task(Report()).apply().get() == "shop"


class TestFlasksOwnRecipe:
    """As Flask's documentation has it, but for the import root."""

    @pytest.fixture
    def recipe(self, tmp_path, monkeypatch):
        monkeypatch.setattr("cardoon.shared.SHARED", shared := [])
        monkeypatch.setattr("cardoon.app.SHARED", shared)
        site = Flask("shop")
        site.config.from_mapping(
            CELERY={
                "broker_url": "memory://",
                "state_directory": str(tmp_path),
                "task_ignore_result": True,
            },
            GREETING="hello",
        )

        class ContextTask(Task):
            def __call__(self, *args: object, **kwargs: object) -> object:
                with site.app_context():
                    return self.run(*args, **kwargs)

        made = Celery(site.name, task_cls=ContextTask)
        made.config_from_object(site.config["CELERY"])
        made.set_default()
        site.extensions["celery"] = made
        yield site
        made.close()

    def test_tasks_run_within_the_context(self, recipe):
        @shared_task(ignore_result=False)
        def greet_you(name: str) -> str:
            return f"{flask.current_app.config['GREETING']} {name}"

        assert greet_you.apply(("you",)).get() == "hello you"

    def test_views_send_and_show(self, recipe):
        @shared_task(ignore_result=False)
        def add_together(a: int, b: int) -> int:
            return a + b

        @recipe.post("/add")
        def start_add() -> dict[str, object]:
            a = flask.request.form.get("a", type=int)
            b = flask.request.form.get("b", type=int)
            return {"result_id": add_together.delay(a, b).id}

        @recipe.get("/result/<id>")
        def task_result(id: str) -> dict[str, object]:
            result = AsyncResult(id)
            return {
                "ready": result.ready(),
                "successful": result.successful(),
                "value": result.result if result.ready() else None,
            }

        client = recipe.test_client()
        task_id = client.post("/add", data={"a": "2", "b": "3"}).json["result_id"]

        assert client.get(f"/result/{task_id}").json == {
            "ready": False,
            "successful": False,
            "value": None,
        }
        assert isinstance(recipe.extensions["celery"], Celery)


class TestTheResultPage:
    @pytest.fixture
    def shown(self, site, make_stage):
        """A page for those who say please, on a stage with a task."""
        stage = make_stage(catalogue={"shop.pay": rules()})
        site.extensions["cardoon"] = stage.app
        asked = []

        def authorize(request, task_id):
            asked.append(task_id)
            return request.args.get("please") == "1"

        site.register_blueprint(
            result_blueprint(authorize=authorize, max_wait=5), url_prefix="/results"
        )
        site.asked = asked
        return stage

    def get(self, site, path, **more):
        return site.test_client().get(f"/results/{path}", **more)

    def test_it_shows_a_task_from_its_start_to_its_end(self, site, shown):
        task_id = shown.send().id
        assert self.get(site, f"{task_id}?please=1").json["state"] == "PENDING"

        [job] = shown.consume()
        progress = encode_body({"result": {"done": 1}}, JSON)
        shown.settler.put(State(held_of(shown, job), ResultState("PROGRESS", JSON, progress)))
        shown.flush()
        found = self.get(site, f"{task_id}?please=1").json
        assert (found["state"], found["ready"]) == ("PROGRESS", False)
        assert found["progress"] == {"done": 1}

        shown.end(job, succeeded({"total": 5}))
        answer = self.get(site, f"{task_id}?please=1")
        assert answer.status_code == 200
        assert answer.json == {
            "id": task_id,
            "state": "SUCCESS",
            "ready": True,
            "result": {"total": 5},
            "error": None,
            "progress": None,
        }

    def test_nothing_may_keep_a_copy(self, site, shown):
        for path in ("t1?please=1", "t1", "t%0a1?please=1", "t1?please=1&wait=x"):
            assert self.get(site, path).headers["Cache-Control"] == "no-store", path

    def test_a_failure_says_what_and_not_where(self, site, shown):
        task_id = shown.send().id
        shown.end(shown.consume()[0], failed(ValueError("bad luck")))

        found = self.get(site, f"{task_id}?please=1").json

        assert found["error"] == {"type": "ValueError", "message": "bad luck", "traceback": None}

    def test_a_traceback_is_shown_where_it_is_asked_for(self, site, shown):
        site.register_blueprint(
            result_blueprint(authorize=lambda *_: True, traceback=True, name="inner"),
            url_prefix="/inner",
        )
        task_id = shown.send().id
        shown.end(shown.consume()[0], failed())

        found = site.test_client().get(f"/inner/{task_id}").json

        assert found["error"]["traceback"] == "..."

    def test_a_stranger_sees_no_more_than_of_an_id_that_cannot_be(self, site, shown):
        task_id = shown.send().id

        refused, impossible = self.get(site, task_id), self.get(site, "x" * 129 + "?please=1")

        assert (refused.status_code, impossible.status_code) == (404, 404)
        assert refused.json == impossible.json == {"detail": "no such task"}

    @pytest.mark.parametrize("wrong", ["x" * 129, "%00", "a%0ab", "%e2%80%ae"])
    def test_an_id_that_cannot_be_one_is_shown_to_nobody_and_nothing(self, site, shown, wrong):
        assert self.get(site, f"{wrong}?please=1").status_code == 404
        assert site.asked == []

    def test_an_answer_that_is_not_true_or_false_fails_closed(self, site, shown):
        site.register_blueprint(
            result_blueprint(authorize=lambda *_: "yes", name="careless"), url_prefix="/careless"
        )

        assert site.test_client().get("/careless/t1").status_code == 500

    def test_authorize_may_be_a_coroutine_function(self, site, shown):
        async def only_t1(request, task_id):
            return task_id == "t1"

        site.register_blueprint(
            result_blueprint(authorize=only_t1, name="slow"), url_prefix="/slow"
        )
        client = site.test_client()

        assert client.get("/slow/t1").status_code == 200
        assert client.get("/slow/t2").status_code == 404

    def test_authorize_may_answer_by_itself(self, site, shown):
        def ask_for_login(request, task_id):
            abort(401)

        site.register_blueprint(
            result_blueprint(authorize=ask_for_login, name="strict"), url_prefix="/strict"
        )

        assert site.test_client().get("/strict/t1").status_code == 401

    def test_it_cannot_be_made_without_authorization(self):
        with pytest.raises(TypeError, match="authorize"):
            result_blueprint()
        with pytest.raises(ImproperlyConfigured, match="authorize=None is not a function"):
            result_blueprint(authorize=None)

    def test_it_waits_for_the_end_if_asked_to(self, site, shown):
        task_id = shown.send().id
        [job] = shown.consume()
        ending = threading.Timer(0.05, shown.end, (job, succeeded(5)))
        ending.start()

        found = self.get(site, f"{task_id}?please=1&wait=5").json

        ending.join()
        assert found["result"] == 5

    def test_it_answers_when_the_time_is_over(self, site, shown):
        found = self.get(site, f"{shown.send().id}?please=1&wait=0.01").json

        assert found["state"] == "PENDING"

    @pytest.mark.parametrize("wrong", ["-1", "5.1", "nan", "inf", "long", ""])
    def test_how_long_it_may_wait_is_bounded(self, site, shown, wrong):
        answer = self.get(site, f"t1?please=1&wait={wrong}")

        assert answer.status_code == 400
        assert answer.json == {"detail": "wait: seconds from 0 to 5"}

    def test_an_application_without_queue_says_so(self):
        site = Flask("shop")
        site.testing = True
        site.register_blueprint(result_blueprint(authorize=lambda *_: True))

        with pytest.raises(ImproperlyConfigured, match="'shop' has no Cardoon app"):
            site.test_client().get("/t1")


class TestABrokerThatIsAway:
    def test_a_request_is_answered_with_503_and_when_to_come_again(self, site, caplog):
        site.register_error_handler(OperationalError, unavailable)

        @site.post("/pay")
        def pay():
            raise OperationalError("sqlite: locked for 10 s")

        answer = site.test_client().post("/pay")

        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "sqlite" not in answer.text
        assert "POST '/pay': 503: sqlite: locked" in caplog.text


def test_a_process_forked_after_the_import_sends_and_reads(tmp_path):
    """What gunicorn's --preload does."""
    script = """
        import os, signal
        from flask import Flask
        from cardoon.contrib.flask import FlaskCardoon, result_blueprint

        signal.alarm(30)
        site = Flask("shop")
        queue = FlaskCardoon(site)
        pay = queue.task(name="pay")(lambda: 1)
        site.add_url_rule("/pay", view_func=lambda: pay.delay().id, methods=["POST"])
        site.register_blueprint(result_blueprint(authorize=lambda *_: True))
        first = site.test_client().post("/pay").text
        for _ in range(2):
            if os.fork() == 0:
                second = site.test_client().post("/pay").text
                assert site.test_client().get(f"/{first}").json["state"] == "PENDING"
                os._exit(0)
        assert [os.wait()[1] for _ in range(2)] == [0, 0]
        site.test_client().post("/pay")
        print(sum(depth.ready for depth in queue.sender._broker.depths()))
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("4\n", "")


def test_without_flask_the_import_says_what_to_install():
    script = "import sys; sys.modules['flask'] = None; import cardoon.contrib.flask"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert "pip install cardoon[flask]" in done.stderr.splitlines()[-1]
