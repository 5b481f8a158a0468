"""The application: registers tasks and sends messages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest

from cardoon import Cardoon, Celery, Task
from cardoon.app import current_application
from cardoon.broker import Outgoing
from cardoon.config import WITHHELD
from cardoon.context import Request, carrying_out
from cardoon.exceptions import (
    EncodeError,
    ImproperlyConfigured,
    InvalidTaskError,
    OperationalError,
    SecurityError,
)
from cardoon.message.serializers import decode_body
from tests.unit.stage import PATIENCE, PLAIN, make_app, succeeded


@pytest.fixture
def pay(stage):
    """A task of the stage's app."""
    return stage.app.task(name="shop.pay")(lambda *args: args)


def drain(stage):
    """The arguments of all that waits."""
    return [decode_body(job.head["codec"], job.body, max_bytes=1000)[0] for job in stage.consume()]


class TestSettings:
    def test_they_are_given_by_name_or_as_celerys_arguments(self, tmp_path):
        app = Cardoon(
            "shop",
            broker="memory://",
            backend="memory://",
            include=["a", "b"],
            task_default_queue="q",
            set_as_current=False,
        )

        assert (app.conf.broker_url, app.conf.result_backend) == ("memory://", "memory://")
        assert (app.settings.include, app.settings.task_default_queue) == (("a", "b"), "q")
        assert repr(app) == "<Cardoon shop>"
        assert repr(Cardoon(set_as_current=False)) == "<Cardoon __main__>"

    def test_an_unknown_one_is_refused_with_a_suggestion(self):
        with pytest.raises(ImproperlyConfigured, match="did you mean 'broker_url'"):
            Cardoon("shop", broker_ur="memory://")

    def test_a_wrong_broker_is_an_error_at_the_first_use(self, tmp_path):
        app = make_app(tmp_path, broker_url="redi://host")
        task = app.task(name="x")(lambda: 1)

        with pytest.raises(ImproperlyConfigured, match="redi"):
            task.delay()

    def test_a_networked_broker_without_identity_names_the_remedy(self, tmp_path):
        app = make_app(tmp_path / "state", broker_url="redis://host")

        with pytest.raises(ImproperlyConfigured, match="`cardoon init`"):
            app.task(name="x")(lambda: 1).delay()
        assert not (tmp_path / "state" / "client.key").exists()

    def test_a_changed_setting_makes_a_new_connection(self, app):
        task = app.task(name="x")(lambda: 1)
        task.delay()
        first = app.sender
        assert app.sender is first

        app.conf.task_default_priority = 3

        assert app.sender is not first

    def test_the_old_name_is_the_same_class(self):
        assert Celery is Cardoon


class TestNames:
    def test_a_task_of_a_script_is_named_after_the_app(self, app):
        assert app.gen_task_name("add", "__main__") == "shop.add"
        assert app.gen_task_name("add", "pkg.mod") == "pkg.mod.add"

    def test_without_a_name_of_the_app_it_is_the_file(self, monkeypatch):
        app = Cardoon(set_as_current=False)
        monkeypatch.setattr(sys.modules["__main__"], "__file__", "/srv/jobs.py", raising=False)
        assert app.gen_task_name("add", "__main__") == "jobs.add"
        monkeypatch.delattr(sys.modules["__main__"], "__file__")
        assert app.gen_task_name("add", "__main__") == "__main__.add"

    def test_tasks_are_made_of_the_apps_own_class(self, tmp_path):
        class Mine(Task):
            queue = "mine"

        app = make_app(tmp_path, task_cls=Mine)

        assert isinstance(app.task(name="x")(lambda: 1), Mine)
        assert app.Task is Mine


