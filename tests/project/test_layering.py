"""The rooms of the house: one tuple is the whole layering rule, and some libraries are known in one place only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# From the ground up: a package imports only from those before it.
PACKAGES = (
    "errors",
    "messages",
    "config",
    "net",
    "telemetry",
    "amqp",
    "delivery",
    "state",
    "http",
    "middlewares",
    "connectors",
    "applications",
    "daemon",
    "cli",
)

# A library, and the modules (or packages) that may import it.
KNOWN_TO = {
    "klein": ("http.routing", "applications"),
    "txamqp": ("amqp",),
    "treq": ("delivery.http_client",),
    "yaml": ("config.yaml_text",),
    "sentry_sdk": ("telemetry.sentry",),
    "prometheus_client": ("telemetry",),
    "opentelemetry": ("telemetry.otel",),
    "text_unidecode": ("middlewares.unidecoder",),
    "txredisapi": ("state.redis",),
    "jsonschema": ("http.admin.channels.schemas",),
    "regex": ("daemon.channels.patterns",),
}

# Packages whose names users import: the others define nothing in their __init__.py that another module defines.
PUBLIC_PACKAGES = ("messages", "middlewares")

MAX_MODULES, MAX_PACKAGES = 3, 14


def _name(path: Path) -> str:
    """``amqp.broker`` for junebug_turn/amqp/broker.py, ``amqp`` for the package itself."""
    parts = path.relative_to(ROOT / "junebug_turn").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((ROOT / "junebug_turn").rglob("*.py"))}


def _imports(name: str) -> Iterator[str]:
    """Every module that ``name`` imports, anywhere in it, for type checkers too, by its full name."""
    for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.partition(".")[2] in MODULES else node.module


def _imports_of_ours(name: str) -> set[str]:
    """The modules of ours among them, without the project's name; empty for the package itself."""
    found = (imported.partition(".") for imported in _imports(name))
    return {other for library, _, other in found if library == "junebug_turn"}


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_package_imports_from_those_below_it(name: str) -> None:
    """A package imports only from the packages before it in the one tuple, so that the layers are one tuple."""
    package = name.split(".")[0]
    assert package in PACKAGES, f"{package} has no floor: give it one in PACKAGES"
    below = PACKAGES[: PACKAGES.index(package)]
    for imported in _imports_of_ours(name):
        other = imported.split(".")[0]
        assert other in (*below, package, ""), f"{name} imports {imported}, which is not below it"


def test_modules_form_no_circle() -> None:
    """No module imports itself through others, type checkers' imports included."""
    graph = {name: _imports_of_ours(name) - {""} for name in MODULES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' <- '.join(circle.args[1])}")


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("applications.")])
def test_applications_do_not_know_each_other(name: str) -> None:
    """An application imports no other application; only the registry imports them all."""
    own = name.split(".")[1]
    packages = {
        module.split(".")[1] for module in MODULES if module.count(".") > 1 and "applications" in module
    }
    others = {
        module.split(".")[1] for module in _imports_of_ours(name) if module.startswith("applications.")
    } & packages
    assert own == "registry" or others <= {own}


@pytest.mark.parametrize("name", list(MODULES))
def test_a_library_is_known_in_its_place_only(name: str) -> None:
    """Klein, txamqp, treq, YAML and the others are each imported only where they have their place."""
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


@pytest.mark.parametrize("name", [name for name in MODULES if MODULES[name].stem == "__init__"])
def test_a_name_has_one_import_path(name: str) -> None:
    """A package hands on no name that another module defines, but those that users import."""
    names = {
        constant.value
        for node in ast.parse(MODULES[name].read_text("utf-8")).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for constant in ast.walk(node.value)
        if isinstance(constant, ast.Constant)
    }
    assert not names or name in PUBLIC_PACKAGES


def test_the_house_has_few_doors() -> None:
    """Few modules and packages stand directly in junebug_turn/: each is a room that a stranger can guess."""
    packages = {
        name.split(".")[0]
        for name in MODULES
        if name and (ROOT / "junebug_turn" / name.split(".")[0]).is_dir()
    }
    modules = {name for name in MODULES if "." not in name and name not in packages}
    assert len(modules) <= MAX_MODULES
    assert len(packages) <= MAX_PACKAGES


def test_the_namespace_of_twisted_plugins_stays_open() -> None:
    """Neither ``twisted`` nor ``twisted/plugins`` is a package of ours: an __init__.py would hide Twisted."""
    assert not list((ROOT / "twisted").rglob("__init__.py"))


def test_the_documentation_has_the_same_table() -> None:
    """The table of layers in docs/development.md names the packages in the same order."""
    page = (ROOT / "docs" / "development.md").read_text("utf-8")
    rows = [
        line.split("`")[1]
        for line in page.splitlines()
        if line.startswith("| `") and "junebug_turn/" not in line
    ]
    names = [row.rstrip("/").removesuffix(".py") for row in rows]
    assert [name for name in names if name in PACKAGES] == list(PACKAGES)
