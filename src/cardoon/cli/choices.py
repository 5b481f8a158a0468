"""Choices that help has to show, apart from what they choose, so that help need not wait for that to be imported.

A test holds each to what it names.
"""

POOLS = ("prefork", "isolated", "threads", "asyncio", "solo")
"""`cardoon.config.POOLS`."""

LEVELS = ("debug", "info", "warning", "error", "critical", "fatal")
"""Of `cardoon.log.LEVELS`, from the most talkative on."""

CHECK_GROUPS = (
    "broker",
    "messages",
    "keys",
    "code",
    "process",
    "network",
    "logs",
    "control",
    "settings",
)
"""`cardoon.doctor.catalogue.GROUP_NAMES`."""
