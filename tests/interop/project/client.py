"""A Celery client in a process of its own: carries out what it reads, and prints what came of it.

{"do": "send", "name": ..., "args": [...], "options": {...}, "times": 1}    -> ids
{"do": "get", "id": ..., "timeout": 20}                                     -> the value, or what was raised
{"do": "canvas", "name": ...}                                               -> ids
"""

import json
import sys

import celery
from theirs import app


def send(name, args=(), options=None, times=1):
    return [app.send_task(name, args, **(options or {})).id for _ in range(times)]


def send_many(name, calls, queue):
    return [app.send_task(name, args, queue=queue).id for args in calls]


def get(id, timeout=20):
    try:
        return {"value": app.AsyncResult(id).get(timeout=timeout)}
    except Exception as error:  # noqa: BLE001  # whatever it is, the test hears of it
        return {"raised": type(error).__name__, "text": str(error)}


def canvas(kind, name, queue):
    one = celery.signature(name, (1, 2), app=app).set(queue=queue)
    match kind:
        case "chain":
            return [celery.chain(one, one).apply_async().id]
        case "chord":
            return [celery.chord([one, one], one, app=app).apply_async(queue=queue).id]
        case "link":
            return [one.apply_async(link=one).id]
        case "group":
            return [each.id for each in celery.group([one, one], app=app).apply_async()]


def raw(queue, body, content_type, headers=None, compression=None, encoding="utf-8"):
    body = body["text"] * body["times"] if isinstance(body, dict) else body
    if encoding == "binary":
        body = body.encode()
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(
            body,
            routing_key=queue,
            exchange="",
            content_type=content_type,
            content_encoding=encoding,
            headers=headers,
            compression=compression,
        )


DO = {"send": send, "send_many": send_many, "get": get, "canvas": canvas, "raw": raw}

for line in sys.stdin:
    wish = json.loads(line)
    print(json.dumps(DO[wish.pop("do")](**wish)), flush=True)
