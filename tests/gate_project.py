"""A project of somebody else with kernels of its own, and the gate run in it."""

import contextlib
import json
import os
import subprocess
import sys
import time

from conftest import git

KERNELS = """
import os, signal, torch
from gradrace import Family, Kink, size

hinge = Family(
    name="hinge", summary="max(0, 1 - m)", source="a test", primals=("m",), operators=("vjp",), baseline="relu",
    sizes=(size("test", "bench", n=1000),), draw=lambda size, rng: {"m": rng.uniform(-2, 0.9, size["n"])},
    kinks=(Kink("one", at=1.0, allowed=(-1.0, 0.0), value=0.0),),
)

@hinge.variant(source="relu")
def relu(m):
    return torch.relu(1 - m)

square = Family(
    name="square", summary="sum x^2", source="a test", primals=("x",), operators=("value_and_gradient",),
    baseline="product", sizes=(size("test", "bench", n=1000),),
    draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
)

@square.variant(source="a product")
def product(x):
    return (x * x).sum()

@square.variant(source="a power")
def power(x):
    return (x**2).sum()

@square.variant(source="a sum of products")
def einsum(x):
    return torch.einsum("i,i->", x, x)

@square.variant(source="a norm")
def norm(x):
    return torch.linalg.vector_norm(x) ** 2

@square.variant(source="one product too many")
def wasteful(x):
    return (x * x * 1.0).sum()
"""

WITHOUT_TORCH = """
import sys
from gradrace.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules, "the arms import torch; in the gate's own process it is seconds for nothing"
sys.exit(code)
"""

MINE = ("HEAD", ".", "[hs][iq]*")
"""The base, the working tree, and the two families of this project: hinge and square."""


class Project:
    """A project of somebody else, of one commit on main, and the gate run in it."""

    def __init__(self, folder):
        self.folder, self.temporary = folder / "repo", folder / "temporary"
        self.folder.mkdir()
        self.temporary.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "160"}
        git(self.folder, "init", "-q", "-b", "main")
        self.write(KERNELS)
        self.commit()

    def write(self, text, name="kernels.py"):
        (self.folder / name).write_text(text)

    def commit(self):
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "-q", "-m", "one more")

    def command(self, *arguments, module="kernels"):
        return (sys.executable, "-c", WITHOUT_TORCH, "gate", "--module", module, *arguments)

    def gate(self, *arguments, module="kernels"):
        """Exit code, document, output; nothing is left behind. Without a budget, no times."""
        if "--budget" not in arguments:
            arguments = (*arguments, "--budget", "0")
        before = git(self.folder, "status", "--porcelain") if "--acknowledge" not in arguments else None
        document = self.folder.parent / "gate.json"
        document.unlink(missing_ok=True)
        done = subprocess.run(
            self.command("--json", str(document), *arguments, module=module),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        assert list(self.temporary.iterdir()) == []
        assert before is None or git(self.folder, "status", "--porcelain") == before
        found = json.loads(document.read_text()) if document.exists() else None
        return done.returncode, found, done.stdout + done.stderr


def until(condition, patience_s=30):
    """What the condition answers as soon as it is true; False when it never is."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    return False


def arms_in(temporary):
    """The processes that run an arm out of this temporary folder."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(temporary) in os.readlink(f"/proc/{entry.name}/cwd"):
                    found.append(int(entry.name))
    return found


def lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
