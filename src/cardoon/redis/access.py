"""What each role may do on the server, as access rules of its users: the server itself denies the rest.

Scripts run with the rights of who calls them, so keys are named by what may be done to them: a client
writes messages, but neither replay marks nor leases, results or what is kept.
"""

from __future__ import annotations

from typing import Literal

from cardoon.redis.store import parse_prefix

Role = Literal["client", "worker", "beat", "monitor"]

_READ = [
    "eval_ro",
    "evalsha_ro",
    "exists",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hgetall",
    "hlen",
    "hmget",
    "info",
    "mget",
    "role",
    "scard",
    "select",
    "sismember",
    "smembers",
    "strlen",
    "sunion",
    "time",
    "zcard",
    "zcount",
    "zrange",
    "zrangebyscore",
    "zscore",
    "sscan",
    "xrange",
    "xread",
    "xrevrange",
]
_SEND = [
    "del",
    "eval",
    "evalsha",
    "hdel",
    "hincrby",
    "hset",
    "hsetnx",
    "incr",
    "incrby",
    "lpush",
    "mset",
    "persist",
    "pexpire",
    "sadd",
    "set",
    "srem",
    "wait",
    "xadd",
    "xdel",
    "zadd",
    "zrem",
]
_HEAR = ["hello", "ping", "subscribe", "unsubscribe"]
_WORK = [
    "bitfield",
    "blpop",
    "pttl",
    "publish",
    "rename",
    "setbit",
    "setnx",
    "srandmember",
]

_SENT = [
    "last",
    "queues",
    "used",
    "ids",
    "m:*",
    "f:*",
    "ready:*",
    "since:*",
    "sched:*",
    "later:*",
    "line:*",
    "dues:*",
    "lines:*",
    "keys_in:*",
    "shown:*",
    "timers",
    "limit:*",
    "unique",
    "recent:*",
    "next:*",
    "after:*",
    "outcome:*",
    "dormant:*",
    "bell:*",
]
"""What a send writes."""

_TOLD = ["broadcasts", "broadcast:*"]
"""What a revocation writes."""

_EVENTS = ["posts:events"]
"""What those write who tell of their sends."""

_RECORDS = ["records:*"]
"""What keeps schedules."""

_LOOKED_UP = ["running:*", "subscribers:*"]
"""What a send reads, and does not write."""

_SEEN = [*_LOOKED_UP, "result:*", "kept_of:*", "kept:*", "epoch", "posts:*", *_RECORDS]
"""What a client reads, and does not write."""


_RIGHTS: dict[Role, tuple[list[str], list[str], list[str], list[str]]] = {
    "client": ([*_READ, *_SEND, *_HEAR], [*_SENT, *_TOLD, *_EVENTS], _SEEN, ["done*"]),
    "worker": ([*_READ, *_SEND, *_HEAR, *_WORK], ["*"], [], ["done*"]),
    "beat": ([*_READ, *_SEND], [*_SENT, *_EVENTS, *_RECORDS], _LOOKED_UP, []),
    "monitor": (_READ, [], ["*"], []),
}
"""Commands, keys to write and read, keys to read, channels to hear."""


def commands(role: Role, *, prefix: str = "cardoon", username: str) -> list[str]:
    """The words of the `ACL SETUSER` command that gives a user the rights of a role.

    It sets no password: add `>password` or `#sha256`, or the user cannot log in. `prefix` is the
    `global_keyprefix`. A `monitor` only reads; a `client` sends, revokes and reads results; `beat` only
    sends; a `worker` may do all that Cardoon does, and so may who moves messages or pauses queues by hand. For
    `durability="fsync"` add `+waitaof`, which servers before 7.2 do not know.
    """
    start = parse_prefix({"global_keyprefix": prefix})
    allowed, writes, reads, hears = _RIGHTS[role]
    return [
        "ACL", "SETUSER", username, "on", "resetkeys", "resetchannels", "-@all",
        *(f"+{name}" for name in allowed),
        *(f"~{start}{key}" for key in writes),
        *(f"%R~{start}{key}" for key in reads),
        *(f"&{start}{channel}" for channel in hears),
    ]  # fmt: skip
