"""Keys elsewhere: signatures by another process, so that this one never holds its own key.

    place       where that process is: a socket, or a program to run
    exchange    what is said to it, byte by byte
    client      asks it, within a deadline
    agent       one that we ship: decides what to sign
    server      lets processes of the right users ask the agent
    token       keys in PKCS#11 tokens, for the agent

Beside the drivers: `deployment` asks, `cardoon signer` answers.
"""

from __future__ import annotations
