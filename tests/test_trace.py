"""`gradrace trace`: published traces, formulas that evaluate to their numbers, drawings, bad input in one sentence."""

import json
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradrace import cli
from gradrace.autodiff import tape, trace
from gradrace.cases import find_case
from gradrace.cli.graph_svg import Box, draw
from gradrace.cli.trace import POINTS
from gradrace.families.scalar_trace import BOXES, FUNCTIONS
from gradrace.work import count
from test_walkthrough import as_pattern, blocks, commands, normalised

close = partial(math.isclose, rel_tol=1e-14, abs_tol=1e-15)
"""Equal in the fifteen digits that are published."""


def traced(name, at=None):
    at = at or POINTS[name]
    return trace.trace(partial(FUNCTIONS[name], trace), at, [f"x{i}" for i in range(1, len(at) + 1)])


def all_close(found, expected):
    return all(map(close, found, expected)) and len(found) == len(expected)


# ---- published traces ----


def test_every_function_has_a_point():
    assert {name: len(at) for name, at in POINTS.items()} == {name: len(box) for name, box in BOXES.items()}


def test_s2_is_the_trace_of_the_homework():
    found = traced("s2")
    v = [1.5, 0.909297426825682, 1.36394614023852, 4.48168907033806, 5.84563521057659, 0.5, 2.92281760528829]
    dots = [1, 0, 0.909297426825682, 4.48168907033806, 5.39098649716375, 0, 2.69549324858187]
    bars = [2.69549324858187, 0.75, 0.5, 0.5, 0.5, 5.84563521057659, 1]
    assert all_close([row.value for row in found.rows], [1, 1.5, 2, *v])
    assert all_close(found.dots(1), [0, 1, 0, *dots])
    assert all_close(found.bars(), [4.04323987287281, 2.69549324858187, -1.7735189300545, *bars])
    assert [str(row) for row in found.rows] == ["v₋₂", "v₋₁", "v₀", "v₁", "v₂", "v₃", "v₄", "v₅", "v₆", "v₇"]
    assert found.rows[-1].expression == "v₅ · v₆"


def test_s4_is_the_trace_of_the_notes():
    """The notes number the sine before the sum; the rows stand in the order in which Python evaluates them."""
    found = traced("s4")
    assert [row.expression for row in found.rows[2:]] == ["log(v₋₁)", "v₋₁ · v₀", "v₁ + v₂", "sin(v₀)", "v₃ − v₄"]
    v = [0.693147180559945, 10, 10.6931471805599, -0.958924274663138, 11.6520714552231]
    assert all_close([row.value for row in found.rows], [2, 5, *v])
    assert all_close(found.bars(), [5.5, 1.71633781453677, 1, 1, 1, -1, 1])
    assert all_close([found.dots(0)[-1], found.dots(1)[-1]], [5.5, 1.71633781453677])


def test_s1_is_the_trace_of_the_homework():
    """z1 … z6 by their expressions: the quotient z1 takes two rows here, a reciprocal and a product."""
    found = traced("s1")
    place = {row.expression: place for place, row in enumerate(found.rows)}
    z = [place[each] for each in ("v₋₁ · v₁", "sin(2 π v₂)", "exp(2 v₀)", "3 v₂ − v₃", "v₅ + v₄", "v₆ · v₄")]
    values = [
        0.666666666666667,
        -0.866025403784439,
        20.0855369231877,
        -18.0855369231877,
        -18.9515623269721,
        342.749180216546,
    ]
    bars = [-54.2939078164, -18.0855369232, 37.0370992502, -37.0370992502, -18.0855369232, 1]
    assert all(close(found.rows[i].value, value) for i, value in zip(z, values, strict=True))
    assert all(math.isclose(found.bars()[i], bar, rel_tol=3e-12) for i, bar in zip(z, bars, strict=True))
    assert all_close(found.bars()[:2], [-36.195938544244, 1511.95067472986])
    # The six dots for w1 by the formulas that the homework derives.
    dz1, dz2 = 1 / 1.5, 2 * math.pi * math.cos(2 * math.pi / 1.5) / 1.5
    dz4 = 3 * dz1
    dots = [dz1, dz2, 0, dz4, dz2 + dz4, values[4] * dz4 + values[3] * (dz2 + dz4)]
    assert all(math.isclose(found.dots(0)[i], dot, rel_tol=1e-13) for i, dot in zip(z, dots, strict=True))


