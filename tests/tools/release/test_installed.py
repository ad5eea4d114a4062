"""What the commands of the installed package must do; the package itself is in tests/project/test_packaging.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.release.installed import ReleaseError, faults, run

# A command that does all that is expected, and shows the variables that it gets.
EVERYTHING = """#!/bin/sh
env
echo "junebug-turn 1.0.0, --amqp-hostname, purge, --redis-host: The configuration can be used."
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The ``bin`` folder of an environment."""
    for name in ("twistd", "junebug-turn", "jb"):
        write(tmp_path / name, EVERYTHING)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_well(programs: Path) -> None:
    """Commands that print what a user expects are no fault."""
    assert list(faults(programs, Path("/sdist"), "1.0.0", programs)) == []


def test_another_version(programs: Path) -> None:
    """A command of another version is a fault, with the last line of its output."""
    (fault,) = faults(programs, Path("/sdist"), "1.0.1", programs)
    assert fault.startswith("`junebug-turn --version` prints no 'junebug-turn 1.0.1': junebug-turn 1.0.0,")


def test_a_command_fails(programs: Path) -> None:
    """A command that fails is a fault with its status, and so is one that is not there."""
    write(programs / "jb", "#!/bin/sh\necho no module >&2\nexit 3\n")
    assert list(faults(programs, Path("/sdist"), "1.0.0", programs)) == [
        "`jb --help` ends with status 3: no module"
    ]
    (programs / "jb").unlink()
    (fault,) = faults(programs, Path("/sdist"), "1.0.0", programs)
    assert fault.startswith("`jb --help` ends with status 127: ")


def test_the_caller_s_variables(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the caller changes what the commands find, as ``PYTHONPATH`` could."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("HTTP_BIND", "nowhere")
    write(programs / "jb", EVERYTHING + "if env | grep -q -e PYTHONPATH -e HTTP_BIND; then exit 1; fi\n")
    assert list(faults(programs, Path("/sdist"), "1.0.0", programs)) == []


def test_run(tmp_path: Path) -> None:
    """A command that the check itself needs ends it when it fails, with its output."""
    assert run(sys.executable, "-c", "print('well')", cwd=tmp_path) == "well\n"
    with pytest.raises(ReleaseError, match=r"status 2:\nno such file"):
        run(sys.executable, "-c", "import sys; print('no such file'); sys.exit(2)", cwd=tmp_path)
