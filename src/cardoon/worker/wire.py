"""Calls and reports as heads of frames, and back with every field checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cardoon.bounds import MAX_AT_A_TIME, MAX_KEY_BYTES, MAX_PERIOD
from cardoon.broker import Limit, Unique
from cardoon.calling import MAX_ID_BYTES, MAX_NAME_BYTES
from cardoon.contents import is_pickle
from cardoon.message.protocol import MAX_COUNT, MAX_PREDECESSORS, GroupMember, Take
from cardoon.retrying import NO_LIMIT
from cardoon.sender import Call, Duplicate, Handle, Receipt, Report
from cardoon.worker.ipc import Frame, IpcError, field

MAX_CALLS = 20_000
"""In one frame; more are sent in several."""
MAX_HANDLES = 10_000
NO_PICKLES = (
    "task code cannot send pickled arguments, since whoever reads them runs what they say; pass "
    "serializer='json', or another one"
)


def call_head(call: Call) -> dict[str, Any]:
    """A call without its body."""
    head = {
        "task": call.task,
        "id": call.id,
        "queue": call.queue,
        "codec": call.codec,
        "size": len(call.body),
        "headers": call.headers.decode(),
        "priority": call.priority,
        "eta": call.eta,
        "expires": call.expires,
        "retries": call.retries,
        "max_retries": call.max_retries,
        "root": call.root,
        "parent": call.parent,
        "group": call.group,
        "after": call.after,
        "take": int(call.take),
        "delay": call.delay,
    }
    if call.unique is not None:
        head["unique"] = call.unique
    if call.limit is not None:
        head["limit"] = call.limit
    return head


def parse_call(head: object, body: bytes) -> Call:
    """The call that a task process asks to send; `IpcError` if it is not one."""
    if not isinstance(head, dict):
        raise IpcError("a call is not an object")
    return Call(
        task=_text(head, "task", MAX_NAME_BYTES),
        id=_text(head, "id", MAX_ID_BYTES),
        queue=_text(head, "queue", MAX_NAME_BYTES),
        codec=_codec(head),
        body=body,
        headers=_headers(head),
        priority=_whole(head, "priority", 9) or 0,
        eta=_moment(head, "eta"),
        expires=_moment(head, "expires"),
        retries=_whole(head, "retries", NO_LIMIT) or 0,
        max_retries=_whole(head, "max_retries", NO_LIMIT),
        root=_text(head, "root", MAX_ID_BYTES) if head.get("root") else None,
        parent=_text(head, "parent", MAX_ID_BYTES) if head.get("parent") else None,
        group=_group(head),
        after=_places(head),
        take=Take(_whole(head, "take", max(Take)) or 0),
        delay=_moment(head, "delay") or 0.0,
        unique=_unique(head) if "unique" in head else None,
        limit=_limit(head) if "limit" in head else None,
    )


def parse_calls(frame: Frame) -> list[Call]:
    """The calls of a SEND frame."""
    heads = field(frame, "calls", list)
    if len(heads) > MAX_CALLS:
        raise IpcError(f"SEND frame with {len(heads)} calls; at most {MAX_CALLS}")
    calls = [parse_call(head, body) for head, body in zip(heads, _cut(frame, heads), strict=True)]
    for place, call in enumerate(calls):
        if any(one >= place for one in call.after):
            raise IpcError(f"{frame.type.name} frame: a call waits for one that is not before it")
        if len(call.after) > 1 and call.take is not Take.RESULTS:
            raise IpcError(f"{frame.type.name} frame: a call takes one result of several")
    return calls


def receipt_heads(receipts: Sequence[Receipt]) -> list[str | list[str]]:
    """Receipts as JSON: a digest as text, the id of an earlier call in a list."""
    return [[one.id] if isinstance(one, Duplicate) else one.hex() for one in receipts]


def parse_receipts(frame: Frame) -> list[Receipt]:
    """The receipts of a REPLY frame, on the side that trusts the sender."""
    return [
        bytes.fromhex(one) if isinstance(one, str) else Duplicate(one[0])
        for one in field(frame, "digests", list)
    ]


def handle_heads(handles: Sequence[Handle]) -> list[list[str | None]]:
    """Handles as JSON."""
    return [
        [handle.task_id, None if handle.request is None else handle.request.hex()]
        for handle in handles
    ]


def parse_handles(frame: Frame) -> list[Handle]:
    """The handles of a LOAD or WAIT frame."""
    found = []
    pairs = field(frame, "handles", list)
    if len(pairs) > MAX_HANDLES:
        raise IpcError(f"{frame.type.name} frame with {len(pairs)} handles; at most {MAX_HANDLES}")
    for pair in pairs:
        match pair:
            case [str(task_id), None]:
                found.append(Handle(task_id))
            case [str(task_id), str(request)]:
                try:
                    found.append(Handle(task_id, bytes.fromhex(request)))
                except ValueError as error:
                    raise IpcError("a request digest is not hexadecimal") from error
            case _:
                raise IpcError("a handle is not a pair of strings")
    return found


def report_head(report: Report) -> dict[str, Any]:
    """A report without its body."""
    return {**report._asdict(), "body": None, "size": len(report.body)}


def parse_reports(frame: Frame) -> list[Report]:
    """The reports of a REPLY frame, on the side that trusts the sender."""
    heads = field(frame, "reports", list)
    return [
        Report(
            **{name: head[name] for name in Report._fields if name != "body"}, body=body
        )._replace(violations=tuple(head["violations"]))
        for head, body in zip(heads, _cut(frame, heads), strict=True)
    ]


def _cut(frame: Frame, heads: Sequence[object]) -> list[bytes]:
    """The bodies, one for each head."""
    bodies = []
    start = 0
    for head in heads:
        size = head.get("size") if isinstance(head, dict) else None
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise IpcError(f"{frame.type.name} frame: a size is not a number")
        bodies.append(frame.body[start : start + size])
        start += size
    if start != len(frame.body):
        raise IpcError(f"{frame.type.name} frame: the sizes do not add up")
    return bodies


def _text(head: Mapping[str, Any], name: str, most: int, *, empty: bool = False) -> str:
    value = head.get(name)
    if isinstance(value, str) and (value or empty):
        try:
            if len(value.encode()) <= most:
                return value
        except UnicodeEncodeError:
            pass
    raise IpcError(f"call: {name} is not text of at most {most} bytes")


def _headers(head: Mapping[str, Any]) -> bytes:
    """A JSON object: what looks into them later does so for several processes at once."""
    text = _text(head, "headers", 32 * 1024, empty=True)
    try:
        told = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise IpcError("call: headers is not JSON") from error
    if not isinstance(told, dict):
        raise IpcError("call: headers is not a JSON object")
    return text.encode()


def _codec(head: Mapping[str, Any]) -> str:
    codec = _text(head, "codec", 64)
    if is_pickle(codec):
        raise IpcError(NO_PICKLES)
    return codec


def _whole(head: Mapping[str, Any], name: str, most: int) -> int | None:
    value = head.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    raise IpcError(f"call: {name} is not a number from 0 to {most}")


def _places(head: Mapping[str, Any]) -> tuple[int, ...]:
    match head.get("after") or []:
        case [*found] if len(found) <= MAX_PREDECESSORS and all(map(_is_place, found)):
            return tuple(found)
        case _:
            raise IpcError("call: after is not a list of places")


def _is_place(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _group(head: Mapping[str, Any]) -> GroupMember | None:
    match head.get("group"):
        case None:
            return None
        case [str(), int(), int()] as found:
            told = {"id": found[0], "position": found[1], "size": found[2]}
            size = _whole(told, "size", MAX_COUNT) or 0
            position = _whole(told, "position", size - 1) if size else None
            if position is not None:
                return GroupMember(_text(told, "id", MAX_ID_BYTES), position, size)
    raise IpcError("call: group is not a member of a group")


def _unique(head: Mapping[str, Any]) -> Unique:
    match head["unique"]:
        case [str() as key, (int() | float()) as period]:
            told = {"key": key, "period": period}
            return Unique(_text(told, "key", MAX_KEY_BYTES), _number(told, "period", MAX_PERIOD))
    raise IpcError("call: unique is not a key and a period")


def _limit(head: Mapping[str, Any]) -> Limit:
    match head["limit"]:
        case [str() as key, int() as most, (int() | float()) as gap]:
            told = {"key": key, "most": most, "gap": gap}
            return Limit(
                _text(told, "key", MAX_KEY_BYTES),
                _whole(told, "most", MAX_AT_A_TIME) or 0,
                _number(told, "gap", MAX_PERIOD),
            )
    raise IpcError("call: limit is not a key, a number and seconds")


def _number(head: Mapping[str, Any], name: str, most: float) -> float:
    value = head[name]
    if not isinstance(value, bool) and 0 <= value <= most:
        return float(value)
    raise IpcError(f"call: {name} is not a number from 0 to {most:g}")


def _moment(head: Mapping[str, Any], name: str) -> float | None:
    value = head.get(name)
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e11:
        return float(value)
    raise IpcError(f"call: {name} is not a time")