class TestSending:
    def test_a_message_is_signed_and_stored(self, stage, pay):
        result = pay.delay(1, 2)

        [job] = stage.consume()
        assert (job.task, job.id) == ("shop.pay", result.id)
        assert job.head["origin"].endswith("client")
        assert result.request is not None

    def test_by_name_it_need_not_be_known(self, stage):
        stage.app.conf.update(task_default_queue="celery", task_default_priority=2)
        result = stage.app.send_task("shop.pay", (1,), countdown=-1)

        [job] = stage.consume()
        assert (job.id, job.head["max_retries"]) == (result.id, None)
        assert job.head["headers"]["priority"] == 2

    def test_by_name_a_known_one_is_checked(self, stage):
        stage.app.task(name="shop.one")(lambda x: x)

        with pytest.raises(InvalidTaskError):
            stage.app.send_task("shop.one")

    @pytest.mark.parametrize("name", ["", "a\nb", 5])
    def test_what_is_no_name_is_refused(self, app, name):
        with pytest.raises(InvalidTaskError, match="task name="):
            app.send_task(name)

    def test_what_cannot_travel_is_refused_and_nothing_is_sent(self, stage, pay):
        with pytest.raises(EncodeError):
            pay.delay(object())

        assert stage.depth() == (0, 0, 0)

    def test_an_option_that_is_unknown_is_refused(self, pay):
        with pytest.raises(InvalidTaskError, match="did you mean 'queue'"):
            pay.apply_async(queu="fast")

    def test_a_task_of_a_running_task_is_its_child(self, stage, pay):
        with carrying_out(Request(task="a", id="parent", root_id="root")):
            pay.delay()
            pay.apply_async(parent_id="other", root_id="elder")

        first, second = stage.consume()
        assert (first.head["parent"], first.head["root"]) == ("parent", "root")
        assert (second.head["parent"], second.head["root"]) == ("other", "elder")

    def test_a_result_by_id_has_a_proper_one(self, app):
        assert app.AsyncResult("t1").id == "t1"
        with pytest.raises(InvalidTaskError, match="task_id="):
            app.AsyncResult("\ud800")


class TestSendingMany:
    def test_calls_are_tuples_or_dicts(self, stage, pay):
        stage.app.task(name="shop.keys")(lambda x=0: x)

        results = pay.send_many([(1,), [2, 3]], queue="celery")
        stage.app.tasks["shop.keys"].send_many([{"x": 4}])

        assert len({result.id for result in results}) == 2
        assert sorted(drain(stage)) == [[1], [2, 3]]

    def test_many_of_nothing_are_none(self, pay):
        assert pay.send_many([]) == []

    def test_one_wrong_call_keeps_all_back(self, stage, pay):
        one = stage.app.task(name="shop.one")(lambda x: x)

        with pytest.raises(InvalidTaskError):
            one.send_many([(1,), (1, 2)])
        with pytest.raises(InvalidTaskError, match=r"for one argument write \(value,\)"):
            one.send_many([1])
        with pytest.raises(EncodeError):
            pay.send_many([(1,), (object(),)])
        with pytest.raises(InvalidTaskError, match="one task_id cannot name many"):
            pay.send_many([(1,), (2,)], task_id="x")

        assert stage.depth() == (0, 0, 0)

    def test_signatures_of_several_tasks_go_together(self, stage, pay):
        one = stage.app.task(name="shop.pay2")(lambda x: x)

        results = stage.app.send_many([pay.s(1), one.s(2).set(task_id="mine")])

        assert results[1].id == "mine"
        assert stage.depth()[0] == 2

    def test_one_wrong_signature_keeps_all_back(self, stage, pay):
        one = stage.app.task(name="shop.one")(lambda x: x)

        with pytest.raises(InvalidTaskError):
            stage.app.send_many([pay.s(1), one.s()])
        with pytest.raises(InvalidTaskError, match="queue="):
            stage.app.send_many([pay.s(1), one.s(1).set(queue="a\nb")])
        with pytest.raises(InvalidTaskError, match="unknown option"):
            stage.app.send_many([pay.s(1), stage.app.signature("no.such").set(quueue="a")])

        assert stage.depth() == (0, 0, 0)


class Failing:
    """A `Sender` that fails, and counts how often it was asked."""

    def __init__(self):
        self.tries = []

    def send(self, calls, *, timeout):
        self.tries.append(timeout)
        raise OperationalError("away")


