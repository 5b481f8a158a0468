"""Says on whose behalf a worker signs what task code sends: the worker's word, whatever the task says.

A task process holds no key, so its worker signs; and the worker knows which messages the process holds,
and who signed those. Only it writes the header, and it takes out what task code wrote there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from cardoon.exceptions import RefusedError
from cardoon.message.headers import ORIGIN, parse_headers
from cardoon.security.origins import MAX_PARTIES, Parties, describe_parties
from cardoon.sender import Call
from cardoon.worker.held import Held


def on_behalf_of(calls: Sequence[Call], running: Iterable[Held]) -> list[Call]:
    """The calls of task code, with the origin that is true of them.

    `running` are the messages that its process holds. Of several, the one that is named as parent asked;
    if none is named, all of them may have, and so each is named. Where it is not known of each of them, as
    without a policy, and where there are none, nobody is named.
    """
    held = list(running)
    named = {call.parent for call in calls}
    asking = [one for one in held if one.id in named] or held
    origins = [one.message.origin for one in asking]
    parties: Parties = ()
    if all(origins):
        parties = tuple(dict.fromkeys(party for origin in origins for party in origin or ()))
    if len(parties) > MAX_PARTIES:
        parties = ()
    return [_with_origin(call, parties) for call in calls]


def _with_origin(call: Call, parties: Parties) -> Call:
    if not parties and not _may_name(call.headers):
        return call
    try:
        told = parse_headers(call.headers)
    except RefusedError:
        return call  # whoever receives it refuses it, whatever else it says
    told.pop(ORIGIN, None)
    if parties:
        told[ORIGIN] = describe_parties(parties)
    headers = json.dumps(told, separators=(",", ":")).encode() if told else b""
    return call._replace(headers=headers)


def _may_name(headers: bytes) -> bool:
    """Whether headers could name somebody; escapes can spell anything."""
    return ORIGIN.encode() in headers or b"\\u" in headers
