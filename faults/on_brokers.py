"""The broker is killed, restarted, out of disk or of reach."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

from cardoon.brokers.rabbitmq import PREFIX
from faults.matrix import UNBOUNDED, fault
from faults.on_workers import SETTLE_SECONDS
from faults.proxy import Stalled
from faults.stage import QUEUE, Stage
from tests.servers.rabbitmq import RabbitServer

RATE = 400.0
"""Sends a second."""
CROWD = 20
"""Workers, of one task process each."""


def _begin_sending(stage: Stage, *, rate: float = RATE, seconds: float = 0.002) -> None:
    stage.ready_worker()
    stage.client(rate=rate, seconds=seconds)


def _break_for(
    stage: Stage,
    seconds: float,
    damage: Callable[[], object],
    repair: Callable[[], object],
    *,
    rate: float = RATE,
) -> None:
    """Have something broken for so long, under load."""
    _begin_sending(stage, rate=rate)
    stage.until_sent(stage.count * 0.3)
    stage.fault()
    damage()
    stage.pass_time(seconds)
    repair()
    stage.heal()
    stage.settle(SETTLE_SECONDS)


@fault("server")
def broker_kill9(stage: Stage) -> None:
    """SIGKILL of the broker under load; it is back after 3 s."""
    _break_for(stage, 3.0, stage.server.kill, stage.server.start)


@fault("server")
def broker_restart(stage: Stage) -> None:
    """Ten orderly restarts of the broker under load, before two workers."""
    stage.ready_worker("first")
    stage.ready_worker("second")
    stage.client(rate=min(RATE, stage.count / 30), seconds=0.002)
    for number in range(1, 11):
        stage.until_sent(stage.count * number / 12)
        stage.fault()
        stage.server.stop()
        stage.pass_time(1.0)
        stage.server.start()
        stage.heal()
    stage.settle(SETTLE_SECONDS)


@fault("cluster")
def leader_kill9(stage: Stage) -> None:
    """Three times SIGKILL of the node that leads the queue, under load; it is back before the next."""
    stage.ready_worker("first")
    stage.ready_worker("second")
    stage.client(rate=min(RATE, stage.count / 60), seconds=0.002)
    for number in range(1, 4):
        stage.until_sent(stage.count * number / 5)
        leader = stage.cluster.leader_of(f"{PREFIX}.0.{QUEUE}")
        stage.fault()
        leader.kill()
        stage.pass_time(3.0)
        leader.start()
        stage.heal()
    stage.settle(SETTLE_SECONDS)


@fault("network")
def broker_close_conns(stage: Stage) -> None:
    """Every connection is closed, five times, under load."""
    proxy = stage.place.go_through_proxy()
    _begin_sending(stage, rate=200.0, seconds=0.01)
    for number in range(5):
        stage.until_sent(stage.count * (0.1 + 0.15 * number))
        stage.fault()
        proxy.cut()
    stage.settle(SETTLE_SECONDS)


@fault("disk", most={"errors": UNBOUNDED})
def disk_full(stage: Stage) -> None:
    """The disk below the broker is full for 8 s, under load; only senders may hear of it.

    RabbitMQ is started anew once there is room: where its log found not one byte left, the queue refuses
    everything from then on (seen with 3.10.8), which each send tells within its deadline.
    """

    def repair() -> None:
        stage.disk.free()
        server = stage.place.server
        if isinstance(server, RabbitServer):
            server.kill()
            server.start()

    _break_for(stage, 8.0, stage.disk.fill, repair)


@fault("network")
def net_cut(stage: Stage) -> None:
    """Every connection is reset, and new ones are refused, for 5 s."""
    proxy = stage.place.go_through_proxy()
    _break_for(stage, 5.0, proxy.refuse, proxy.heal)


@fault("network")
def net_flap(stage: Stage) -> None:
    """Thirty times every connection is reset, at random moments."""
    proxy = stage.place.go_through_proxy()
    _begin_sending(stage, rate=min(100.0, stage.count / 18), seconds=0.005)
    chance = random.Random(5)
    stage.fault()
    for _ in range(30):
        stage.pass_time(0.2 + chance.random() * 0.6)
        proxy.cut()
    stage.heal()
    stage.settle(SETTLE_SECONDS)


@fault("network")
def net_reply_lost(stage: Stage) -> None:
    """Six times requests arrive and replies do not, for 2 s, and then the connection is reset."""
    proxy = stage.place.go_through_proxy()
    _begin_sending(stage, rate=min(80.0, stage.count / 24), seconds=0.005)
    stage.fault()
    for _ in range(6):
        stage.pass_time(1.5)
        proxy.stall(Stalled.REPLIES)
        stage.pass_time(2.0)
        proxy.cut()
        proxy.heal()
    stage.heal()
    stage.settle(SETTLE_SECONDS)


@fault("network", count=20, most={"late s": 35.0})
def net_pop_lost(stage: Stage) -> None:
    """Twenty times one message is handed to an idle worker, and the link dies before it is there."""
    proxy = stage.place.go_through_proxy()
    stage.ready_worker()
    through, stage.place.url = stage.place.url, stage.place.direct_url
    stage.fault()
    for number in range(20):
        proxy.stall(Stalled.REPLIES)
        stage.send(count=1, prefix=f"pop{number:02d}-", seconds=0.001)
        stage.pass_time(0.4)
        proxy.cut()
        proxy.heal()
        stage.pass_time(0.5)
    stage.heal()
    stage.place.url = through
    stage.settle(SETTLE_SECONDS)
    sent = {entry.ident: entry.at for entry in stage.ledger.entries["sent"]}
    stage.extra["late s"] = max(
        (e.at - sent[e.ident] for e in stage.ledger.entries["end"] if e.ident in sent), default=0.0
    )


@fault("network", most={"errors": UNBOUNDED, "first s": 15.0})
def net_stall(stage: Stage) -> None:
    """Nothing passes for 30 s, and no connection ends; a send may give up meanwhile."""
    proxy = stage.place.go_through_proxy()
    _break_for(stage, 30.0, proxy.stall, proxy.heal)


@fault("network", most={"errors": UNBOUNDED, "first s": 15.0})
def net_halfopen(stage: Stage) -> None:
    """All connections fall silent for ever, new ones work; a second client begins."""
    proxy = stage.place.go_through_proxy()
    _begin_sending(stage)
    stage.until_sent(stage.count * 0.3)
    stage.fault()
    proxy.abandon()
    stage.client(count=min(200, stage.count), prefix="fresh", rate=100.0)
    stage.settle(SETTLE_SECONDS)


@fault("server")
def backend_down(stage: Stage) -> None:
    """The store of results, which is the broker's own, is killed, and back after 8 s."""
    _break_for(stage, 8.0, stage.server.kill, stage.server.start, rate=200.0)


@fault("server", exactly={"at work": CROWD})
def broker_restart_crowd(stage: Stage) -> None:
    """Twenty orderly restarts of the broker under load, before twenty workers, who all go on."""
    workers = [stage.worker(f"worker{number}", concurrency=1) for number in range(CROWD)]
    for worker in workers:
        stage.until(functools.partial(stage.shows_banner, worker))
    stage.client(rate=min(RATE, stage.count / 60), seconds=0.01)
    for number in range(1, 21):
        stage.until_sent(stage.count * number / 24)
        stage.fault()
        stage.server.stop()
        stage.pass_time(1.0)
        stage.server.start()
        stage.heal()
    # Slow enough that none can take the others' share, and enough for each.
    stage.client(count=CROWD * 10, prefix="after", seconds=0.3)
    stage.settle(SETTLE_SECONDS)
    since = stage.heal_at
    stage.extra["at work"] = sum(stage.has_worked(one, after=since) for one in workers)