class TestPublishRetries:
    @pytest.fixture
    def failing(self, app):
        failing = Failing()
        app.attach(failing)
        app.conf.task_publish_retry_policy = {"interval_step": 0, "max_retries": 2}
        return failing

    def test_a_publish_is_tried_by_the_policy(self, app, failing):
        with pytest.raises(OperationalError, match="away"):
            app.send_task("x")
        assert failing.tries == [10, 10, 10]

    def test_a_call_may_say_otherwise(self, app, failing):
        with pytest.raises(OperationalError):
            app.send_task("x", retry=False, timeout=3)
        with pytest.raises(OperationalError):
            app.send_task("x", retry_policy={"max_retries": 1})

        assert failing.tries == [3, 10, 10]

    def test_a_setting_may_say_otherwise(self, app, failing):
        app.conf.update(task_publish_retry=False, task_publish_timeout=5)

        with pytest.raises(OperationalError):
            app.send_task("x")
        assert failing.tries == [5]

    def test_a_coroutine_is_no_exception(self, app, failing):
        task = app.task(name="x")(lambda: 1)

        with pytest.raises(OperationalError):
            asyncio.run(task.adelay())
        with pytest.raises(OperationalError):
            asyncio.run(task.aapply_async(retry=False, timeout=2))

        assert failing.tries == [10, 10, 10, 2]


class TestCoroutines:
    def test_two_hundred_send_and_await_at_once(self, stage, pay):
        async def ask(number):
            return await (await pay.adelay(number))

        async def work():
            done = 0
            while done < 200:
                for job in await asyncio.to_thread(stage.consume):
                    [number], _, _ = decode_body(job.head["codec"], job.body, max_bytes=1000)
                    stage.settler.ended(job.key, succeeded(number * 2))
                    done += 1

        async def scenario():
            worker = asyncio.create_task(work())
            found = await asyncio.gather(*(ask(number) for number in range(200)))
            await worker
            return found

        found = asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

        assert found == [number * 2 for number in range(200)]

    def test_options_are_taken(self, stage, pay):
        result = asyncio.run(pay.aapply_async((1,), task_id="mine"))

        [job] = stage.consume()
        assert job.id == result.id == "mine"
        assert result.request is not None

    def test_arguments_are_checked(self, app):
        task = app.task(name="x")(lambda x: 1)

        with pytest.raises(InvalidTaskError):
            asyncio.run(task.adelay())


class TestConnections:
    def test_an_app_is_closed_and_used_again(self, app):
        task = app.task(name="x")(lambda: 1)
        with app as same:
            assert same is app
            task.delay()
            first = app.sender
        app.close()

        task.delay()

        assert app.sender is not first

    def test_a_link_takes_the_place_of_a_connection(self, app):
        link = Failing()

        app.attach(link)
        assert app.sender is link
        app.detach()
        assert app.sender is not link

    def test_while_a_worker_imports_the_app_nothing_is_sent(self, app, monkeypatch):
        monkeypatch.setenv("CARDOON_PROCESS", "task")

        with pytest.raises(ImproperlyConfigured, match="call it from a task"):
            app.send_task("x")

    def test_the_app_that_was_made_last_is_the_current_one(self):
        app = Cardoon("latest", broker="memory://")

        assert current_application() is app


def run_script(tmp_path, script):
    """Run a script in a process of its own; returns what it printed."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_forked_process_sends_over_a_connection_of_its_own(tmp_path):
    told = run_script(
        tmp_path,
        """
        import os, signal
        from cardoon import Cardoon

        signal.alarm(30)
        app = Cardoon("shop")
        task = app.task(name="x")(lambda: 1)
        task.delay()
        pid = os.fork()
        task.delay()
        if pid == 0:
            task.delay()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        task.delay()
        print(sum(depth.ready for depth in app.sender._broker.depths()))
        """,
    )

    assert told == "5\n"


def test_a_process_forked_in_the_middle_of_a_send_sends_nevertheless(tmp_path):
    told = run_script(
        tmp_path,
        """
        import asyncio, os, signal, threading
        from cardoon import Cardoon

        signal.alarm(30)

        class Stuck:
            def send(self, calls, *, timeout):
                begun.set()
                let_go.wait()
                return [b"x" * 32 for _ in calls]

        begun, let_go = threading.Event(), threading.Event()
        app = Cardoon("shop")
        task = app.task(name="x")(lambda: 1)
        app.attach(Stuck())
        sending = threading.Thread(target=lambda: asyncio.run(task.adelay()))
        sending.start()
        begun.wait()
        pid = os.fork()
        if pid == 0:
            app.detach()
            asyncio.run(task.adelay())
            os._exit(0)
        print(os.waitpid(pid, 0)[1])
        let_go.set()
        sending.join()
        """,
    )

    assert told == "0\n"


class TestPlainMessages:
    def test_without_signatures_no_identity_is_needed(self, make_stage):
        stage = make_stage(settings=PLAIN)

        result = stage.send(1)
        [job] = stage.consume()
        stage.end(job, succeeded(5))

        assert job.head["origin"] is None
        assert result.get(timeout=5) == 5
        assert not (stage.folder / "client.key").exists()

    def test_a_signed_message_is_refused_there(self, make_stage):
        plain, signing = make_stage(settings=PLAIN), make_stage()
        signing.send(1)
        [delivery] = signing.broker.receive(["celery"], limit=1, lease=30, timeout=0)
        copy = Outgoing(delivery.queue, delivery.id, delivery.frame)
        plain.broker.publish([copy], timeout=5)

        assert plain.consume() == []
        assert plain.event_names() == ["message.not_accepted"]


@pytest.fixture(scope="module")
def openssl_files(tmp_path_factory):
    """A key and a self-signed certificate, made as Celery's users make them."""
    folder = tmp_path_factory.mktemp("ssl")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    command += ["-subj", "/CN=worker", "-keyout", "worker.key", "-out", "worker.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl command here to make keys with")
    (folder / "worker.key").chmod(0o600)
    return folder


