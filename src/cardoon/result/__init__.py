"""Results: handles on what tasks return, one by one and together."""

from cardoon.result.described import describe_exception, rebuild_exception
from cardoon.result.eager import EagerResult
from cardoon.result.family import Graph
from cardoon.result.several import (
    GroupResult,
    Result,
    ResultSet,
    describe_children,
    result_from_tuple,
)
from cardoon.result.single import AsyncResult
from cardoon.result.source import ResultSource, allow_join_result, set_default_source

ResultBase = AsyncResult | ResultSet  # type: ignore[type-arg]  # for isinstance
"""What any handle is an instance of; Celery's name."""

__all__ = [
    "AsyncResult",
    "EagerResult",
    "Graph",
    "GroupResult",
    "Result",
    "ResultBase",
    "ResultSet",
    "ResultSource",
    "allow_join_result",
    "describe_children",
    "describe_exception",
    "rebuild_exception",
    "result_from_tuple",
    "set_default_source",
]
