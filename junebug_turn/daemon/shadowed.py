"""Values of the environment that entries of ``applications`` hide: faults where they are secrets, else warnings.

Tested by tests/unit/daemon/test_settings.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from junebug_turn.config.option import Schema
from junebug_turn.config.sources import Given, Layer


def shadowed_secrets(schema: Schema, entry: Layer, above: Layer) -> Iterator[str]:
    """Yield a fault for each secret of an entry of ``applications`` that the environment or a flag gives too.

    The entry counts, which who sets a variable to replace a secret doesn't see.

    :param above: the layer of the environment and the command line
    """
    secrets = {each.path[0] for each in schema.entries if each.option.secret}
    for key in [key for key in entry if key in secrets and key in above]:
        yield from _shadowed(key, entry[key], above[key])


def _shadowed(key: str, given: Given, above: Given) -> Iterator[str]:
    if isinstance(given.value, dict) and isinstance(above.value, dict):
        # Mappings are merged; of one that may hold a secret it is the URL that does.
        for name in given.value.keys() & above.value.keys():
            if name == "url":
                yield from _shadowed(f"{key}.{name}", given.value[name], above.value[name])
        return
    yield f"{key}: given twice, and it can't be both ({given.source}; {above.sources}): take one of them away"


def unused_variables(schema: Schema, entries: Sequence[Layer], above: Layer) -> Iterator[str]:
    """Yield a warning for each environment variable that has no effect, since every entry has a value of its own.

    A variable is the default of the entries, and that is easily forgotten; for secrets see ``shadowed_secrets``.

    :param above: the layer of the environment and the command line
    """
    secrets = {each.path[0] for each in schema.entries if each.option.secret}
    for key, given in above.items():
        if not given.ambient or key in secrets or isinstance(given.value, dict):
            continue
        own = [entry[key].value for entry in entries if key in entry]
        if entries and len(own) == len(entries) and any(str(value) != str(given.value) for value in own):
            yield f"{key}: the {given.source} has no effect, since each entry of applications has a value of its own"
