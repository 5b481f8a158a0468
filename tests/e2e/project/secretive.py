"""An app whose broker is a secret, given as people do: through the environment."""

import os
import re
from pathlib import Path

from cardoon import Cardoon

app = Cardoon("secretive", broker=os.environ["SHOP_BROKER"], result_backend="env:SHOP_RESULTS")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def dump(folder: str) -> dict:
    """Write down all that this process can know of itself: memory, environment, open files."""
    place = Path(folder)
    (place / "environ").write_bytes(Path("/proc/self/environ").read_bytes())
    (place / "environ.python").write_text(repr(dict(os.environ)))
    files = Path("/proc/self/fd")
    (place / "files").write_text("\n".join(_link(entry) for entry in files.iterdir()))
    (place / "conf").write_text(f"{app.conf!r} {vars(app)!r} {dict(app.conf.explicit)!r}")
    (place / "argv").write_bytes(Path("/proc/self/cmdline").read_bytes())
    return {"bytes": dump_memory(place / "memory"), "files": len(list(files.iterdir()))}


def dump_memory(target: Path) -> int:
    """Copy every readable mapping of this process."""
    with Path("/proc/self/mem").open("rb", buffering=0) as memory, target.open("wb") as out:
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, end, modes = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
            if "r" not in modes or "[v" in line:
                continue
            memory.seek(int(start, 16))
            try:
                out.write(memory.read(int(end, 16) - int(start, 16)))
            except OSError:
                continue
        return out.tell()


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""
