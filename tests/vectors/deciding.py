"""Vectors of decisions: who may do what, and what has been carried out before."""

from __future__ import annotations

POLICY = """\
version = 1

[role.web]
ids = ["spiffe://acme.example/ns/prod/sa/web-*"]

[role.ops]
ids = ["sha256:1111111111111111111111111111111111111111111111111111111111111111", "subject:CN=ops"]

[role.anybody]
ids = ["unsigned"]

[[allow]]
role = "web"
action = "send"
task = ["shop.orders.*", "mail.receipt"]
queue = ["default", "mail.**"]
max_eta = "7d"
max_body = "1KiB"

[[allow]]
role = ["web", "ops"]
action = "send"
task = "reports.**"

[[allow]]
role = "ops"
action = ["result", "event"]

[[allow]]
role = "ops"
action = "control"
command = ["*", "shutdown"]

[[allow]]
role = "ops"
action = "send"
task = "celery.group"

[[allow]]
role = "anybody"
action = "send"
task = "public.ping"
queue = "public"
"""

REFUSED = {
    "no version": '[role.web]\nids = ["unsigned"]\n',
    "a version of tomorrow": "version = 2\n",
    "not TOML": "version = \n",
    "an unknown table": "version = 1\n[deny]\n",
    "an unknown key of a rule": (
        'version = 1\n[role.web]\nids = ["unsigned"]\n'
        '[[allow]]\nrole = "web"\naction = "send"\ntask = "a"\nmax_etas = "7d"\n'
    ),
    "a role that is not there": (
        'version = 1\n[[allow]]\nrole = "web"\naction = "send"\ntask = "a"\n'
    ),
    "a role that nobody can have": "version = 1\n[role.web]\nids = []\n",
    "an action that is not there": (
        'version = 1\n[role.web]\nids = ["unsigned"]\n[[allow]]\nrole = "web"\naction = "run"\n'
    ),
    "sending what": (
        'version = 1\n[role.web]\nids = ["unsigned"]\n[[allow]]\nrole = "web"\naction = "send"\n'
    ),
    "a trust domain that is matched": 'version = 1\n[role.web]\nids = ["spiffe://*/web"]\n',
    "an id that is none": 'version = 1\n[role.web]\nids = ["web"]\n',
    "a measure without a unit that is known": (
        'version = 1\n[role.web]\nids = ["unsigned"]\n'
        '[[allow]]\nrole = "web"\naction = "send"\ntask = "a"\nmax_eta = "7w"\n'
    ),
    "three stars": (
        'version = 1\n[role.web]\nids = ["unsigned"]\n'
        '[[allow]]\nrole = "web"\naction = "send"\ntask = "a.***"\n'
    ),
}

WEB = {"name": "spiffe://acme.example/ns/prod/sa/web-1", "fingerprint": "22" * 32}
DEEPER = {"name": "spiffe://acme.example/ns/prod/sa/web-1/x", "fingerprint": "23" * 32}
OPS = {"name": "sha256:" + "11" * 32, "fingerprint": "11" * 32}
NAMED = {"name": "CN=ops", "fingerprint": "33" * 32}
POSING = {"name": "unsigned", "fingerprint": "44" * 32}
DAY = 86_400


