"""A shop whose sales reports are written in the background."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from cardoon.contrib.flask import result_blueprint, unavailable
from cardoon.exceptions import OperationalError
from salesreports import store, views
from salesreports.tasks import queue


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application; web servers and workers make it alike.

    `config` wins over `FLASK_*` in the environment, and that over what stands here.
    """
    app = Flask(__name__)
    app.config.from_mapping(
        DATABASE=str(Path(app.instance_path) / "shop.db"),
        CARDOON={"task_time_limit": 60, "task_publish_timeout": 3},
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})
    store.init_app(app)
    queue.init_app(app)
    app.register_blueprint(views.pages)
    app.register_blueprint(
        result_blueprint(authorize=views.is_own_report, max_wait=10), url_prefix="/results"
    )
    app.register_error_handler(OperationalError, unavailable)
    return app
