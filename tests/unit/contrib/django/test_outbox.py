"""The outbox: what is sent within a transaction is published if that is committed, and once."""

from __future__ import annotations

import asyncio
import io
import logging
import sqlite3
import threading
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import TestCase, override_settings
from django.utils import timezone

from cardoon import chain
from cardoon.broker import Kept
from cardoon.contrib.django import atomic_send, relay_outbox
from cardoon.contrib.django.models import OutboxMessage
from cardoon.contrib.django.outbox import BATCH_ROWS
from cardoon.contrib.django.packing import pack, unpack
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, OperationalError
from cardoon.testing import Simulation, capture
from tests.unit.stage import make_app, succeeded


@pytest.fixture
def app(tmp_path):
    """An app of real time; its broker is in memory."""
    made = make_app(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def mail(app):
    @app.task(name="shop.mail")
    def mail(number):
        return number

    return mail


def arrived(app, limit=1000):
    """The ids of what has reached the broker."""
    broker, _ = app.sender.stores
    return [one.id for one in broker.receive(["celery"], limit=limit, lease=60, timeout=0)]


def waiting(alias="default"):
    return OutboxMessage.objects.using(alias).count()


def leave(app, alias, *calls):
    """Commit calls, and die before they are published."""
    with atomic_send(alias):
        for call in calls:
            call()
        transaction.get_connection(alias).run_on_commit.clear()


class TestASend:
    def test_it_is_published_when_the_transaction_is_committed(self, app, mail, alias, order):
        with atomic_send(alias):
            placed = order.objects.using(alias).create(item="book")
            result = mail.delay(placed.pk)
            assert arrived(app) == []
            assert waiting(alias) == 1

        assert arrived(app) == [result.id]
        assert waiting(alias) == 0
        assert result.request is not None

    def test_it_never_happened_if_the_transaction_is_rolled_back(
        self, app, mail, alias, order, rolled_back
    ):
        with rolled_back(atomic_send, alias):
            mail.delay(order.objects.using(alias).create(item="book").pk)

        assert arrived(app) == []
        assert (waiting(alias), order.objects.using(alias).count()) == (0, 0)

    def test_it_belongs_to_the_outer_transaction(self, app, mail, alias, rolled_back):
        with rolled_back(transaction.atomic, alias):
            with atomic_send(alias):
                mail.delay(1)
            assert arrived(app) == []

        assert arrived(app) == []
        assert waiting(alias) == 0

    def test_what_a_savepoint_takes_back_is_not_published(self, app, mail, alias, rolled_back):
        with atomic_send(alias):
            with rolled_back(transaction.atomic, alias):
                mail.delay(1)
            kept = mail.delay(2)
            with rolled_back(atomic_send, alias):
                mail.delay(3)

        assert arrived(app) == [kept.id]
        assert waiting(alias) == 0

    def test_outside_of_the_block_it_is_published_at_once(self, app, mail, database):
        with atomic_send():
            pass
        with transaction.atomic():
            result = mail.delay(1)
            assert arrived(app) == [result.id]

    def test_a_function_can_be_a_block(self, app, mail, database):
        @atomic_send
        def bare(number):
            return mail.delay(number)

        @atomic_send(durable=True)
        def with_options(number):
            return mail.delay(number)

        assert [bare(1).id, with_options(2).id] == arrived(app)

    def test_a_durable_block_stands_in_no_other(self, mail, database):
        with (
            transaction.atomic(),
            pytest.raises(RuntimeError, match="durable"),
            atomic_send(durable=True),
        ):
            mail.delay(1)

    def test_many_calls_are_one_row(self, app, mail, database):
        with atomic_send():
            results = mail.send_many([(number,) for number in range(300)])
            assert waiting() == 1

        assert arrived(app) == [result.id for result in results]

    def test_a_canvas_is_published_whole_and_runs(self, app, mail, database):
        with Simulation(app) as simulation:
            with atomic_send():
                result = chain(mail.s(1), mail.s()).delay()
                simulation.run_due()
                assert simulation.runs == []

            assert result.get() == 1

    def test_its_result_answers_this_message_and_no_other(self, app, mail, database):
        with Simulation(app):
            with atomic_send():
                result = mail.delay(5)

            assert result.get() == 5

    def test_its_options_are_kept(self, app, mail, database):
        with atomic_send():
            later = mail.apply_async((1,), countdown=60, priority=3)
            now = mail.apply_async((2,), task_id="mine", priority=9)

        assert arrived(app) == ["mine"]
        assert later.id != now.id

    def test_a_unique_call_is_refused_since_nobody_knows_yet_whether_it_is_sent(
        self, app, mail, database
    ):
        with pytest.raises(InvalidTaskError, match="send it behind the block"), atomic_send():
            mail.apply_async((1,), unique=True)

        assert (arrived(app), waiting()) == ([], 0)

    def test_a_limit_goes_along(self, app, mail, database):
        with atomic_send():
            mail.apply_async((1,), concurrency_limit=1)
            mail.apply_async((2,), concurrency_limit=1)

        assert len(arrived(app)) == 1

    def test_arguments_that_do_not_fit_are_an_error_at_once(self, mail, database):
        with pytest.raises(InvalidTaskError), atomic_send():
            mail.delay()

    def test_one_by_another_thread_is_refused(self, mail, database):
        async def elsewhere():
            await asyncio.to_thread(mail.delay, 1)

        with pytest.raises(InvalidTaskError, match="another thread"), atomic_send():
            asyncio.run(elsewhere())

    def test_one_by_a_coroutine_is_refused(self, app, mail, database):
        with pytest.raises(InvalidTaskError, match="coroutine"), atomic_send():
            async_to_sync(mail.adelay)(1)

        assert arrived(app) == []

    def test_threads_that_the_block_does_not_concern_send_as_ever(self, app, mail, database):
        with atomic_send():
            thread = threading.Thread(target=mail.delay, args=(1,))
            thread.start()
            thread.join()

            assert len(arrived(app)) == 1

    @override_settings(INSTALLED_APPS=[])
    def test_without_the_table_it_says_what_to_do(self, mail, database):
        with pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS"), atomic_send():
            mail.delay(1)


class TestTaskCode:
    """It holds no key, so what it sends is signed by the worker, after the commit."""

    def test_a_send_waits_for_the_commit(self, app, mail, database):
        with capture(app) as sent:
            with atomic_send():
                result = mail.delay(1)
                sent.assert_not_sent(mail)

            sent.assert_sent(mail, task_id=result.id)
        assert waiting() == 0

    def test_a_send_is_forgotten_with_the_transaction(self, app, mail, database, rolled_back):
        with capture(app) as sent:
            with rolled_back(atomic_send):
                mail.delay(1)

            sent.assert_not_sent(mail)

    def test_it_relays_nothing(self, app, mail, database):
        leave(app, "default", lambda: mail.delay(1))

        with capture(app), pytest.raises(ImproperlyConfigured, match="broker"):
            relay_outbox(app)

        assert waiting() == 1


class TestARelay:
    def test_it_publishes_what_was_left(self, app, mail, alias):
        leave(app, alias, lambda: mail.delay(1), lambda: mail.delay(2))
        assert arrived(app) == []

        assert relay_outbox(app, using=alias) == 2

        assert len(arrived(app)) == 2
        assert waiting(alias) == 0

    def test_it_takes_as_many_batches_as_there_are(self, app, mail, database):
        count = BATCH_ROWS + 3
        leave(app, "default", *[lambda: mail.delay(1)] * count)

        assert relay_outbox(app) == count

        assert len(arrived(app)) == count
        assert waiting() == 0

    def test_a_second_one_publishes_nothing_twice(self, app, mail, alias):
        leave(app, alias, lambda: mail.delay(1))
        [row] = OutboxMessage.objects.using(alias).all()
        relay_outbox(app, using=alias)
        row.save(using=alias, force_insert=True)  # as if it had died before it could delete

        assert relay_outbox(app, using=alias) == 1

        assert len(arrived(app)) == 1

    def test_it_leaves_young_rows_to_who_wrote_them(self, app, mail, database):
        leave(app, "default", lambda: mail.delay(1))

        assert relay_outbox(app, older_than=10) == 0
        assert waiting() == 1

    def test_it_leaves_other_apps_rows_alone(self, app, mail, database, tmp_path):
        app.main = "another"
        leave(app, "default", lambda: mail.delay(1))
        app.main = "shop"

        assert relay_outbox(app) == 0
        assert waiting() == 1

    def test_it_passes_over_rows_that_another_relay_holds(self, app, mail, postgres):
        leave(app, "postgres", lambda: mail.delay(1))
        leave(app, "postgres", lambda: mail.delay(2))
        first = OutboxMessage.objects.using("postgres").earliest("pk").pk
        other = connections["postgres"].copy()
        with other.cursor() as cursor:
            other.set_autocommit(False)
            cursor.execute("SELECT id FROM cardoon_outboxmessage WHERE id = %s FOR UPDATE", [first])

            assert relay_outbox(app, using="postgres") == 1

            other.rollback()
        other.close()
        assert relay_outbox(app, using="postgres") == 1

    def test_a_row_that_cannot_be_read_stays_and_keeps_no_other(self, app, mail, alias, caplog):
        OutboxMessage.objects.using(alias).create(app="shop", tasks="?", messages=b"\xff")
        leave(app, alias, lambda: mail.delay(1))

        assert relay_outbox(app, using=alias) == 1

        assert waiting(alias) == 1
        assert "cannot be read" in caplog.text

    def test_a_later_send_publishes_what_another_process_left(self, app, mail, database, caplog):
        leave(app, "default", lambda: mail.delay(1))
        OutboxMessage.objects.update(written_at=timezone.now() - timedelta(minutes=1))

        with atomic_send():
            mail.delay(2)

        assert len(arrived(app)) == 2
        assert waiting() == 0
        assert "1 rows that other processes left" in caplog.text


class TestABrokerThatDoesNotAnswer:
    @pytest.fixture
    def app(self, tmp_path):
        made = make_app(tmp_path / "state", broker_url=f"sqlite:///{tmp_path / 'broker.db'}")
        yield made
        made.close()

    @pytest.fixture
    def locked(self, app, mail, tmp_path):
        """Another process holds the broker's file."""
        mail.delay(0)
        assert len(arrived(app)) == 1
        other = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        yield other
        other.close()

    def test_loses_nothing_and_hinders_nobody(self, app, mail, database, locked, caplog):
        with atomic_send():
            first = mail.delay(1)
        with atomic_send():
            second = mail.delay(2)  # does not even try again so soon
        assert waiting() == 2
        assert caplog.text.count("not yet published") == 1
        with pytest.raises(OperationalError):
            relay_outbox(app, timeout=0.1)

        locked.rollback()

        assert relay_outbox(app) == 2
        assert arrived(app) == [first.id, second.id]


class TestDjangosTestCase:
    def test_callbacks_on_commit_publish(self, app, mail, database):
        with transaction.atomic():
            with TestCase.captureOnCommitCallbacks(execute=True) as callbacks, atomic_send():
                result = mail.delay(1)

            assert len(callbacks) == 1
            assert arrived(app) == [result.id]
            transaction.set_rollback(True)

    def test_eager_tasks_run_on_the_spot(self, app, mail, database):
        app.conf.task_always_eager = True

        with atomic_send():
            assert mail.delay(4).get() == 4

        assert waiting() == 0


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _current(self, app):
        app.set_current()

    def answer(self, *arguments):
        out = io.StringIO()
        call_command("cardoon_outbox", *arguments, stdout=out)
        return out.getvalue()

    def test_it_publishes(self, app, mail, alias):
        leave(app, alias, lambda: mail.delay(1))

        assert self.answer("--database", alias) == "rows published: 1\n"

        assert len(arrived(app)) == 1

    def test_it_says_what_lies_there(self, app, mail, database):
        leave(app, "default", lambda: mail.delay(1))

        told = self.answer("--dry-run")

        assert told.startswith("rows waiting: 1\noldest: shop.mail (20")
        assert waiting() == 1

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (("--database", "other"), "'other': there is none of that name; use default, postgres"),
            (("--interval", "0"), "at least 0.01"),
            (("--app", "nosuch"), "there is no module 'nosuch'"),
        ],
    )
    def test_it_refuses_what_cannot_be(self, arguments, why):
        with pytest.raises(CommandError, match=why):
            self.answer(*arguments)


