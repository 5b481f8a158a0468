"""Pickles: the one module that writes and reads them.

To read a pickle is to run what it says. So this module is loaded only where settings name it and
`unsafe_allow_pickle` is set, and `decode` is called only for the arguments of a task, whose signature
has been verified, in the process that is about to run that task and holds no key.
"""

from __future__ import annotations

import pickle
from typing import Any

from cardoon.exceptions import EncodeError, Refusal, RefusedError

_PROTOCOL = 5
"""Read by every Python that Cardoon runs on."""


def encode(value: Any) -> bytes:
    """Pickle a value; `EncodeError` for one that cannot be."""
    try:
        return pickle.dumps(value, protocol=_PROTOCOL)
    except Exception as error:  # whatever the value's own code raises
        raise EncodeError(f"pickle cannot carry this value: {error}") from error


def decode(body: bytes) -> Any:
    """Do what a pickle says, and return the value; `RefusedError` if that raises."""
    try:
        return pickle.loads(body)  # noqa: S301  # the sender is trusted with it: see above
    except Exception as error:  # what it runs may raise anything
        raise RefusedError(Refusal.UNDECODABLE, f"no pickle: {type(error).__name__}") from error
