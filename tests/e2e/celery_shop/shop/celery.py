from __future__ import absolute_import

from celery import Celery

app = Celery("shop")
app.config_from_object("celeryconfig")


@app.on_after_finalize.connect
def remember(sender, **kwargs):
    sender.finalized_with = len(sender.tasks)


if __name__ == "__main__":
    app.start()
