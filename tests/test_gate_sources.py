"""Of which files a kernel is made: a change of any of them touches it, and no other change does."""

import pytest

from gradrace.gate import arm
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
def state_of(tmp_path_factory):
    """Lays files out in a folder of their own; a text of None is no file."""

    def state_of(files):
        folder = tmp_path_factory.mktemp("state")
        for name, text in files.items():
            if text is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
        return State("a", None, folder)

    return state_of


@pytest.fixture
def touches(state_of):
    """Does it touch a module that one file gets another text?"""

    def touches(module, files, name, text):
        first, second = state_of(files), state_of({**files, name: text})
        return digest(first, [module]) != digest(second, [module])

    return touches


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["import x\nx()\n", None])
def test_what_it_is_made_of_touches_a_kernel_and_nothing_else_does(touches, name, text):
    untouched = {"README.md", "src/mine/inner/unused.py", "src/mine/other.py", "src/gradrace/clock.py"}
    assert touches("mine.race", FILES, name, text) == (name not in untouched)


PACKAGE = {
    "pkg/__init__.py": "",
    "pkg/norm.py": "from functools import norm\n",
    "pkg/slow.py": "",
    "pkg/kern.py": "",
    "outside.py": "import pkg.norm\n",
    "taking.py": "from pkg import norm\n",
    "star.py": "from pkg import *\n",
    "dotted.py": "import pkg.norm\ndef kernel(x): return pkg.faster(x)\n",
}


@pytest.mark.parametrize("module", ["outside", "taking", "pkg.kern"])
@pytest.mark.parametrize(
    ("text", "is_touched"),
    [
        ("import torch\ntorch.backends.mkldnn.enabled = False\n", True),
        ("import torch\ntorch.set_flush_denormal(True)\n", True),
        ("try:\n    import fast\nexcept ImportError:\n    import slow as fast\n", True),
        ("FAST = bool(1)\n", True),
        ("x = (", True),
        ("x = '\0'", True),
        ('"""What it is for."""\n', False),
        ("from . import kern, slow\nFAMILIES = (kern.one, *slow.all)\n__all__ = ['FAMILIES']\n", False),
        ("import torch\n__version__: str = '2'\n_HOMES = {'a': 'pkg.a'}\n", False),
    ],
)
def test_of_the_packages_around_a_module_what_they_do_at_import_is_part(touches, module, text, is_touched):
    """Not what they import and list: a new family in a catalogue touches no other one."""
    assert touches(module, PACKAGE, "pkg/__init__.py", text) == is_touched


def test_all_packages_around_a_module_are_asked_though_the_module_be_compiled(touches):
    files = {"kernel.py": "from a.b.c import f\n", "a/__init__.py": "", "a/b/__init__.py": ""}
    assert touches("kernel", files, "a/__init__.py", "import torch\ntorch.x = 1\n")
    assert touches("kernel", files, "a/b/__init__.py", None), "without it, another folder may hold the package"


@pytest.mark.parametrize(
    ("text", "is_package_part"),
    [
        ("from .norm import norm\n", True),
        ("from .slow import *\n", True),
        ("from .slow import quick as norm\n", True),
        ("import pkg.slow as norm\n", True),
        ("import norm\n", True),
        ("if slow: norm = slow\n", True),
        ("def norm(x): return x\n", True),
        ("class norm: pass\n", True),
        ("def __getattr__(name): return slow\n", True),
        ("", False),
        ("from . import norm\n", False),
        ("from pkg import norm as norm\n", False),
        ("import pkg.norm\n", False),
        ("from .slow import quick\n", False),
    ],
)
def test_a_package_is_part_where_it_gives_the_name_of_its_module_to_something_else(touches, text, is_package_part):
    files = {**PACKAGE, "pkg/__init__.py": "from . import slow\n" + text}
    assert touches("taking", files, "pkg/norm.py", "x = 1\n")
    assert touches("taking", files, "pkg/slow.py", "x = 1\n") == is_package_part


def test_a_star_imports_the_modules_that_the_package_lists(touches):
    files = {**PACKAGE, "pkg/__init__.py": "__all__ = ['slow']\n__all__ += ['not a name', 1]\n"}
    assert touches("star", files, "pkg/slow.py", "x = 1\n")
    assert not touches("star", files, "pkg/norm.py", "x = 1\n")


def test_a_name_of_a_package_that_is_read_off_it_makes_it_part(touches):
    files = {**PACKAGE, "pkg/__init__.py": "from .slow import faster\n"}
    assert touches("dotted", files, "pkg/slow.py", "x = 1\n")
    assert not touches("outside", files, "pkg/slow.py", "x = 1\n")


@pytest.mark.parametrize(
    "name",
    [
        *("a.C", "a.pxd", "a.f", "a.F90", "a.f95", "a.hh", "a.hxx", "a.inl", "a.rs", "a.cl", "a.metal", "a.ptx"),
        *("a.cpython-312-x86_64-linux-gnu.so", "a.so.1", "a.dylib", "a.dll", "a.c.in"),
    ],
)
def test_what_is_compiled_is_part_of_every_kernel(touches, name):
    assert touches("kernel", {"kernel.py": ""}, f"native/{name}", "x")


@pytest.mark.parametrize("name", ["setup.py", "pyproject.toml", "native/CMakeLists.txt", "meson.build", "Cargo.toml"])
def test_how_it_is_compiled_is_part_where_something_is(touches, name):
    files = {"kernel.py": "", name: ""}
    assert not touches("kernel", files, name, "x")
    assert touches("kernel", {**files, "kernel.c": ""}, name, "x")


def test_a_module_that_declares_is_part_though_all_its_functions_come_from_another(state_of, monkeypatch):
    shared = """
from gradrace import Family, size
def draw(size, rng): return {"x": rng.standard_normal(3)}
def make(times): return lambda x: (x ** times).sum()
def family(name):
    return Family(name=name, summary="s", source="a test", primals=("x",), operators=("primal",), baseline="power",
                  sizes=(size("test", n=3),), draw=draw)
"""
    declaring = """
import shared_by_two
power = shared_by_two.family("power_of_another")
power.variant(source="a test", name="power")(shared_by_two.make(8))
"""
    files = {"shared_by_two.py": shared, "declaring.py": declaring}
    first, second = state_of(files), state_of({**files, "declaring.py": declaring.replace("8", "80")})
    monkeypatch.syspath_prepend(first.folder)
    homes = arm.homes(["declaring"])["power_of_another"]
    assert homes == ["declaring", "shared_by_two"]
    assert digest(first, homes) != digest(second, homes)


def test_a_copy_elsewhere_is_the_same(touches):
    assert not touches("mine.race", FILES, "README.md", FILES["README.md"])


def test_a_module_that_no_state_holds_is_the_same_in_both(touches):
    assert not touches("numpy.linalg", FILES, "src/mine/race.py", "x = 1\n")


def test_a_file_that_is_no_python_is_a_part_all_the_same(touches):
    """Somebody else's arm says whether it imports; here it is text that has changed."""
    assert touches("mine.race", {**FILES, "src/mine/tools.py": "norm = ("}, "src/mine/tools.py", "norm = [")
