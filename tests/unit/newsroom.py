"""A client and several workers with a broadcast queue, on one broker in memory, that move when told to."""

from __future__ import annotations

import json

from cardoon import Cardoon
from cardoon.backends.memory import MemoryBackend
from cardoon.broker import Kept, Outgoing
from cardoon.deployment import Deployment
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import parse_frame
from cardoon.producer import Producer
from cardoon.queues import Broadcast, Queue, private_queue
from cardoon.testing import FakeClock
from cardoon.testing.simulated import SimulatedBroker, SimulatedWorker
from cardoon.worker.options import WorkerOptions

QUEUES = (Queue("celery"), Broadcast("news"), Broadcast("weather"))


class Newsroom:
    """Its app has the queues above; `ran` says which worker ran what."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.clock = FakeClock()
        self.broker = SimulatedBroker(clock=self.clock)
        self.backend = MemoryBackend(self.broker.results)
        self.app = Cardoon(
            "shop",
            set_as_current=False,
            clock=self.clock,
            broker_url="memory://",
            state_directory=str(folder),
            worker_pool="solo",
            task_queues=QUEUES,
            **settings,
        )
        self.ran = []
        self.forged = 0

        @self.app.task(name="tell", bind=True)
        def tell(task, *args):
            self.ran.append((task.request.hostname, *args))
            return task.request.hostname

        self.tell = tell
        deployment = Deployment(self.app.settings, clock=self.clock)
        self.client = Producer(deployment, stores=(self.broker, self.backend))
        self.app.attach(self.client)
        self.workers = {}

    def start(self, *names, **options):
        """Start workers of these names; the first of them."""
        for name in names:
            worker = SimulatedWorker(
                WorkerOptions(hostname=name, **options),
                app=self.app,
                clock=self.clock,
                stores=(self.broker, self.backend),
            )
            worker.subscriptions.begin()
            self.workers[name] = worker
        self.app.attach(self.client)
        return self.workers[names[0]]

    def stop(self, name):
        """As SIGTERM does."""
        self.workers.pop(name).close()
        self.app.attach(self.client)

    def kill(self, name):
        """It is gone, and its leases run out; the subscriptions not yet."""
        del self.workers[name]
        self.pass_time(40)

    def close(self):
        for name in list(self.workers):
            self.stop(name)
        self.client.close()

    def pass_time(self, seconds):
        """Time passes while those that live renew what they have."""
        for _ in range(int(seconds) // 10):
            self.clock.advance(10)
            for worker in self.workers.values():
                worker.keeper.tick()
        self.clock.advance(seconds % 10)
        self.broker.maintain()

    def work(self, *names):
        """Have these workers, or all, do what is due, once each; what ran."""
        before = len(self.ran)
        only = frozenset(queue.name for queue in QUEUES)
        for name in names or list(self.workers):
            self.workers[name].keeper.listen()
            self.workers[name].claim(self.broker, limit=10, only=only)
            while self.workers[name].step() is not None:
                pass
        return self.ran[before:]

    def send(self, *args, queue="news", **options):
        return self.tell.apply_async(args, queue=queue, **options)

    def frame(self, name, queue="news"):
        """The frame of a copy that waits for a worker."""
        return self._waiting(private_queue(queue, name) if queue != "celery" else queue)

    def put(self, frame, name, queue="news"):
        """As somebody does who can write the store."""
        there = private_queue(queue, name) if name else queue
        self.forged += 1
        signed = parse_claims(parse_frame(frame).claims).id
        forged = Outgoing(there, f"{signed}>forged {self.forged}", frame)
        self.broker.publish([forged], timeout=1)

    def refused(self):
        """The reasons of what was refused."""
        return [one.reason for one in self.broker.kept(Kept.QUARANTINE, limit=100)]

    def audited(self, event):
        trail = (self.folder / "audit.jsonl").read_text().splitlines()
        return [one for one in map(json.loads, trail) if one["event"] == event]

    def left(self):
        """How much lies in the queues."""
        return sum(each.ready + each.scheduled + each.leased for each in self.broker.depths())

    def _waiting(self, queue):
        [found] = [one.frame for one in self.broker._waiting() if one.queue == queue]
        return found
