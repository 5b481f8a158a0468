"""An app whose periodic task writes down the id of each of its runs."""

import os
from pathlib import Path

from cardoon import Cardoon

app = Cardoon("ticking")
TICKS = Path(os.environ.get("TICKS", "ticks")).absolute()


@app.task(bind=True, name="ticking.note")
def note(self, path):
    """Append our id in one write, which others that write meanwhile do not tear."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{self.request.id}\n")


app.conf.beat_schedule = {
    "tick": {"task": "ticking.note", "schedule": 1.0, "args": (str(TICKS),), "catch_up": "all"},
}
