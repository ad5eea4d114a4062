"""The layers: a module imports only from lower floors, and some libraries are known in one place only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the ground up; "caches" stands for a package with all its modules, which may import each other.  The longest
# name that fits a module is its own.
FLOORS = (
    ("errors", "messages.strictjson", "net.addresses", "daemon.garbage", "net.tcp", "telemetry.masking"),
    ("config",),
    ("messages.vumi", "delivery.signature", "net.options"),
    ("telemetry.context", "telemetry.logging", "messages"),
    ("telemetry.sentry", "telemetry.gauges", "daemon.systemd"),
    (
        "http.errors",
        "http.json",
        "http.rate_limit",
        "delivery.destination",
        "http.routing",
        "amqp.options",
        "http.options",
    ),
    ("net.endpoints",),
    ("net.tls", "http.listening", "daemon.hangup"),
    ("delivery.http_client",),
    (
        "delivery.retry",
        "state",
        "http.authentication",
        "middlewares",
        "delivery.circuit",
        "http.deduplication",
    ),
    ("delivery.circuits", "delivery.attempt", "telemetry.metrics"),
    ("amqp", "delivery.deliverer"),
    ("connectors.connector", "connectors.failures", "connectors.ordering", "connectors.retry_queues"),
    ("applications.base",),
    ("applications.forwarding",),
    ("applications.junebug", "applications.turn"),
    ("applications.registry",),
    ("daemon.options", "daemon.settings"),
    (
        "http.server",
        "http.connection",
        "http.connection_limits",
        "http.mounts",
        "http.request",
        "http.admin",
        "daemon.health",
    ),
    ("daemon.build", "connectors.parked", "cli.terminal"),
    ("daemon.service",),
    ("cli.connectivity",),
    ("cli.check_config",),
    ("daemon.tap", "cli.main"),
)

# A library, and the only modules (or packages of ours) that may know it.
KNOWN_TO = {
    "klein": ("http.routing",),
    "txamqp": ("amqp",),
    "treq": ("delivery.http_client",),
    "yaml": ("config.yaml_text",),
    "sentry_sdk": ("telemetry.sentry",),
    "prometheus_client": (
        "telemetry.metrics",
        "telemetry.gauges",
    ),
    "text_unidecode": ("middlewares.unidecoder",),
    "txredisapi": ("state",),
}


def _name(path: Path) -> str:
    """``amqp.broker`` for junebug_turn/amqp/broker.py, ``amqp`` for the package itself."""
    parts = path.relative_to(ROOT / "junebug_turn").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((ROOT / "junebug_turn").rglob("*.py"))}


def _nodes(name: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(MODULES[name].read_text("utf-8")))


def _imports(name: str) -> Iterator[str]:
    """Every module that ``name`` imports, anywhere in it, by its full name."""
    for node in _nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.partition(".")[2] in MODULES else node.module


def _room(name: str) -> str:
    """The longest name in FLOORS that ``name`` is or stands below."""
    rooms = [room for names in FLOORS for room in names if f"{name}.".startswith(f"{room}.")]
    assert rooms, f"{name} has no floor: give it one in FLOORS"
    return max(rooms, key=len)


def _floor(room: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if room in names)


@pytest.mark.parametrize("name", [name for name in MODULES if name and MODULES[name].stat().st_size])
def test_a_module_imports_from_lower_floors(name: str) -> None:
    """A module imports only from lower floors, or from its own package."""
    own = _room(name)
    for imported in _imports(name):
        library, _, other = imported.partition(".")
        if library == "junebug_turn" and other and other.split(".")[0] != name.split(".")[0]:
            assert _floor(_room(other)) < _floor(own), f"{name} imports {imported}, which is not below it"


@pytest.mark.parametrize("name", list(MODULES))
def test_a_library_is_known_in_its_place_only(name: str) -> None:
    """Klein, txamqp, treq, YAML and txredisapi are each imported only where they have their place."""
    for imported in _imports(name):
        places = KNOWN_TO.get(imported.split(".")[0])
        if places is not None:
            known = any(name == place or name.startswith(f"{place}.") for place in places)
            assert known, f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in MODULES if name != "cli.main"])
def test_the_reactor_comes_in_from_outside(name: str) -> None:
    """No module imports the reactor when it is loaded: it is given to whatever needs it."""
    tree = ast.parse(MODULES[name].read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
            assert "reactor" not in [alias.name for alias in node.names]


def test_the_namespace_of_twisted_plugins_stays_open() -> None:
    """Neither ``twisted`` nor ``twisted/plugins`` is a package of ours: an __init__.py would hide Twisted."""
    assert not list((ROOT / "twisted").rglob("__init__.py"))
