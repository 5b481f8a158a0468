"""What each role may do on the server, as access rules of its users: the server itself denies the rest.

Scripts run with the rights of who calls them, so keys are named by what may be done to them: a client
writes messages, but neither replay marks nor leases, results or what is kept.
"""

from __future__ import annotations

from typing import Literal

from cardoon.redis.store import parse_prefix

Role = Literal["client", "worker", "beat", "monitor"]

_READ = (
    "eval_ro evalsha_ro exists get getrange hexists hget hmget info mget role scard select sismember"
    " smembers strlen sunion time zcard zcount zrange zrangebyscore zscore sscan"
).split()
_SEND = (
    "del eval evalsha hdel hincrby hset hsetnx incr incrby lpush mset persist pexpire sadd set srem wait"
    " zadd zrem"
).split()
_HEAR = ["subscribe", "unsubscribe"]
_WORK = "bitfield blpop getbit pttl publish rename setbit setnx srandmember".split()

_SENT = (
    "last queues used ids m:* f:* ready:* since:* sched:* later:* line:* dues:* lines:* keys_in:* shown:*"
    " timers limit:* unique recent:* next:* after:* outcome:* dormant:* bell:*"
).split()
"""What a send writes."""

_TOLD = ["broadcasts", "broadcast:*"]
"""What a revocation writes."""

_SEEN = "running:* result:* kept_of:* kept:*".split()
"""What a client reads, and does not write."""


def commands(role: Role, *, prefix: str = "cardoon", username: str) -> list[str]:
    """The words of the `ACL SETUSER` command that gives a user the rights of a role.

    It sets no password: add `>password` or `#sha256`, or the user cannot log in. `prefix` is the
    `global_keyprefix`. A `monitor` only reads; a `client` sends, revokes and reads results; `beat` only
    sends; a `worker` may do all that Cardoon does, and so may who moves messages by hand. For
    `durability="fsync"` add `+waitaof`, which servers before 7.2 do not know.
    """
    start = parse_prefix({"global_keyprefix": prefix})
    match role:
        case "monitor":
            allowed, keys, channels = _READ, [f"%R~{start}*"], []
        case "worker":
            allowed = [*_READ, *_SEND, *_HEAR, *_WORK]
            keys, channels = [f"~{start}*"], [f"&{start}done*"]
        case "client":
            allowed = [*_READ, *_SEND, *_HEAR]
            keys = [*(f"~{start}{key}" for key in (*_SENT, *_TOLD))]
            keys += (f"%R~{start}{key}" for key in _SEEN)
            channels = [f"&{start}done*"]
        case "beat":
            allowed, channels = [*_READ, *_SEND], []
            keys = [f"~{start}{key}" for key in _SENT] + [f"%R~{start}running:*"]
    rules = ["on", "resetkeys", "resetchannels", "-@all", *(f"+{name}" for name in allowed)]
    return ["ACL", "SETUSER", username, *rules, *keys, *channels]
