"""The distributions that setup.cfg declares are those that the package imports."""

from __future__ import annotations

import ast
import re
import sys
from configparser import ConfigParser
from importlib.metadata import files, packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = packages_distributions()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> set[str]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    lines = config["options"]["install_requires"].split("\n")
    lines += config["options.extras_require"]["otel"].split("\n")
    return {_canonical(found[0]) for line in lines if (found := re.match(r"[\w.-]+", line))}


def _imported() -> dict[str, str]:
    """The modules of others that the package imports, each with a file that does."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "junebug_turn").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top not in ("junebug_turn", "__future__"):
                    found.setdefault(name, str(path.relative_to(ROOT)))
    return found


def _distribution(module: str) -> str:
    """The distribution that ``module`` is from."""
    # Our plugin stands below twisted.
    candidates = {_canonical(name) for name in DISTRIBUTIONS.get(module.split(".")[0], ())} - {"junebug-turn"}
    # zope.event and others have the name zope, too.
    exact = _canonical(".".join(module.split(".")[:2]))
    if exact in candidates:
        return exact
    if len(candidates) > 1:
        # Several have the same package, as those of OpenTelemetry do.
        file = module.replace(".", "/")
        ours = (f"{file}.py", f"{file}/__init__.py")
        candidates = {each for each in candidates if any(str(path) in ours for path in files(each) or ())}
    assert len(candidates) == 1, f"{module} is from one of {sorted(candidates)}"
    return candidates.pop()


def test_what_is_imported_is_declared() -> None:
    """Nothing comes only by way of another distribution, which could do without it one day."""
    declared = _declared()
    for module, file in _imported().items():
        distribution = _distribution(module)
        assert distribution in declared, f"{file} imports {module}: declare {distribution} in setup.cfg"


def test_what_is_declared_is_imported() -> None:
    """Nothing is installed that nothing uses."""
    used = {_distribution(module) for module in _imported()}
    assert _declared() - used == set(), "setup.cfg declares what nothing imports: take it away"


def _locked(name: str) -> dict[str, str]:
    """The version of each distribution in a lock file; each has the hashes of its files, and nothing else is there."""
    text = (ROOT / name).read_text("utf-8")
    entry = r"([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
    assert re.fullmatch(rf"(?:#.*\n)+(?:{entry})+", text), (
        f"{name} has more than versions and hashes: run `make lock`"
    )
    return {_canonical(found[1]): found[2] for found in re.finditer(entry, text)}


def test_locks() -> None:
    """Both lock files have hashes for every file that may be installed, and no address that they are from; that of the
    daemon alone has the same versions as the other."""
    everything, running = _locked("requirements.lock"), _locked("requirements-run.lock")
    assert running.items() < everything.items()
    assert "setuptools" in running  # it builds our own wheel
    assert "pytest" not in running


def test_the_lock_has_what_is_declared() -> None:
    """requirements.lock names a version of each."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    assert _declared() <= {_canonical(line.partition("==")[0]) for line in lines if "==" in line}