@pytest.mark.parametrize(
    ("at", "value", "gradient"),
    [
        ((1, 2), 2819.4135369423, (7.51830796390186, 11592.4838939861)),
        ((2, 1), 1.92947684597644, (-17.0620334652332, 75.1793206887077)),
        ((1, 1), 19.2638134395603, (-53.9115893867719, 183.635516332181)),
        ((3, 0.5), 233.530910274405, (375.416352226262, -2418.6581806109)),
    ],
)
def test_s1_at_other_points(at, value, gradient):
    found = traced("s1", at)
    for each, expected in zip((found.rows[-1].value, *found.bars()[:2]), (value, *gradient), strict=True):
        assert math.isclose(each, expected, rel_tol=3e-13)


def test_s3_is_the_trace_of_the_homework():
    """The homework squares a = e^x for b; the family writes e^(2x), of which a knows nothing, so its bar is another."""
    a, b, c, d, e, f = (
        1.64872127070013,
        2.71828182845905,
        4.36700309915917,
        78.8071003807483,
        -0.94094487879637,
        77.8661555019519,
    )
    found = traced("s3")
    assert all_close([row.value for row in found.rows], [0.5, a, b, c, d, e, f])
    assert all_close(found.bars()[1:], [78.46854058534, 78.46854058534, 78.46854058534, 1, 1, 1])
    assert close(found.bars()[0], 555.971967901508)

    def squaring(x):
        a = trace.exp(x)
        c = a + a * a
        return trace.exp(c) + trace.sin(c)

    found = trace.trace(squaring, [0.5], ["x"])
    assert all_close([row.value for row in found.rows], [0.5, a, b, c, d, e, f])
    assert close(found.bars()[1], 337.214044473033)
    assert close(found.bars()[0], 555.971967901508)


def test_a_derivative_overflows_before_its_value(capsys):
    """s3 overflows above x = 3.2637, its derivative above 3.2585; JSON knows no infinity."""
    rows = document(capsys, "trace", "s3", "--at", "3.26", "--mode", "reverse")["rows"]
    assert rows[-1]["value"] > 1e305
    assert rows[0]["bar"]["s3"] is None
    assert cli.main(["trace", "s3", "--at", "3.264"]) == 2


# ---- the formulas say what the numbers do ----


@st.composite
def functions_and_points(draw):
    name = draw(st.sampled_from(tuple(FUNCTIONS)))
    return name, [draw(st.floats(low, high)) for low, high in BOXES[name]]


@given(functions_and_points())
def test_both_modes_agree_with_the_tape(drawn):
    """A second route to the gradient. s1 subtracts numbers of up to e⁴ = 55 from each other twice."""
    name, at = drawn
    found = traced(name, at)
    value, gradient = tape.value_and_gradient(partial(FUNCTIONS[name], tape), at)
    scale = max(abs(value), *map(abs, gradient), 55.0**2 if name == "s1" else 1.0)
    assert abs(found.rows[-1].value - value) <= 1e-14 * scale
    for place, slope in enumerate(gradient):
        assert abs(found.bars()[place] - slope) <= 1e-13 * scale
        assert abs(found.dots(place)[-1] - slope) <= 1e-13 * scale


