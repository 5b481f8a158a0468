"""The app whose workers run tasks that Celery's clients ask for."""

import os
import time
from pathlib import Path

from cardoon import Cardoon

app = Cardoon("ours", state_directory=os.environ["STATE"], set_as_current=False)


@app.task(name="shop.add")
def add(x, y):
    return x + y


@app.task(name="shop.note")
def note(path, text):
    with Path(path).open("a") as file:
        file.write(f"{text} {time.time():.3f}\n")
    return text


@app.task(name="shop.fail")
def fail(text):
    raise ValueError(text)


@app.task(name="shop.headers", bind=True)
def headers(self):
    return self.request.headers


@app.task(name="private.secret")
def secret():
    raise AssertionError("outside of the fence")
