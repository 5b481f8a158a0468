"""An app whose import starts a thread, as some libraries do."""

import ctypes
import threading

from cells import app

__all__ = ["app"]


def lurk() -> None:
    ctypes.CDLL(None).prctl(15, b"lurker", 0, 0, 0)  # PR_SET_NAME
    started.set()
    threading.Event().wait()


started = threading.Event()
threading.Thread(target=lurk, daemon=True).start()
started.wait()
