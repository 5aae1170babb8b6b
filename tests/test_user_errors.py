"""What a person can get wrong in a module of kernels is answered in one line: the place, the owner, the argument."""

import sys

import pytest

from gradrace import cli, errors

KERNELS = """\
import numpy as np
import torch
from gradrace import Family, Limit, measured, size


def draw(size, rng):
    return {"x": rng.standard_normal(size["n"]), "c": 2.0}


def exact(numbers):
    x = numbers["x"]
    return {"value": numbers["c"] * (x**3).sum(), "x": 3 * numbers["c"] * x**2}


cube = Family(
    name="cube",
    summary="c Σ x³",
    source="mine",
    primals=("x",),
    constants=("c",),
    operators=("primal", "value_and_gradient"),
    sizes=(size("test", "bench", n=10),),
    draw=draw,
    reference={"value_and_gradient": exact},
    condition=measured("x"),
    baseline="power",
)


@cube.variant(source="as people write it")
def power(x, c):
    return c * (x**3).sum()


@cube.variant(source="two products")
def product(x, c):
    return c * (x * x * x).sum()
"""

FAMILY, DRAW, EXACT = "cube = Family(", "def draw(", "def exact("
SECOND = '@cube.variant(source="two products")'


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write the kernels with some text replaced; the answer is the module's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(*edits):
        text = KERNELS
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / "user_kernels.py").write_text(text)
        monkeypatch.delitem(sys.modules, "user_kernels", raising=False)
        return text

    yield write
    sys.modules.pop("user_kernels", None)


def line_of(text, start):
    """The number of the one line that starts so."""
    (found,) = (i for i, line in enumerate(text.splitlines(), 1) if line.strip().startswith(start))
    return found


def answer(capsys, command="list"):
    """The one line on standard error of a command that must exit with 2."""
    code = cli.main([command, "cube/*", "--module", "user_kernels"])
    captured = capsys.readouterr()
    assert code == 2, f"{captured.out}{captured.err}"
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.removesuffix("\n")


def test_the_kernels_are_right_before_they_are_spoilt(module, capsys):
    module()
    assert cli.main(["verify", "cube/*", "--module", "user_kernels"]) == 0
    assert "4 as declared" in capsys.readouterr().out


def fact(text):
    """An edit of the second variant: its decorator with another fact."""
    return [(SECOND, f'@cube.variant(source="two products", {text})')]


