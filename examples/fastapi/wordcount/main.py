"""The service: `uvicorn --factory wordcount.main:create_app`."""

import hmac
import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from cardoon.contrib.fastapi import lifespan, result_router, unavailable
from cardoon.exceptions import OperationalError
from wordcount.settings import Settings, read_settings
from wordcount.tasks import count_words, queue

MAX_CHARACTERS = 2_000_000


class Text(BaseModel):
    """What is to be counted."""

    text: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    most: int = Field(10, ge=1, le=1000, description="How many words to tell.")


class Started(BaseModel):
    """Where to look for the result."""

    id: str
    status: str


class Word(BaseModel):
    """A word and how often it occurs."""

    word: str
    count: int


def current_user(
    request: Request,
    shown: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> str:
    """The user that the token belongs to."""
    settings: Settings = request.app.state.settings
    for token, user in settings.tokens.items():
        if hmac.compare_digest(token.encode(), shown.credentials.encode()):
            return user
    raise HTTPException(401, "unknown token")


CurrentUser = Annotated[str, Depends(current_user)]


def is_own_task(task_id: str, user: CurrentUser) -> bool:
    """Whether the user has started the task: its id begins with the name of who did."""
    return task_id.startswith(f"{user}.")


texts = APIRouter()


@texts.post("/texts", status_code=202)
async def start(text: Text, user: CurrentUser, request: Request) -> Started:
    """Count the words of a text; answers with where to look for them."""
    task_id = f"{user}.{uuid.uuid4()}"
    await count_words.aapply_async((text.text, text.most), task_id=task_id)
    return Started(id=task_id, status=request.url_for("read_task_status", task_id=task_id).path)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service, with settings from the environment unless they are given."""
    settings = settings or read_settings()
    app = FastAPI(
        title="Word count",
        lifespan=lifespan(queue),
        exception_handlers={OperationalError: unavailable},
    )
    app.state.settings = settings
    app.include_router(texts)
    app.include_router(
        result_router(authorize=is_own_task, result_type=list[Word], max_wait=settings.max_wait),
        prefix="/results",
    )
    return app
