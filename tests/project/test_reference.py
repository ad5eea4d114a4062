"""The parts of the documentation that are made from the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import attrs
import pytest

from junebug_turn.applications import registry
from junebug_turn.daemon.flags import flags
from tools.reference import example, page
from tools.reference.__main__ import FILES, ROOT


@pytest.mark.parametrize("name", list(FILES))
def test_up_to_date(name: str) -> None:
    """What docs/options.md and the example file say of the options is what the code has."""
    text = (ROOT / name).read_text("utf-8")
    assert FILES[name](text) == text, (
        f"{name} is not as the code has it: run `make docs` and commit the result"
    )


def test_a_missing_option_is_added() -> None:
    """An option that the example file lacks comes back, at the end of its group or section, with its default."""
    text = (ROOT / "etc" / "junebug-turn.yaml").read_text("utf-8")
    for key in ("max_headers", "parked_ttl", "duplicate_window", "allow_expired_replies"):
        lacking = re.sub(rf"^ *# {key}: .*\n", "", text, flags=re.MULTILINE)
        assert lacking != text
        whole = example.updated(lacking)
        assert len(re.findall(rf"^ *#: .*\n *# {key}: ", whole, re.MULTILINE)) == 1
        assert example.updated(whole) == whole


def test_a_stale_default_is_corrected() -> None:
    """A default in the example file is the code's, and a note by hand stays."""
    text = (ROOT / "etc" / "junebug-turn.yaml").read_text("utf-8")
    assert example.updated(text.replace("# max_retries: 3", "# max_retries: 4")) == text
    noted = text.replace("# max_retries: 3", "# A note.\n# max_retries: 3")
    assert example.updated(noted) == noted


def test_an_option_that_is_gone() -> None:
    """An option in the example file that there isn't is refused by its line."""
    text = (ROOT / "etc" / "junebug-turn.yaml").read_text("utf-8")
    with pytest.raises(ValueError, match='"# colour: red"'):
        example.updated(text.replace("# max_retries: 3", "# colour: red\n\n# max_retries: 3"))


def test_markers_are_needed() -> None:
    """A page without the places for the tables is refused."""
    with pytest.raises(ValueError, match="names"):
        page.updated("# Options\n")


def test_a_new_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application without a section in the example file is told by the line that it wants."""
    third: Any = attrs.evolve(registry.APPLICATION_TYPES[0], name="third")
    types = (*registry.APPLICATION_TYPES, third)
    monkeypatch.setattr(registry, "APPLICATION_TYPES", types)
    text = (ROOT / "docs" / "options.md").read_text("utf-8")
    assert "`application: junebug` and `application: third`" in page.updated(text)
    with pytest.raises(ValueError, match="- application: third"):
        example.updated((ROOT / "etc" / "junebug-turn.yaml").read_text("utf-8"))


def test_the_manual_page() -> None:
    """The manual page has every tool and every flag, and man finds no fault in it."""
    path = ROOT / "etc" / "man" / "junebug-turn.1"
    text = path.read_text("utf-8").replace("\\", "")
    for words in ("check-config", "parked list", "parked purge", "trace", "import-junebug"):
        assert f".SS {words}\n" in text
    for flag in flags():
        assert f".B --{flag.name} TEXT\n" in text
    if shutil.which("groff"):
        command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["junebug-turn", "par"], "parked"),
        (["junebug-turn", "parked", "re"], "replay"),
        (["junebug-turn", "check-config", "--amqp-pass"], "--amqp-password-file"),
    ],
)
def test_completion(words: list[str], expected: str) -> None:
    """bash completes tools, verbs and flags."""
    path = ROOT / "etc" / "completion" / "junebug-turn.bash"
    line = " ".join(words)
    script = (
        f"source {path}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; COMP_POINT={len(line)}; "
        "$(complete -p junebug-turn | sed 's/.*-F \\([^ ]*\\).*/\\1/') junebug-turn; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert expected in [each.strip() for each in done.stdout.splitlines()]