DECLARATIONS = {
    # ---- a variant's arguments ----
    "an unknown fact": (
        fact("expcted={}"),
        '@cube.variant(source="two products", expcted',
        "cube/product: unknown argument 'expcted'; did you mean expected?",
    ),
    "no source": (
        [(SECOND, "@cube.variant()")],
        "@cube.variant()",
        'cube/product: source= is missing; write @cube.variant(source="where it comes from")',
    ),
    "no parentheses": (
        [(SECOND, "@cube.variant  # bare")],
        "@cube.variant  # bare",
        "cube/product: source= is missing; write",
    ),
    "expected is a list": (
        fact('expected=["x"]'),
        '@cube.variant(source="two products"',
        "cube/product: expected= is ['x'] where Mapping[str, tuple[str, str]] is due; "
        'write expected={"x": ("none", "the reason")}',
    ),
    "expected without a reason": (
        fact('expected={"x": "none"}'),
        '@cube.variant(source="two products"',
        "cube/product: expected= is {'x': 'none'} where",
    ),
    "expected of an unknown output": (
        fact('expected={"y": ("none", "why")}'),
        '@cube.variant(source="two products"',
        "cube/product: unknown output in expected= 'y'; choose from: tangent, value, x",
    ),
    "an unknown status": (
        fact('expected={"x": ("nan?", "why")}'),
        '@cube.variant(source="two products"',
        "cube/product: unknown status in expected= 'nan?'; did you mean nan?",
    ),
    "operators is a bare string": (
        fact('operators="primal"'),
        '@cube.variant(source="two products"',
        "cube/product: operators= is 'primal' where tuple[str, ...] | None is due; write operators=(\"primal\",)",
    ),
    "a limit that is not in a tuple": (
        fact('limits=Limit(lambda size: size["n"], 10, "why")'),
        '@cube.variant(source="two products"',
        "cube/product: limits= is a Limit where tuple[Limit, ...] is due; write limits=(Limit(",
    ),
    "an unknown device": (
        fact('unsupported={"cdua": "why"}'),
        '@cube.variant(source="two products"',
        "cube/product: unknown operator, dtype or device 'cdua'; did you mean cuda?",
    ),
    "a lambda has no name": (
        [
            (
                "def product(x, c):\n    return c * (x * x * x).sum()",
                'def product(x, c):\n    return x\n\n\ncube.variant(source="short")(lambda x, c: x)',
            )
        ],
        'cube.variant(source="short")',
        "cube/<lambda>: the name must be made of letters, digits and underscores; rename it",
    ),
    # ---- its signature ----
    "too few parameters": (
        [("def product(x, c):", "def product(x):")],
        SECOND,
        "cube/product: the function takes (x) where it is called with (x, c); change its parameters, or the "
        "family's primals= and constants=",
    ),
    "a keyword that nobody gives": (
        [("def product(x, c):", "def product(x, c, *, buffer: torch.Tensor):")],
        SECOND,
        "cube/product: the function takes (x, c, *, buffer) where it is called with (x, c)",
    ),
    "parameters in another order": (
        [("def product(x, c):", "def product(c, x):")],
        SECOND,
        "cube/product: the function takes (c, x) where it is called with (x, c), in this order; reorder them",
    ),
    "no cotangent": (
        [
            ('operators=("primal", "value_and_gradient")', 'operators=("primal", "vjp", "value_and_gradient")'),
            *fact('computes="vjp"'),
        ],
        '@cube.variant(source="two products"',
        "cube/product: the function takes (x, c) where it is called with (x, c, cotangent)",
    ),
    "a prepare that takes no inputs": (
        fact("prepare=lambda function: function"),
        '@cube.variant(source="two products"',
        "cube/product: prepare= takes (function) where it is called with (function, x, c)",
    ),
    # ---- a family's arguments ----
    "an unknown argument": (
        [('baseline="power"', 'basline="power"')],
        FAMILY,
        "family 'cube': unknown argument 'basline'; did you mean baseline?",
    ),
    "a missing argument": ([("    draw=draw,\n", "")], FAMILY, "family 'cube': draw= is missing; write draw=lambda"),
    "primals is a bare string": (
        [('primals=("x",)', 'primals=("x")')],
        FAMILY,
        "family 'cube': primals= is 'x' where tuple[str, ...] is due; write primals=(\"x\",)",
    ),
    "no primals": ([('primals=("x",)', "primals=()")], FAMILY, "family 'cube': primals= is empty; name what"),
    "a size that is not in a tuple": (
        [('sizes=(size("test", "bench", n=10),)', 'sizes=(size("test", "bench", n=10))')],
        FAMILY,
        "family 'cube': sizes= is a Size where tuple[Size, ...] is due; write sizes=(size(",
    ),
    "sizes of plain numbers": (
        [('sizes=(size("test", "bench", n=10),)', "sizes=(10, 100)")],
        FAMILY,
        "family 'cube': sizes= is (10, 100) where tuple[Size, ...] is due; write sizes=(size(",
    ),
    "a reference without its operator": (
        [('reference={"value_and_gradient": exact}', "reference=exact")],
        FAMILY,
        "family 'cube': reference= is the function exact where Mapping[str, Reference] is due; "
        'write reference={"value_and_gradient": function}',
    ),
    "an unknown dtype": (
        [('baseline="power"', 'baseline="power", dtypes=("float16",)')],
        FAMILY,
        "family 'cube': unknown dtype 'float16'; choose from: float32, float64",
    ),
    # ---- what needs all variants ----
    "a baseline that no variant is": (
        [('baseline="power"', 'baseline="powre"')],
        FAMILY,
        "family 'cube': unknown variant in baseline= 'powre'; did you mean power?",
    ),
    "a baseline for one operator of two": (
        [('baseline="power"', 'baseline={"primal": "power"}')],
        FAMILY,
        "family 'cube': baseline= names no baseline for the operator 'value_and_gradient'; add one",
    ),
    "a baseline that does not compute an operator": (
        [('baseline="power"', 'baseline="product"'), *fact('operators=("primal",)')],
        FAMILY,
        "family 'cube': baseline= names 'product', which does not compute 'value_and_gradient'; name one that does",
    ),
    # ---- sizes ----
    "an unknown tier": ([('"bench", n=10', '"bnech", n=10')], "sizes=", "size 'n10': unknown tier 'bnech'; did you"),
    "a size that is no word": ([("n=10", "n=1.5")], "sizes=", "size 'n1.5': axes= is (('n', 1.5),) where"),
    "operators of a size": (
        [("n=10", 'n=10, operators="primal"')],
        "sizes=",
        "size 'n10': operators= is 'primal' where tuple[str, ...] | None is due; write operators=(\"primal\",)",
    ),
}


