from celery import chain, chord, group, signature
from celery.result import AsyncResult, GroupResult
from celery import states

from .tasks import discount, mail, price, total


def checkout(articles):
    """The sum of several prices, with a discount."""
    return chord((price.s(one) for one in articles), total.s() | discount.s(percent=50))


def announce(article, to):
    return chain(price.s(article, fail_times=1), signature("shop.mail", args=(to,), immutable=True))


def everybody(names):
    return group(mail.s(name) for name in names)


def describe(task_id):
    """What a status route of a web application tells."""
    result = AsyncResult(task_id)
    if result.state == states.SUCCESS:
        return {"state": result.state, "result": result.result}
    return {"state": result.state}


def restore(group_id):
    return GroupResult.restore(group_id)