class TestSetupSecurity:
    def test_the_example_of_celerys_manual_works(self, openssl_files, tmp_path):
        app = Celery(broker="memory://", set_as_current=False, state_directory=str(tmp_path))
        app.conf.update(
            security_key=f"{openssl_files}/worker.key",
            security_certificate=f"{openssl_files}/worker.pem",
            security_cert_store=f"{openssl_files}/*.pem",
        )
        app.setup_security()
        task = app.task(name="add")(lambda x, y: x + y)

        result = task.delay(2, 2)

        assert result.request is not None
        assert app.conf.accept_content == ("auth",)
        assert (app.conf.task_serializer, app.conf.result_serializer) == ("auth", "auth")
        app.close()

    def test_everything_may_be_given_as_an_argument(self, openssl_files, app):
        app.setup_security(
            allowed_serializers=["json", "auth"],
            key=f"{openssl_files}/worker.key",
            key_password="",
            cert=f"{openssl_files}/worker.pem",
            store=f"{openssl_files}/*.pem",
            digest="sha512",
        )

        assert app.conf.accept_content == ("auth", "json")
        assert app.conf.security_digest == "sha512"

    @pytest.mark.parametrize(
        "missing", ["security_key", "security_certificate", "security_cert_store"]
    )
    def test_what_is_missing_is_named(self, openssl_files, app, missing):
        given = {
            "security_key": f"{openssl_files}/worker.key",
            "security_certificate": f"{openssl_files}/worker.pem",
            "security_cert_store": f"{openssl_files}/*.pem",
        }
        del given[missing]
        app.conf.update(given)

        with pytest.raises(ImproperlyConfigured, match=rf"{missing} is not set; it needs"):
            app.setup_security()

    def test_a_wrong_path_is_an_error_at_once(self, openssl_files, app):
        with pytest.raises(SecurityError, match=r"nowhere.key"):
            app.setup_security(
                key=f"{openssl_files}/nowhere.key",
                cert=f"{openssl_files}/worker.pem",
                store=f"{openssl_files}/*.pem",
            )

    def test_an_insecure_serializer_is_refused(self, app):
        with pytest.raises(ImproperlyConfigured, match="names 'pickle'"):
            app.setup_security(serializer="pickle")

    def test_the_serializer_says_how_what_is_signed_is_written(self, openssl_files, app):
        app.setup_security(
            serializer="msgpack",
            key=f"{openssl_files}/worker.key",
            cert=f"{openssl_files}/worker.pem",
            store=f"{openssl_files}/*.pem",
        )

        assert app.conf.accept_content == ("auth", "msgpack")
        assert (app.conf.task_serializer, app.conf.result_serializer) == ("msgpack", "msgpack")

    def test_a_process_that_runs_tasks_does_not_read_the_key(self, app, monkeypatch):
        monkeypatch.setenv("CARDOON_PROCESS", "task")

        app.setup_security(key=f"{WITHHELD}KEY", cert="nowhere.pem", store="nowhere/*.pem")

        assert app.conf.task_serializer == "auth"
