"""How options are declared, and what becomes of them together."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import NOTHING, frozen

from junebug_turn.config import types
from junebug_turn.config.option import Schema, entries, group_option, mapping_option, option


@frozen(kw_only=True)
class Limits:
    size: int = option(types.whole(1, 9), "The size.", 5)


@frozen(kw_only=True)
class Common:
    name: str = option(types.FILLED, "The name.")


@frozen(kw_only=True)
class Cat(Common):
    limits: Limits = group_option(Limits, "Limits.")
    food_config: Mapping[str, str] = mapping_option("The options of the food.")


@frozen(kw_only=True)
class Dog(Common):
    limits: Limits = group_option(Limits, "Limits.")
    tricks: int = option(types.whole(0, 9), "How many tricks.", 0)


SCHEMA = Schema([*entries(Cat, "cat"), *entries(Dog, "dog")])


def test_names() -> None:
    """An option of a group has a key with a dot, a flag with dashes and a variable with underscores."""
    entry = next(entry for entry in SCHEMA.entries if entry.path == ("limits", "size"))
    assert (entry.key, entry.flag, entry.name, entry.variable) == (
        "limits.size",
        "limits-size",
        "limits_size",
        "LIMITS_SIZE",
    )
    assert entry.default == 5


def test_owners() -> None:
    """An option that two option classes inherit or declare alike stands in the schema once, with both owners."""
    assert [(entry.key, entry.owners) for entry in SCHEMA.entries] == [
        ("name", ("cat", "dog")),
        ("limits.size", ("cat", "dog")),
        ("food_config", ("cat",)),
        ("tricks", ("dog",)),
    ]
    assert [entry.key for entry in SCHEMA.of("dog")] == ["name", "limits.size", "tricks"]
    assert SCHEMA.entries[0].default is NOTHING


def test_shape() -> None:
    """The schema tells the keys, the groups, and the keys whose mappings are merged."""
    assert SCHEMA.keys == {"name", "limits", "food_config", "tricks"}
    assert SCHEMA.groups == {"limits": {"size"}}
    assert SCHEMA.mappings == {"limits", "food_config"}


def test_a_secret_is_not_in_a_repr() -> None:
    """The options of something else are taken for secrets."""
    assert "s3cret" not in repr(Cat(name="x", food_config={"url": "s3cret"}))