def test_a_send_within_the_block_says_so_to_signals(app, mail, database, hearing):
    from cardoon.signals import after_task_publish, before_task_publish  # noqa: PLC0415

    hearing.listen(before_task_publish, after_task_publish)

    with atomic_send():
        mail.delay(1)

    assert hearing.names() == ["before_task_publish", "after_task_publish"]


def test_the_outbox_logs_no_arguments(app, mail, database, caplog):
    caplog.set_level(logging.DEBUG)
    with atomic_send():
        mail.delay("a secret")

    assert "a secret" not in caplog.text


class TestWhoCanWriteToTheTable:
    """Can hold a message back, and nothing that a worker would believe."""

    @pytest.fixture
    def row(self, stage, database):
        leave(stage.app, "default", lambda: stage.send(5))
        return OutboxMessage.objects.get()

    def relayed(self, stage, row, **changes):
        [message] = unpack(bytes(row.messages))
        row.messages = pack([message._replace(**changes)])
        row.save()
        relay_outbox(stage.app)
        return stage.consume()

    def test_what_was_not_changed_runs(self, stage, row):
        assert len(self.relayed(stage, row)) == 1

    def test_what_was_changed_is_refused(self, stage, row):
        [message] = unpack(bytes(row.messages))

        assert self.relayed(stage, row, frame=message.frame.replace(b"[[5]", b"[[6]")) == []
        assert [kept.reason for kept in stage.kept(Kept.QUARANTINE)] == ["wrong-digest"]

    def test_a_copy_of_what_has_run_is_refused(self, stage, row):
        [job] = self.relayed(stage, row)
        stage.end(job, succeeded())
        row.save(force_insert=True)

        assert self.relayed(stage, row) == []
        assert [kept.reason for kept in stage.kept(Kept.QUARANTINE)] == ["replayed"]

    def test_nor_does_it_run_under_another_id(self, stage, row):
        assert self.relayed(stage, row, id="another") == []
        assert [kept.reason for kept in stage.kept(Kept.QUARANTINE)] == ["wrong-id"]

    def test_what_has_lain_too_long_is_refused(self, stage, row):
        stage.clock.advance(stage.settings.security_max_age + 3600)

        assert self.relayed(stage, row) == []
        assert [kept.reason for kept in stage.kept(Kept.QUARANTINE)] == ["expired"]