@pytest.mark.parametrize("what", DECLARATIONS)
def test_a_wrong_declaration_is_answered_when_the_module_is_loaded(module, capsys, what):
    edits, start, message = DECLARATIONS[what]
    text = module(*edits)
    assert answer(capsys).startswith(f"gradrace: user_kernels.py:{line_of(text, start)}: {message}")


def test_a_family_without_variants_is_answered(module, capsys):
    text = module((KERNELS[KERNELS.index("@cube") :], ""))
    expected = "family 'cube': it has no variant; declare one by @cube.variant(source=…)"
    assert answer(capsys) == f"gradrace: user_kernels.py:{line_of(text, FAMILY)}: {expected}"


def test_a_size_without_tiers_is_legal(module, capsys):
    module(('size("test", "bench", n=10)', 'size("bench", n=10), size(n=11)'))
    assert cli.main(["verify", "cube/*/n11/*", "--all", "--module", "user_kernels"]) == 0


RUNS = {
    # ---- draw ----
    "draw lacks a primal": (
        [('{"x": rng.standard_normal(size["n"]), "c": 2.0}', '{"y": rng.standard_normal(size["n"]), "c": 2.0}')],
        DRAW,
        "family 'cube': draw= gives no 'x', only 'y', 'c'; add it",
    ),
    "draw lacks a constant": (
        [(', "c": 2.0}', "}")],
        DRAW,
        "family 'cube': draw= gives no 'c', only 'x'; add it",
    ),
    "draw gives a tensor": (
        [('rng.standard_normal(size["n"])', 'torch.rand(size["n"])')],
        DRAW,
        "family 'cube': draw= gives the primal 'x' as a torch.Tensor; give a NumPy array of float64",
    ),
    "draw gives integers": (
        [('rng.standard_normal(size["n"])', 'rng.integers(9, size=size["n"])')],
        DRAW,
        "family 'cube': draw= gives the primal 'x' as a NumPy array of int64; give a NumPy array of float64",
    ),
    "draw gives float32": (
        [('rng.standard_normal(size["n"])', 'rng.standard_normal(size["n"], dtype=np.float32)')],
        DRAW,
        "family 'cube': draw= gives the primal 'x' as a NumPy array of float32; give a NumPy array of float64",
    ),
    "draw gives a number": (
        [('rng.standard_normal(size["n"])', "1.5")],
        DRAW,
        "family 'cube': draw= gives the primal 'x' as a float; give a NumPy array of float64",
    ),
    "draw gives a constant of torch": (
        [('"c": 2.0', '"c": torch.tensor(2.0)')],
        DRAW,
        "family 'cube': draw= gives the constant 'c' as a torch.Tensor; give a NumPy array",
    ),
    "draw gives a narrow constant": (
        [('"c": 2.0', '"c": np.ones(1, dtype=np.float32)')],
        DRAW,
        "family 'cube': draw= gives the constant 'c' as a NumPy array of float32; give a NumPy array",
    ),
    "draw gives nothing": (
        [('    return {"x": rng.standard_normal(size["n"]), "c": 2.0}', "    pass")],
        DRAW,
        "family 'cube': draw= gives a NoneType; write draw=lambda",
    ),
    "draw raises": (
        [('size["n"]', 'size["m"]')],
        'return {"x": rng',
        "family 'cube': draw raised KeyError: 'm'; mend it",
    ),
    # ---- reference ----
    "the reference lacks an output": (
        [(', "x": 3 * numbers["c"] * x**2}', "}")],
        EXACT,
        "family 'cube': reference['value_and_gradient'] gives no 'x', only 'value'; add it",
    ),
    "the reference gives another shape": (
        [('"x": 3 * numbers["c"] * x**2', '"x": 3.0')],
        EXACT,
        "family 'cube': reference['value_and_gradient'] gives 'x' of shape () where the primal has (10,); return the",
    ),
    "the reference gives a tuple": (
        [('return {"value": numbers["c"] * (x**3).sum(), "x": 3 * numbers["c"] * x**2}', "return x, x")],
        EXACT,
        "family 'cube': reference['value_and_gradient'] gives a tuple; return a dictionary",
    ),
    "the reference raises": (
        [('x = numbers["x"]', 'x = numbers["z"]')],
        "x = numbers",
        "family 'cube': reference['value_and_gradient'] raised KeyError: 'z'; mend it",
    ),
    # ---- the tolerance ----
    "the condition raises": (
        [('measured("x")', 'measured("z")')],
        FAMILY,
        "family 'cube': condition raised KeyError: 'z'; mend it",
    ),
    "the depth raises": (
        [('baseline="power"', 'depth=lambda size: size["m"], baseline="power"')],
        "depth=",
        "family 'cube': depth raised KeyError: 'm'; mend it",
    ),
    "the judge raises": (
        [("reference={", "dtypes=('float32', 'float64'), # {"), ("return c * (x**3).sum()", "raise ValueError(c)")],
        "raise ValueError",
        "family 'cube': baseline raised ValueError: 2.0; mend it",
    ),
}


