"""A real Celery project: its worker is started from here, and its client too."""

import os

from celery import Celery

app = Celery("theirs", broker=os.environ["BROKER"], backend=os.environ.get("BACKEND"))
app.conf.update(
    broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, result_expires=600
)

if os.environ.get("PROTOCOL"):
    app.conf.task_protocol = int(os.environ["PROTOCOL"])
if os.environ.get("KEYS"):
    keys, name = os.environ["KEYS"], os.environ["SIGNER"]
    app.conf.update(
        security_key=f"{keys}/{name}.key",
        security_certificate=f"{keys}/{name}.pem",
        security_cert_store=f"{keys}/trusted/*.pem",
        security_digest="sha256",
        task_serializer="auth",
        accept_content=["auth"],
        result_serializer=os.environ.get("RESULTS", "json"),
        result_accept_content=["json", "auth"],
    )
    app.setup_security()


@app.task(name="old.multiply")
def multiply(x, y):
    return x * y


@app.task(name="old.fail")
def fail(text):
    raise ValueError(text)