def evaluate(text, names):
    """The number that a printed formula stands for: a space between factors means a product."""
    text = text.translate(str.maketrans({"₋": "m", "·": " ", "−": "-", "²": "**2", "̇": "_dot", "̄": "_bar"}))
    text = text.translate(str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789"))
    product = re.sub(r"(?<=[\w)])\s+(?=[\w(])", "*", text)
    return eval(product, {"π": math.pi, "exp": math.exp, "log": math.log, "sin": math.sin, "cos": math.cos}, names)


def ascii_name(symbol):
    return re.sub("[̇̄]", lambda mark: "_dot" if mark[0] == "̇" else "_bar", symbol).translate(
        str.maketrans("₋₀₁₂₃₄₅₆₇₈₉", "m0123456789")
    )


def check_texts(found):
    """Every expression and every formula, evaluated as it is printed, gives the number beside it."""
    values = {ascii_name(str(row)): row.value for row in found.rows}
    for row in found.rows[found.inputs :]:
        assert close(evaluate(row.expression, values), row.value), row.expression
    for wrt in range(found.inputs):
        dots = found.dots(wrt)
        names = values | {ascii_name(row.dot): dot for row, dot in zip(found.rows, dots, strict=True)}
        for formula, dot in list(zip(found.dot_formulas(), dots, strict=True))[found.inputs :]:
            assert close(evaluate(formula, names), dot), formula
    bars = found.bars()
    names = values | {ascii_name(row.bar): bar for row, bar in zip(found.rows, bars, strict=True)}
    for formula, bar in zip(found.bar_formulas()[:-1], bars[:-1], strict=True):
        assert close(evaluate(formula, names), bar), formula


@pytest.mark.parametrize("name", FUNCTIONS)
def test_formulas_evaluate_to_the_numbers_beside_them(name):
    check_texts(traced(name))


OPERATIONS = {
    "v₀ + 2": (lambda x: x + 2, 1.0),
    "−v₀ + 2": (lambda x: 2 - x, -1.0),
    "v₀ − 2": (lambda x: x - 2, 1.0),
    "3 v₀": (lambda x: 3 * x, 3.0),
    "0.25 v₀": (lambda x: x / 4, 0.25),
    "π v₀": (lambda x: math.pi * x, math.pi),
    "−v₀": (lambda x: -x, -1.0),
    "1 / v₀": (lambda x: 1 / x, -1 / 0.7**2),
    "0.5 v₁": (lambda x: 1 / (2 * x), -0.5 / 0.7**2),
    "v₀ · v₀": (lambda x: x * x, 1.4),
    "−6 v₁": (lambda x: (2 * x) * (-3 * x), -12 * 0.7),
    "3 v₀ − 2 v₀": (lambda x: 3 * x - 2 * x, 1.0),
    "log(2 v₀)": (lambda x: trace.log(2 * x), 1 / 0.7),
    "cos(v₀)": (trace.cos, -math.sin(0.7)),
    "cos(−2 v₀)": (lambda x: trace.cos(-2 * x), -2 * math.sin(1.4)),
}


@pytest.mark.parametrize("expression", OPERATIONS)
def test_constant_factors_take_no_row_of_their_own(expression):
    function, derivative = OPERATIONS[expression]
    found = trace.trace(function, [0.7], ["x"])
    assert found.rows[-1].expression == expression
    assert close(found.dots(0)[-1], derivative)
    assert close(found.bars()[0], derivative)
    check_texts(found)


def test_an_input_is_a_trace_already():
    found = trace.trace(lambda x: x, [0.7], ["x"])
    assert (len(found.rows), found.dots(0), found.bars()) == (1, [1.0], [1.0])


def test_an_unused_input_has_derivative_zero():
    found = trace.trace(lambda x, y: 2 * x, [0.7, 5.0], ["x", "y"])
    assert (found.dots(1)[-1], found.bars()[1]) == (0.0, 0.0)


# ---- the command ----


def document(capsys, *arguments):
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_forward_sweep_for_each_input_is_printed(capsys):
    assert cli.main(["trace", "s2"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("s2(x1, x2, x3) at (1, 1.5, 2), forward mode\n")
    assert re.search(r"v₅ = v₃ \+ v₄ +│ +5.84563521057659 │ v̇₅ = v̇₃ \+ v̇₄ +│ 8.08\d+ │ +5.39098649716375 │", output)


@pytest.mark.parametrize("x", ["-1e-3", "-1.5e0", "-.5E+0", "-2"])
def test_a_negative_number_is_no_option_however_it_is_written(x, capsys):
    assert document(capsys, "trace", "s3", "--at", x)["at"] == {"x": float(x)}
    assert document(capsys, "trace", "s1", "--at", "1e-3", x)["at"] == {"w1": 1e-3, "w2": float(x)}


def test_a_reverse_sweep_is_printed(capsys):
    assert cli.main(["trace", "s4", "--mode", "reverse"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"v₀ = x2 +│ +5 │ v̄₀ = v₋₁ v̄₂ \+ cos\(v₀\) v̄₄ +│ 1.71633781453677 │", output)


@pytest.mark.parametrize("wrt", ["2", "x2"])
def test_one_input_is_chosen_by_number_or_name(wrt, capsys):
    found = document(capsys, "trace", "s4", "--wrt", wrt, "--at", "1", "-2")
    assert (found["function"], found["mode"], found["at"]) == ("s4", "forward", {"x1": 1.0, "x2": -2.0})
    assert [row["i"] for row in found["rows"]] == [-1, 0, 1, 2, 3, 4, 5]
    assert found["rows"][-1]["dot"].keys() == {"x2"}
    assert math.isclose(found["rows"][-1]["dot"]["x2"], 1 - math.cos(-2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s5"], "unknown function 's5'; choose from: s1, s2, s3, s4; a formulation is named FAMILY/VARIANT"),
        (["s1", "--at", "1"], "--at gives 1 coordinates where s1 takes 2: w1, w2"),
        (["s4", "--at", "-1", "5"], "log(v₋₁) has no finite value where v₋₁ = -1; choose another point with --at"),
        (["s2", "--at", "1", "1", "0"], "1 / v₀ has no finite value where v₀ = 0; choose another point with --at"),
        (["s3", "--at", "1000"], "exp(v₀) has no finite value where v₀ = 1000; choose another point with --at"),
        (["s2", "--at", "1e200", "1e200", "1"], "v₁ = v₋₂ · v₋₁ is not finite; choose another point with --at"),
        (["s4", "--at", "nan", "5"], "v₋₁ = x1 is not finite; choose another point with --at"),
        (["s4", "--wrt", "3"], "unknown input '3'; choose from: 1, 2, x1, x2"),
        (["s4", "--mode", "reverse", "--wrt", "1"], "one reverse sweep serves all inputs; leave out --wrt"),
        (
            ["s4", "--graph", "graph.png"],
            "--graph graph.png: the graph is drawn as SVG; end the name of the file in .svg",
        ),
        (["s4", "--graph", "."], "--graph .: the graph is drawn as SVG"),
        (["s4", "--graph", "/no/such/folder/graph.svg"], "cannot be written (No such file or directory)"),
        (["hello/nothing"], "unknown formulation 'hello/nothing'"),
        (["hello/power", "--mode", "reverse"], "leave them out for a formulation"),
        (["sandwich/adjoint"], "sandwich/adjoint builds no autograd graph here; choose a formulation that"),
        (["hello/power", "--module", "no.such"], "cannot import the module 'no.such'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(arguments, message, capsys):
    assert cli.main(["trace", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gradrace: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_formulation_that_raises_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "raising.py").write_text(
        "from gradrace import Family, size\n"
        'f = Family(name="f", summary="", source="", primals=("x",), operators=("value_and_gradient",),\n'
        '           baseline="bad", sizes=(size("bench", n=3),),\n'
        '           draw=lambda size, rng: {"x": rng.standard_normal(size["n"])})\n'
        '@f.variant(source="a test")\n'
        "def bad(x):\n"
        "    return x.reshape(2, 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["trace", "f/bad", "--module", "raising"]) == 2
    assert "f/bad/value_and_gradient/n3/float64/cpu raised RuntimeError: shape" in capsys.readouterr().err


def test_the_commands_module_loads_neither_torch_nor_rich():
    script = "import sys, gradrace.cli; assert not {'torch', 'rich', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- the page ----

PAGE = Path(__file__).parents[1] / "docs" / "trace.md"


def test_the_page_shows_what_the_command_prints(tmp_path, monkeypatch, capsys):
    """Numbers may differ in their last digits; the picture is drawn anew."""
    monkeypatch.chdir(tmp_path)
    found = [each for block in blocks(PAGE.read_text()) for each in commands(block.text)]
    assert len(found) == 4
    for command, printed in found:
        _, *arguments = command.split()
        cli.main(arguments)
        captured = capsys.readouterr()
        assert as_pattern(printed).search(normalised(captured.out + captured.err)), command
    drawn = (tmp_path / "trace_s2.svg").read_text(encoding="utf-8")
    assert drawn == (PAGE.parent / "trace_s2.svg").read_text(encoding="utf-8")


# ---- drawings ----

SVG = "{http://www.w3.org/2000/svg}"


def boxes_of(root):
    """(left, top, right, bottom) of each box; the first rectangle is the background."""
    _, *rectangles = root.iter(f"{SVG}rect")
    numbers = ([float(each.get(name)) for name in ("x", "y", "width", "height")] for each in rectangles)
    return [(x, y, x + width, y + height) for x, y, width, height in numbers]


def curves_of(root):
    """Points along each edge, ends left out: its Bézier curve, and the line through a layer that may follow."""
    for path in root.findall(f"{SVG}path"):
        x0, y0, x1, y1, x2, y2, x3, y3, *through = map(float, re.findall(r"-?[\d.]+", path.get("d")))
        ts = [i / 20 for i in range(1, 20)]
        weights = [((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3) for t in ts]
        yield [
            *((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3) for a, b, c, d in weights),
            *((x3, (y3 + y) / 2) for y in through),
        ]


def check_drawing(text):
    """Well-formed; boxes inside the page and apart from each other; no edge across a box. The root and the arrows."""
    root = ElementTree.fromstring(text)
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = boxes_of(root)
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 < left < right < width
        assert 0 < top < bottom < height
        for other in boxes[:i]:
            assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top
        for curve in curves_of(root):
            assert not any(left < x < right and top < y < bottom for x, y in curve)
    return root, [path for path in root.findall(f"{SVG}path") if path.get("marker-end")]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_computation_graph_is_drawn(name, mode, tmp_path, capsys):
    file = tmp_path / "graph.svg"
    assert cli.main(["trace", name, "--mode", mode, "--graph", str(file)]) == 0
    found = traced(name)
    root, arrows = check_drawing(file.read_text(encoding="utf-8"))
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert len(boxes_of(root)) == len(found.rows)
    assert len(arrows) == sum(len(row.partials) for row in found.rows)
    assert {f"{row} = {row.expression}" for row in found.rows[found.inputs :]} <= set(texts)
    assert {f"{row.value:.6g}" for row in found.rows} <= set(texts)
    if mode == "reverse":
        assert {f"{row.bar} = {bar:.6g}" for row, bar in zip(found.rows, found.bars(), strict=True)} <= set(texts)
    assert mode in capsys.readouterr().out


AUTOGRAD = {
    "hello/product": ("value_and_gradient/n7", {"x": 1, "Mul": 1, "Sum": 1}),
    "sandwich/wasteful": (
        "value_and_gradient/d5_n1_cond100",
        {"x": 1, "A": 1, "M": 1, "Mv": 4, "LinalgInvEx": 2, "Softshrink": 1, "Sub": 1, "Dot": 1},
    ),
    "sandwich/custom_function": ("value_and_gradient/d5_n1_cond100", {"x": 1, "M": 1, "_FactorOnce": 1}),
    "soft_threshold/sign_relu": ("vjp/n1", {"y": 1, "Relu": 1, "Sign": 1}),
    "phase_retrieval/hessian_functional": ("hessian/n5_m25", {"x": 1, "Select": 6}),
}


@pytest.mark.parametrize("name", AUTOGRAD)
def test_the_autograd_graph_of_a_formulation_is_drawn(name, tmp_path, capsys):
    """As many nodes as `gradrace work` counts, the leaves by the names of the primals, an arrow for each edge."""
    scenario, operations = AUTOGRAD[name]
    file = tmp_path / "graph.svg"
    found = document(capsys, "trace", name, "--graph", str(file))
    case = find_case(f"{name}/{scenario}/float64/cpu")
    assert found["case"] == case.id
    nodes = found["nodes"]
    assert len(nodes) == count(case).graph_nodes
    words = [node["operation"] for node in nodes]
    assert {word: words.count(word) for word in operations} == operations
    assert all(node["inputs"] == [] for node in nodes if node["operation"] in case.scenario.family.primals)
    root, arrows = check_drawing(file.read_text(encoding="utf-8"))
    assert len(boxes_of(root)) == len(nodes)
    assert len(arrows) == sum(len(node["inputs"]) for node in nodes)
    assert len({path.get("d") for path in arrows}) == len(arrows)


def test_the_graph_is_a_table_too(capsys):
    """One leaf is read twice by one product."""
    assert cli.main(["trace", "hello/product"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("autograd graph of hello/product/value_and_gradient/n7/float64/cpu\n")
    assert re.search(r"│ 2 +│ Mul +│ \(7\) +│ 1, 1 +│", output)


def test_results_of_one_shape_are_counted(capsys):
    assert cli.main(["trace", "scalar_trace/autograd"]) == 0
    assert "2 × (1)" in capsys.readouterr().out


def test_what_is_written_in_a_box_is_no_markup():
    root, _ = check_drawing(draw([Box(("a < b & c",), ())], "<title>"))
    assert [each.text for each in root.iter(f"{SVG}text")] == ["<title>", "a < b & c"]


def test_a_drawing_is_the_same_each_time_and_edges_that_skip_layers_go_around():
    """A chain of which every box reads all before it; the edges of one box share their way down."""
    boxes = [Box((f"box {i}",), tuple(range(i))) for i in range(7)]
    drawing = draw(boxes, "all to all")
    assert drawing == draw(boxes, "all to all")
    root, arrows = check_drawing(drawing)
    assert len(arrows) == 7 * 6 / 2
    assert len({top for _, top, _, _ in boxes_of(root)}) == 7
    assert len(root.findall(f"{SVG}path")) - len(arrows) == sum(range(1, 6))
