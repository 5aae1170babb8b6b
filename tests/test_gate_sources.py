"""Of which files a kernel is made: a change of any of them touches it, and no other change does."""

import pytest

from gradrace.gate.sources import digest
from gradrace.gate.states import State

FILES = {
    "README.md": "kernels",
    "src/mine/__init__.py": "from mine import race, other\n",
    "src/mine/race.py": "import torch\nfrom mine.tools import norm\nfrom . import shared\nif norm: import deep.down\n",
    "src/mine/tools.py": "norm = 1\n",
    "src/mine/shared.py": "from .inner.constants import TWO\nfrom .inner import *\n",
    "src/mine/inner/__init__.py": "",
    "src/mine/inner/constants.py": "TWO = 2\n",
    "src/mine/inner/unused.py": "",
    "src/mine/other.py": "from mine import race\n",
    "src/mine/kernel.cpp": "// compiled by something else\n",
    "deep/down.py": "import mine.race\n",
    "src/gradrace/operators.py": "import gradrace.clock\n",
    "src/gradrace/clock.py": "",
}


@pytest.fixture
def state(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return State("a", None, tmp_path)


def copied(state, tmp_path_factory, name, text):
    """The same files in another folder, one of them with another text, or gone."""
    folder = tmp_path_factory.mktemp("copy")
    for each, old in {**FILES, name: text}.items():
        if each != name or text is not None:
            path = folder / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text if each == name else old)
    return State("b", None, folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["x = 1\n", None])
def test_what_it_is_made_of_touches_a_kernel_and_nothing_else_does(state, tmp_path_factory, name, text):
    """What stands in the __init__ of its package is part of it only where it imports the package itself."""
    untouched = {
        "README.md",
        "src/mine/__init__.py",
        "src/mine/inner/unused.py",
        "src/mine/other.py",
        "src/gradrace/clock.py",
    }
    other = copied(state, tmp_path_factory, name, text)
    assert (digest(state, ["mine.race"]) == digest(other, ["mine.race"])) == (name in untouched)


def test_a_copy_elsewhere_is_the_same(state, tmp_path_factory):
    other = copied(state, tmp_path_factory, "README.md", FILES["README.md"])
    assert digest(state, ["mine.race"]) == digest(other, ["mine.race"])


def test_a_module_that_no_state_holds_is_the_same_in_both(state, tmp_path_factory):
    other = copied(state, tmp_path_factory, "src/mine/race.py", "x = 1\n")
    assert digest(state, ["numpy.linalg"]) == digest(other, ["numpy.linalg"])


def test_a_file_that_is_no_python_is_a_part_all_the_same(state, tmp_path_factory):
    """Somebody else's arm says whether it imports; here it is text that has changed."""
    first = copied(state, tmp_path_factory, "src/mine/tools.py", "norm = (")
    second = copied(state, tmp_path_factory, "src/mine/tools.py", "norm = [")
    assert digest(first, ["mine.race"]) != digest(second, ["mine.race"])
