"""Classes that the configuration names by their path."""

from __future__ import annotations

from importlib import import_module
from typing import TypeVar

from junebug_turn.errors import ConfigError

_T = TypeVar("_T")


def find_class(class_path: str, base: type[_T], *, key: str, base_path: str) -> type[_T]:
    """The subclass of ``base`` that is at ``class_path``, as ``package.module.Class``.

    :param key: the option, for the fault's line
    :param base_path: ``base`` as users import it
    :raises ConfigError: there is none
    """
    module_name, _, name = class_path.rpartition(".")
    try:
        module = import_module(module_name)
    except Exception as error:
        # Whatever a module of the user's own raises: there is nothing in it for us.
        raise ConfigError(f"{key}: {class_path!r} can't be imported: {error!r}") from None
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{key}: {class_path!r} is not a {base_path}")
    return found
