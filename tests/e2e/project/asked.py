"""An app with commands of its own."""

import os
import time

from cardoon import Cardoon
from cardoon.worker.control import control_command, inspect_command

app = Cardoon("work")
kept: dict[str, int] = {}


@app.task(name="work.add")
def add(x: int, y: int) -> int:
    return x + y


@inspect_command()
def where(state) -> dict:
    """Where commands of the app's own run."""
    secrets = [name for name in os.environ if name.startswith("CARDOON_BROKER")]
    return {"pid": os.getpid(), "worker": state.hostname, "kept": kept, "secrets": secrets}


@control_command(args=[("name", str), ("count", int)], signature="<name> <count>")
def keep(state, name, count):
    kept[name] = count
    return {"ok": f"{name} is {count}"}


@control_command()
def hang(state):
    time.sleep(60)


@control_command()
def die(state):
    os._exit(3)