@pytest.mark.parametrize("what", RUNS)
def test_what_draw_and_reference_do_is_answered_when_they_run(module, capsys, what):
    edits, start, message = RUNS[what]
    text = module(*edits)
    assert answer(capsys, "verify").startswith(f"gradrace: user_kernels.py:{line_of(text, start)}: {message}")


def test_a_kernel_that_raises_is_a_failed_check_that_names_its_line(module, capsys):
    """It is no wrong declaration: the other formulations are still checked."""
    text = module(("return c * (x * x * x).sum()", "return x.reshape(2, 3)"))
    assert cli.main(["verify", "cube/*/primal/*", "--module", "user_kernels"]) == 1
    captured = capsys.readouterr()
    assert "1 as declared, 1 failed" in captured.out
    assert f"user_kernels.py:{line_of(text, 'return x.reshape')} raised RuntimeError: shape" in captured.err
    assert "Traceback" not in captured.err


def test_a_syntax_error_names_its_line(module, capsys):
    text = module(("def product(x, c):", "def product(x, c:"))
    assert f" at user_kernels.py:{line_of(text, 'def product')})" in answer(capsys)


def test_an_error_at_import_names_its_line(module, capsys):
    text = module(('baseline="power"', "baseline=undefined"))
    assert answer(capsys) == (
        "gradrace: cannot import the module 'user_kernels' (NameError: name 'undefined' is not defined at "
        f"user_kernels.py:{line_of(text, 'baseline')}); mend it, or give a dotted name that python can import from here"
    )


def test_in_a_bench_it_fails_the_case_in_one_line(module, pytester):
    """The families of others go on."""
    text = module(('size["n"]', 'size["m"]'))
    pytester.makepyfile(user_kernels=text, test_bench="from gradrace.testing import test_kernel\n")
    pytester.syspathinsert()
    options = ("-p", "gradrace.testing", "-p", "no:cacheprovider", "--benchmark-disable", "--module", "user_kernels")
    result = pytester.runpytest_inprocess(*options, "--family", "cube", "--operator", "primal")
    result.assert_outcomes(failed=2)
    assert (
        str(result.stdout).count("\ngradrace: user_kernels.py:7: family 'cube': draw raised KeyError: 'm'; mend it")
        == 2
    )
    assert "Traceback" not in str(result.stdout)
    assert "def " not in str(result.stdout)


# ---- where ----


def raised(function, *arguments):
    with pytest.raises(Exception, match=r".") as caught:
        function(*arguments)
    return caught.value


def inner():
    raise ValueError("within a function of its own")


def kernel():
    inner()


def test_the_innermost_line_in_the_functions_own_file_is_named():
    error = raised(kernel)
    assert errors.where(error, kernel).endswith(f"test_user_errors.py:{inner.__code__.co_firstlineno + 1}")


def test_a_wrong_call_names_the_definition():
    """The call comes from gradrace, so no frame stands in the person's file."""
    error = raised(lambda: kernel(1)).with_traceback(None)
    assert errors.where(error, kernel).endswith(f"test_user_errors.py:{kernel.__code__.co_firstlineno}")


def test_what_is_not_written_in_python_has_no_place():
    assert errors.place_of(len) is None
    assert errors.where(raised(int, "x").with_traceback(None), len) == ""