def policy():
    """Decisions about one file, and files that are refused as a whole."""
    cases = []

    def case(signer, action, task, queue="", *, length=0, ahead=0, allowed):
        cases.append(
            {
                "signer": signer,
                "action": action,
                "task": task,
                "queue": queue,
                "length": length,
                "ahead": ahead,
                "allowed": allowed,
            }
        )

    case(WEB, "send", "shop.orders.pay", "default", allowed=True)
    case(WEB, "send", "shop.orders.pay", "mail.fast.today", allowed=True)
    case(WEB, "send", "shop.orders.pay", "mail", allowed=False)
    case(WEB, "send", "shop.orders.pay", "other", allowed=False)
    case(WEB, "send", "shop.orders.pay.twice", "default", allowed=False)
    case(WEB, "send", "shop.orders.", "default", allowed=True)
    case(WEB, "send", "shop.orders", "default", allowed=False)
    case(WEB, "send", "mail.receipt", "default", allowed=True)
    case(WEB, "send", "mail.receipts", "default", allowed=False)
    case(WEB, "send", "shop.orders.pay", "default", length=1024, allowed=True)
    case(WEB, "send", "shop.orders.pay", "default", length=1025, allowed=False)
    case(WEB, "send", "shop.orders.pay", "default", ahead=7 * DAY, allowed=True)
    case(WEB, "send", "shop.orders.pay", "default", ahead=7 * DAY + 1, allowed=False)
    case(WEB, "send", "reports.a.b", "anywhere", length=10**9, ahead=10**9, allowed=True)
    case(WEB, "send", "reports", "anywhere", allowed=False)
    case(WEB, "result", "shop.orders.pay", allowed=False)
    case(DEEPER, "send", "shop.orders.pay", "default", allowed=False)
    case(OPS, "send", "reports.daily", "default", allowed=True)
    case(OPS, "result", "any.task", allowed=True)
    case(OPS, "event", "", allowed=True)
    case(OPS, "reply", "", allowed=False)
    case(OPS, "control", "revoke", allowed=True)
    case(OPS, "control", "shutdown", allowed=True)
    case(OPS, "control", "pool_restart", allowed=False)
    case(OPS, "send", "celery.group", "default", allowed=True)
    case(OPS, "send", "celery.chord", "default", allowed=False)
    case(NAMED, "control", "revoke", allowed=True)
    case(None, "send", "public.ping", "public", allowed=True)
    case(None, "send", "public.ping", "other", allowed=False)
    case(None, "send", "reports.a", "public", allowed=False)
    case(POSING, "send", "public.ping", "public", allowed=False)
    return {
        "about": "One policy file with decisions by it, and files that must be refused as a whole.",
        "policy": POLICY,
        "cases": cases,
        "refused": [{"what": what, "policy": text} for what, text in REFUSED.items()],
    }


def steps(text):
    """`claim A 1 claimed` for each step: what, which message, its nonce, and the expected state."""
    found = []
    for line in text.strip().splitlines():
        do, message, *rest = line.split()
        step = {"do": do, "message": message}
        if rest:
            step["nonce"] = int(rest[0])
        if rest[1:]:
            step["state"] = rest[1]
        found.append(step)
    return found


TRACES = {
    "carried out once": """
        deliver A
        claim A 0 claimed
        done A 0
    """,
    "a copy while the first is on loan": """
        deliver A
        deliver B
        claim A 0 claimed
        claim B 0 held
        claim A 0 claimed
    """,
    "a copy after the end": """
        deliver A
        claim A 0 claimed
        done A 0
        deliver B
        claim B 0 done
    """,
    "the same again, before the end": """
        deliver A
        claim A 0 claimed
        return A
        deliver A
        claim A 0 claimed
        done A 0
    """,
    "a copy takes over what was given back": """
        deliver A
        deliver B
        claim A 0 claimed
        return A
        claim B 0 claimed
        deliver A
        claim A 0 held
        done B 0
        claim A 0 done
    """,
    "a copy of what was deleted without an end": """
        deliver A
        claim A 0 claimed
        delete A
        deliver B
        claim B 0 claimed
    """,
    "numbers are apart": """
        deliver A
        deliver B
        claim A 0 claimed
        claim B 1 claimed
        done A 0
        claim B 1 claimed
        done B 1
        deliver C
        claim C 0 done
        claim C 1 done
        claim C 2 claimed
    """,
    "the last number of a session": """
        deliver A
        claim A 8191 claimed
        done A 8191
        deliver B
        claim B 8191 done
        claim B 8190 claimed
    """,
    "an end without a claim": """
        deliver A
        done A 0
        deliver B
        claim B 0 done
    """,
    "a lost lease": """
        deliver A
        claim A 0 claimed
        lose A
        deliver A
        claim A 0 claimed
        done A 0
        deliver B
        claim B 0 done
    """,
}


def replay_trace():
    return {
        "about": (
            "What a store of nonces answers. deliver: a message is handed out, on loan. return: given "
            "back. lose: its lease ran out. delete: ended without an end of the nonce. done: ended "
            "with it. claim: the nonce is claimed for the message, with the state that is answered."
        ),
        "traces": [{"what": what, "steps": steps(text)} for what, text in TRACES.items()],
    }
