"""Objects as plain values: how enums, dataclasses and pydantic models are written.

They arrive as plain values. What they become again is for the annotations of the task to say
(`conversion`), and never for the message.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from typing import Any

from cardoon.exceptions import EncodeError


def plain_value(value: object) -> Any:
    """An enum's value, a dataclass's or model's fields; `EncodeError` for any other object.

    What is within it may be such an object in turn.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init}
    model = model_class()
    if model is not None and isinstance(value, model):
        return _dump(value)
    raise EncodeError(
        f"cannot carry {type(value).__module__}.{type(value).__qualname__}; pass plain values, an "
        "enum, a dataclass or a pydantic model, such as an id for an object"
    )


def model_class() -> Any:
    """Pydantic's base class of models, if anybody here has imported it; it is not for us to do."""
    found = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return found if hasattr(found, "model_validate") else None  # version 2


def _dump(model: Any) -> Any:
    try:
        return model.model_dump(mode="json")
    except Exception:  # noqa: BLE001  # such as bytes that are no text, which we can carry and JSON cannot
        try:
            return model.model_dump()
        except Exception as error:
            raise EncodeError(f"{type(model).__qualname__}: model_dump raised {error}") from error
