"""What drivers call in the database: each function's name, with the kinds of its arguments and columns.

Kinds are those of `values`. The functions themselves are in `sql/`, with what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Function(NamedTuple):
    """The outside of one function."""

    arguments: str
    columns: str = ""
    """None for one that returns nothing."""
    home: str | None = None
    """Its schema, where that is not ours."""


_SENT = "TTIFYO"
"""Ids, queues, priorities, times, frames, and which are broadcast."""
_LIMITS = "TIF"
_WAITING = "IOFIITY"
"""Inputs' counts, triggers, delays; and of each input, whose it is, where, of whom, which request."""

FUNCTIONS: Mapping[str, Function] = {
    "schema_version": Function("", "i"),
    "pg_notify": Function("tt", home="pg_catalog"),
    "declare_queues": Function("T"),
    "unique_holders": Function("fTT", "ot"),
    "publish": Function("f" + _SENT + "TF" + _LIMITS + _WAITING),
    "claim": Function("fTifll", "lttyiiiiifo"),
    "unclaim": Function("fl"),
    "lent_by": Function("ll", "lttiiii"),
    "adopt": Function("fTTIYfl", "il"),
    "inputs": Function("L", "ltyi"),
    "outcome_frames": Function("T", "ty"),
    "extend": Function("fLITf", "l"),
    "complete": Function(
        "fLITIFTTYLF" + "ITOFY" + "IOOY" + "II" + _SENT + "T" + _LIMITS + _WAITING, "Ii"
    ),
    "claim_nonces": Function("fYLLIFF", "t"),
    "replay_memory": Function("f", "fl"),
    "begin_anew": Function("f"),
    "finish_nonces": Function("YLF"),
    "were_ended": Function("YLLI", "o"),
    "maintain": Function("f", "iio"),
    "broadcast": Function("yf"),
    "heard": Function("fl", "ly"),
    "post": Function("ftYflff"),
    "post_event": Function("fYflff"),
    "posted": Function("ftlil", "ly"),
    "newest_post": Function("ft", "l"),
    "records": Function("t", "tly"),
    "put_record": Function("ttylli", "i"),
    "drop_record": Function("ttlo", "o"),
    "store_results": Function("fTOFY"),
    "load_results": Function("fT", "tyof"),
    "horizon": Function("", "l"),
    "results_since": Function("li", "t"),
    "forget_results": Function("T"),
    "depths": Function("f", "tllllflol"),
    "limits": Function("f", "tifllf"),
    "purge": Function("fti", "i"),
    "kept": Function("tli", "lttttfyiii"),
    "restore": Function("ftL", "i"),
    "discard": Function("tLi", "i"),
    "quarantine": Function("fttytt"),
    "quarantined": Function("", "tll"),
    "thin_out": Function("tlli", "il"),
    "subscribe": Function("fTTfi", "ot"),
    "unsubscribe": Function("TT", "t"),
    "delete_copies": Function("fTi", "i"),
    "pause_queues": Function("T"),
    "resume_queues": Function("T"),
    "resting_queues": Function("", "t"),
    "find_places": Function("fT", "tt"),
    "trace": Function("ft", "ttyiiiiffttl"),
    "trace_missing": Function("ti", "tl"),
    "trace_kept": Function("t", "tittlttttfyiii"),
    "nonces_done": Function("YL", "o"),
}
