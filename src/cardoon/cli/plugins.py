"""Commands of other packages: entry points of the group `cardoon.commands`.

Their names are read where help is asked for or where no command of ours has the name; a package is imported only
when its command runs. None can take the place of a command of ours, and none can be added to a group such as
`cert` or `policy`.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from cardoon.exceptions import ImproperlyConfigured

GROUP = "cardoon.commands"


def find_plugins() -> dict[str, EntryPoint]:
    """The entry points by the name of their command; of several with one name the first."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


def load_plugin(name: str) -> click.Command | None:
    """The command of a name; None where no package has one."""
    point = find_plugins().get(name)
    if point is None:
        return None
    package = point.dist.name if point.dist is not None else point.module
    try:
        command = point.load()
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(
            f"command {name!r} of the package {package}: {point.value} cannot be loaded: {error}; mend or "
            "uninstall the package"
        ) from error
    if not isinstance(command, click.Command):
        raise ImproperlyConfigured(
            f"command {name!r} of the package {package}: {point.value} is no command of click's"
        )
    return command
