"""Tasks of which the end-to-end tests make workflows."""

import time

from work import app, touch

from cardoon import AsyncResult, GroupResult, Task, group


@app.task(name="work.leaf")
def leaf(n: object) -> object:
    return n


@app.task(name="work.wrap")
def wrap(x: object, tag: str = "w") -> list:
    return [tag, x]


@app.task(name="work.ident")
def ident(*args: object) -> list:
    return list(args)


@app.task(name="work.tell")
def tell(request: object, error: Exception, traceback: str, *, path: str) -> None:
    touch(path, f"{request.id}:{type(error).__name__}")


@app.task(name="work.slow_leaf")
def slow_leaf(n: int) -> int:
    time.sleep(0.005)
    return n


@app.task(name="work.total")
def total(numbers: list, path: str) -> int:
    touch(path, str(sum(numbers)))
    return sum(numbers)


@app.task(name="work.place", bind=True)
def place(self: Task, *before: object) -> dict:
    request = self.request
    return {"root": request.root_id, "parent": request.parent_id, "index": request.group_index}


@app.task(name="work.family", bind=True)
def family(self: Task, name: str) -> dict:
    sent = group(leaf.s(n) for n in range(3)).apply_async()
    GroupResult(name, sent.results).save()
    restored = GroupResult.restore(name)
    return {
        "stamps": dict(self.request.stamps),
        "is_restored": restored is not None and restored.results == sent.results,
        "own_place": AsyncResult(self.request.id).whereabouts(),
    }
