"""What a Broker driver must do with messages that wait; part of `cardoon.testing.brokers`."""
# ruff: noqa: D102 - a suite asserts, and the names of its tests are sentences
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.broker import (
    STRAY_GRACE_SECONDS,
    Ack,
    Broker,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Inspectable,
    Kept,
    Maintained,
    Outcome,
    Outgoing,
    Quarantine,
    Requeue,
    Transactional,
)
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import (
    BrokerFixtures,
    errback,
    failure,
    frames,
    having,
    ids,
    message,
    predecessor,
    publish,
    receive,
    success,
    waiting,
)

LONG = 20.0
"""Seconds in real time after which a test gives up on something that should happen at once."""

A_MINUTE = 60.0
"""Within which a driver finds a message that waits for one that is nowhere."""


class WorkflowSuite(BrokerFixtures):
    """A message that waits for others is woken by how they end, once, and told how."""

    def test_a_message_that_waits_is_lent_after_its_predecessor_with_its_result(
        self, broker: Broker
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (a,) = receive(broker)

        transactional.complete([success(a)])

        (b,) = receive(broker)
        assert (a.id, a.inputs) == ("a", ())
        assert b == Delivery("q", "b", b"b", b.receipt, 1, inputs=b.inputs)
        assert b.inputs == ((*predecessor("a"), b"A"),)

    def test_a_message_may_be_sent_before_what_it_waits_for(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, waiting("b", "a"))
        publish(broker, message("a"))

        transactional.complete([success(delivery) for delivery in receive(broker)])

        assert ids(receive(broker)) == ["b"]

    def test_a_chain_runs_link_by_link(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        names = [f"m{number}" for number in range(20)]
        links = [waiting(name, *names[number:][:1]) for number, name in enumerate(names[1:])]
        publish(broker, *reversed(links), message(names[0]))

        seen = []
        while deliveries := receive(broker):
            transactional.complete([success(delivery) for delivery in deliveries])
            seen.append(ids(deliveries))

        assert seen == [[name] for name in names]

    def test_the_last_of_many_wakes_and_results_come_in_the_order_asked_for(
        self, broker: Broker
    ) -> None:
        transactional = having(broker, Transactional)
        members = [f"m{number}" for number in range(2500)]
        publish(broker, *map(message, members), waiting("body", *reversed(members)))

        while len(deliveries := receive(broker, limit=300)) > 1:
            assert "body" not in ids(deliveries)
            transactional.complete([success(delivery) for delivery in deliveries])

        (body,) = deliveries
        assert [each.id for each in body.inputs] == members[::-1]
        assert frames(body) == [member.upper().encode() for member in members[::-1]]
        assert body.inputs[7].request == predecessor(members[-8]).request

    def test_one_result_goes_to_all_who_wait_for_it(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), *(waiting(f"b{number}", "a") for number in range(5)))

        transactional.complete([success(delivery) for delivery in receive(broker)])
        given = receive(broker)
        transactional.complete([success(delivery) for delivery in given[:4]])
        broker.settle([Requeue(given[4])])

        assert [frames(delivery) for delivery in given] == [[b"A"]] * 5
        assert [frames(delivery) for delivery in receive(broker)] == [[b"A"]]

    @pytest.mark.parametrize("frame", [b"", b"\x00", bytes(range(256)) * 9000])
    def test_a_result_may_be_any_bytes(self, broker: Broker, frame: bytes) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("x"), waiting("b", "a", "x"))
        a, x = receive(broker)

        transactional.complete(
            [
                Completion(Ack(a), outcome=Outcome(frame, succeeded=True)),
                Completion(Ack(x), outcome=Outcome(b"x", succeeded=True)),
            ]
        )

        assert frames(receive(broker)[0]) == [frame, b"x"]

    def test_a_message_may_wait_for_the_same_one_twice(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"), waiting("c", "a", "b", "a"))
        a, b = receive(broker)

        transactional.complete([success(a)])
        early = receive(broker)
        transactional.complete([success(b)])

        assert early == []
        assert frames(receive(broker)[0]) == [b"A", b"B", b"A"]

    def test_who_waits_in_receive_is_told_of_a_message_that_wakes(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (a,) = receive(broker)

        with ThreadPoolExecutor() as threads:
            later = threads.submit(broker.receive, ["q"], limit=1, lease=30, timeout=LONG)
            transactional.complete([success(a)])

            assert ids(later.result(LONG)) == ["b"]

    def test_a_message_that_wakes_has_its_old_place_in_the_line(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, waiting("early", "a"), message("a"))
        (a,) = receive(broker)
        publish(broker, message("late"))

        transactional.complete([success(a)])

        assert ids(receive(broker)) == ["early", "late"]

    @pytest.mark.parametrize(
        ("delay", "run_in", "pause"), [(5, None, 5), (5, 3, 5), (5, 8, 8), (0, 8, 8), (0, -8, 0)]
    )
    def test_a_delay_counts_from_the_last_end_and_a_time_holds_as_well(
        self, broker: Broker, clock: FakeClock, delay: float, run_in: float | None, pause: float
    ) -> None:
        transactional = having(broker, Transactional)
        run_at = None if run_in is None else clock.now() + 100 + run_in
        publish(broker, message("a"), waiting("b", "a", delay=delay, run_at=run_at))
        publish(broker, message("x"), errback("e", of="x", delay=delay)._replace(run_at=run_at))
        a, x = receive(broker)
        self.pass_time(clock, 100)
        transactional.complete([success(a), failure(x)])

        seen = []
        for _ in range(10):
            seen.append(len(receive(broker)))
            self.pass_time(clock, 1)

        assert [second for second, count in enumerate(seen) if count] == [pause]
        assert max(seen) == 2

    def test_a_failure_wakes_at_once_whatever_else_is_missing(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        transactional = having(broker, Transactional)
        body = waiting("body", "a", "b", "c", delay=50, run_at=clock.now() + 90)
        publish(broker, message("a"), message("b"), message("c"), body)
        a, b, c = receive(broker)

        transactional.complete([success(a), failure(b)])
        (first,) = receive(broker)
        transactional.complete([success(c)])
        early = receive(broker)
        transactional.complete([Completion(Requeue(first))])
        (second,) = receive(broker)

        assert frames(first) == [b"A", b"no b", None]
        assert early == []
        assert frames(second) == [b"A", b"no b", b"C"]

    def test_a_skipped_task_is_a_failure_to_what_follows_it(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (a,) = receive(broker)

        transactional.complete([failure(a, skipped=True)])

        assert ids(receive(broker)) == ["b"]

    def test_a_failure_wakes_an_errback(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), errback("e", of="a"))
        (a,) = receive(broker)

        transactional.complete([failure(a)])

        assert [frames(delivery) for delivery in receive(broker)] == [[b"no a"]]

    @pytest.mark.parametrize("end", [success, functools.partial(failure, skipped=True)])
    def test_without_a_failure_of_its_own_an_errback_is_deleted_unread(
        self, broker: Broker, end: Callable[[Delivery], Completion]
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), errback("e", of="a"), waiting("b", "a"))
        (a,) = receive(broker)

        transactional.complete([end(a)])

        assert ids(receive(broker)) == ["b"]
        # Its id is free again.
        publish(broker, message("e"))
        assert ids(receive(broker)) == ["e"]

    @pytest.mark.parametrize("keeps", [DeadLetter, Quarantine])
    def test_a_message_that_is_kept_has_ended(
        self, broker: Broker, keeps: type[DeadLetter | Quarantine]
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (a,) = receive(broker)

        outcome = Outcome(b"sorry", succeeded=False)
        transactional.complete([Completion(keeps(a, "broken"), outcome=outcome)])

        assert [frames(delivery) for delivery in receive(broker)] == [[b"sorry"]]

    @pytest.mark.parametrize("cause", Cause)
    def test_a_message_that_goes_back_has_not_ended(self, broker: Broker, cause: Cause) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (a,) = receive(broker)

        transactional.complete([Completion(Requeue(a, cause), outcome=Outcome(b"x", True))])

        assert ids(receive(broker)) == ["a"]

    def test_an_outcome_without_the_lease_is_dropped(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (old,) = receive(broker)
        broker.settle([Requeue(old)])
        (new,) = receive(broker)

        assert transactional.complete([success(old)]) == [False]
        assert receive(broker) == []
        assert transactional.complete([failure(new)]) == [True]
        assert [frames(delivery) for delivery in receive(broker)] == [[b"no a"]]

    def test_the_end_of_the_same_id_again_adds_nothing(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"), waiting("body", "a", "b"))
        a, b = receive(broker)
        transactional.complete([success(a)])
        publish(broker, message("a"))
        (again,) = receive(broker)

        transactional.complete([failure(again)])
        early = receive(broker)
        transactional.complete([success(b)])

        assert early == []
        assert [frames(delivery) for delivery in receive(broker)] == [[b"A", b"B"]]

    def test_what_waits_for_a_message_waits_for_its_replacement(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"))
        (a,) = receive(broker)

        transactional.complete([Completion(Ack(a), publish=(Outgoing("q", "a", b"anew"),))])
        (replacement,) = receive(broker)
        transactional.complete([success(replacement)])

        assert replacement.frame == b"anew"
        assert ids(receive(broker)) == ["b"]

    @pytest.mark.parametrize("order", [1, -1])
    def test_what_a_completion_publishes_may_wait_for_what_ends_with_it(
        self, broker: Broker, order: int
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"))
        a, b = receive(broker)
        completions = [
            success(a)._replace(publish=(waiting("c", "a", "b"), waiting("d", "new"))),
            success(b)._replace(publish=(message("new"),)),
        ]

        transactional.complete(completions[::order])
        found = receive(broker)
        transactional.complete([success(each) for each in found if each.id == "new"])

        assert sorted(ids(found)) == ["c", "new"]
        assert [frames(each) for each in found if each.id == "c"] == [[b"A", b"B"]]
        assert ids(receive(broker)) == ["d"]

    def test_a_message_may_wait_for_one_whose_end_is_known(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"), waiting("first", "a", "b"))
        a, b = receive(broker)
        transactional.complete([success(a), failure(b)])

        publish(broker, waiting("late", "a"), waiting("slow", "a", delay=9), waiting("close", "b"))
        publish(broker, errback("never", of="a"), errback("caught", of="b"), waiting("not", "c"))
        # All that is sent together is stored before it is told, so this is one message.
        publish(broker, errback("twice", of="a"), message("twice"))

        assert ids(receive(broker)) == ["first", "late", "close", "caught"]
        self.pass_time(clock, 9)
        assert ids(receive(broker)) == ["slow"]

    def test_an_outcome_for_which_nobody_waits_is_forgotten(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), message("b"), waiting("c", "b"))
        transactional.complete([success(delivery) for delivery in receive(broker)])
        transactional.complete([success(delivery) for delivery in receive(broker)])

        publish(broker, waiting("d", "a"), waiting("e", "b"))

        assert receive(broker) == []

    def test_sending_a_message_that_waits_again_is_one_message(self, broker: Broker) -> None:
        transactional = having(broker, Transactional)
        publish(broker, message("a"), waiting("b", "a"), waiting("b", "x"))
        publish(broker, message("b"), waiting("b", "y"), waiting("a", "z"))

        transactional.complete([success(delivery) for delivery in receive(broker)])

        (b,) = receive(broker)
        assert [each.id for each in b.inputs] == ["a"]


class KeptWorkflowSuite(BrokerFixtures):
    """Messages that wait are seen, deleted, kept and found by people and upkeep as any other."""

    def test_messages_that_wait_are_counted_and_purged(self, broker: Broker) -> None:
        transactional, inspectable = having(broker, Transactional), having(broker, Inspectable)
        elsewhere = waiting("b", "a")._replace(queue="r")
        publish(broker, message("a"), elsewhere, waiting("c", "a"), waiting("d", "b", "c"))
        (a,) = receive(broker)

        depths = {depth.queue: depth for depth in inspectable.depths()}
        purged = inspectable.purge("q")
        transactional.complete([success(a)])

        assert [(name, depth.dormant, depth.ready) for name, depth in depths.items()] == [
            ("q", 2, 0),
            ("r", 1, 0),
        ]
        assert purged == 2
        assert receive(broker) == []
        assert [frames(delivery) for delivery in receive(broker, "r")] == [[b"A"]]
        assert {depth.dormant for depth in inspectable.depths()} == {0}

    @pytest.mark.parametrize("where", Kept)
    def test_a_kept_message_keeps_what_it_was_told_and_is_told_more(
        self, broker: Broker, where: Kept
    ) -> None:
        transactional, inspectable = having(broker, Transactional), having(broker, Inspectable)
        publish(broker, message("a"), message("b"), message("c"), waiting("body", "a", "b", "c"))
        a, b, c = receive(broker)
        transactional.complete([failure(a)])
        (body,) = receive(broker)
        keep = DeadLetter if where is Kept.DEAD_LETTER else Quarantine
        broker.settle([keep(body, "odd")])
        transactional.complete([success(b)])
        (kept,) = inspectable.kept(where, limit=1)

        inspectable.restore(where, [kept.number])

        (again,) = receive(broker)
        assert frames(again) == [b"no a", b"B", None]
        transactional.complete([success(c), Completion(Requeue(again))])
        (last,) = receive(broker)
        assert frames(last) == [b"no a", b"B", b"C"]

    def test_a_kept_message_and_a_new_one_of_its_id_are_told_apart(self, broker: Broker) -> None:
        transactional, inspectable = having(broker, Transactional), having(broker, Inspectable)
        publish(broker, message("a"), waiting("b", "a"))
        transactional.complete([success(delivery) for delivery in receive(broker)])
        broker.settle([DeadLetter(receive(broker)[0], "broken")])
        publish(broker, message("x"), waiting("b", "x"))
        transactional.complete([success(delivery) for delivery in receive(broker)])
        (new,) = receive(broker)
        broker.settle([Ack(new)])
        (kept,) = inspectable.kept(Kept.DEAD_LETTER, limit=1)

        inspectable.restore(Kept.DEAD_LETTER, [kept.number])

        assert [frames(new), *map(frames, receive(broker))] == [[b"X"], [b"A"]]

    def test_what_a_discarded_message_was_told_is_forgotten(self, broker: Broker) -> None:
        transactional, inspectable = having(broker, Transactional), having(broker, Inspectable)
        publish(broker, message("a"), waiting("b", "a"))
        transactional.complete([success(delivery) for delivery in receive(broker)])
        broker.settle([DeadLetter(receive(broker)[0], "broken")])
        publish(broker, waiting("known", "a"))
        (known,) = receive(broker)
        broker.settle([Ack(known)])

        inspectable.discard(Kept.DEAD_LETTER, None)
        publish(broker, waiting("unknown", "a"))

        assert frames(known) == [b"A"]
        assert receive(broker) == []

    def test_a_message_that_waits_for_one_that_is_nowhere_is_woken_to_be_closed(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        transactional, maintained = having(broker, Transactional), having(broker, Maintained)
        publish(broker, message("a"), waiting("b", "a", "lost", delay=99), errback("e", of="gone"))
        transactional.complete([success(delivery) for delivery in receive(broker)])

        self.pass_time(clock, STRAY_GRACE_SECONDS - 1)
        maintained.maintain()
        early = receive(broker)
        self.pass_time(clock, A_MINUTE)
        taken_back = maintained.maintain()

        assert early == []
        assert [frames(delivery) for delivery in receive(broker)] == [[b"A", None], [None]]
        assert taken_back == 0

    def test_a_message_whose_predecessors_are_all_somewhere_goes_on_waiting(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        transactional, maintained = having(broker, Transactional), having(broker, Maintained)
        having(broker, Inspectable)
        publish(broker, message("ended"), message("kept"), message("running"))
        publish(broker, waiting("dormant", "running"))
        everything = ("ended", "kept", "running", "ready", "scheduled", "dormant")
        publish(broker, waiting("b", *everything))
        ended, kept, running = receive(broker)
        publish(broker, Outgoing("q", "ready", b"", priority=9))
        publish(broker, Outgoing("q", "scheduled", b"", run_at=clock.now() + 9 * A_MINUTE))
        transactional.complete([success(ended), Completion(Quarantine(kept, "odd"))])

        for _ in range(5):
            self.pass_time(clock, A_MINUTE / 2)
            broker.extend([running], lease=A_MINUTE)
            maintained.maintain()

        assert ids(receive(broker)) == ["ready"]

    def test_a_message_whose_predecessor_is_lost_later_is_found(
        self, broker: Broker, clock: FakeClock
    ) -> None:
        having(broker, Transactional)
        maintained, inspectable = having(broker, Maintained), having(broker, Inspectable)
        scheduled = Outgoing("r", "a", b"", run_at=clock.now() + 9 * A_MINUTE)
        publish(broker, scheduled, message("x"), waiting("b", "a"), waiting("c", "x"))
        (x,) = receive(broker)
        broker.settle([Quarantine(x, "odd")])
        self.pass_time(clock, 2 * STRAY_GRACE_SECONDS)
        maintained.maintain()
        early = receive(broker)

        inspectable.purge("r")
        inspectable.discard(Kept.QUARANTINE, None)
        self.pass_time(clock, A_MINUTE)
        maintained.maintain()

        assert early == []
        assert [frames(delivery) for delivery in receive(broker)] == [[None], [None]]
