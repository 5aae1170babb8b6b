"""The gate on a foreign repository: what is wrong goes red, what is not stays green, and nothing is left behind."""

import shutil
from pathlib import Path

import pytest

import gradrace
from gate_project import KERNELS, MINE, Project
from gradrace.cli import main
from gradrace.gate.acknowledged import FILE

CHANGES = {
    "return (x * x).sum()": "return (x * x.detach()).sum() * 1.0",
    "return (x**2).sum()": "return (x.clone()**2).sum()",
    'return torch.einsum("i,i->", x, x)': "return x @ torch.ones(3, dtype=x.dtype)",
    "return torch.linalg.vector_norm(x) ** 2": "return torch.linalg.vector_norm(x.detach()) ** 2 + 0 * x.sum()",
    "return (x * x * 1.0).sum()": "return (x * x).sum()",
    "return torch.relu(1 - m)": "return torch.clamp(1 - m, min=0)",
}
"""A wrong gradient, a copy, a kernel that raises, a detached primal, less work, and a kink that moves."""


def changed(*changes):
    """The kernels after these changes."""
    text = KERNELS
    for old in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, CHANGES[old])
    return text


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_no_change_passes_and_is_equal_to_the_bit(project):
    code, document, output = project.gate(*MINE)
    assert (code, document["verdict"], document["findings"]) == (0, "pass", [])
    assert {kernel["gradient"]["status"] for kernel in document["kernels"]} == {"bitwise equal"}
    assert len(document["kernels"]) == 6
    assert "pass: 6 kernels compared, none is red" in output


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The gate on a head that changes every kernel: exit code, document, output, and the comment."""
    project = Project(tmp_path_factory.mktemp("planted"))
    project.write(changed(*CHANGES))
    comment = project.folder.parent / "comment.md"
    return *project.gate(*MINE, "--markdown", str(comment)), comment.read_text()


def of(planted, variant):
    """The findings of a variant, and its kernel."""
    _, document, *_ = planted
    findings = [each for each in document["findings"] if each["id"].split("/")[1] == variant]
    (kernel,) = (each for each in document["kernels"] if each["id"].split("/")[1] == variant)
    return {each["what"]: each for each in findings}, kernel


def test_the_exit_code_and_the_sentence_of_a_regression(planted):
    code, document, output, _ = planted
    assert (code, document["verdict"], document["exit_code"]) == (1, "regression", 1)
    assert "regression: 6 findings are red, of 6 kernels compared" in output


def test_a_wrong_gradient_at_equal_speed_is_red(planted):
    findings, kernel = of(planted, "product")
    assert findings["gradient"]["colour"] == "red"
    gradient = kernel["gradient"]
    assert (gradient["status"], gradient["output"]) == ("changed", "x")
    assert gradient["base"] == 2 * gradient["head"]
    assert gradient["units"] > 1e10
    assert findings["gradient"]["text"].startswith("changed: x[")


def test_a_copy_in_the_graph_is_red_at_equal_gradients(planted):
    findings, kernel = of(planted, "power")
    (finding,) = findings.values()
    assert kernel["gradient"]["status"] == "bitwise equal"
    assert (finding["colour"], finding["what"]) == ("red", "saved_bytes,peak_bytes")
    assert "saved bytes 0 → 8,000" in finding["text"]
    assert "+1 aten.clone.default forward" in finding["text"]


def test_a_kernel_that_raises_now_is_red(planted):
    findings, kernel = of(planted, "einsum")
    assert kernel["state"] == "broken"
    assert findings["gradient"]["colour"] == "red"
    assert "it raises now: RuntimeError" in findings["gradient"]["text"]


def test_a_detached_primal_is_red(planted):
    findings, kernel = of(planted, "norm")
    assert findings["gradient"]["colour"] == "red"
    assert kernel["gradient"]["head"] == 0


def test_less_work_is_a_gain(planted):
    findings, _ = of(planted, "wasteful")
    assert {each["colour"] for each in findings.values()} == {"gain"}
    assert "-1 aten.mul.Tensor forward" in next(iter(findings.values()))["text"]


def test_a_kink_that_moves_is_red_though_every_drawn_gradient_is_equal(planted):
    findings, kernel = of(planted, "relu")
    assert kernel["gradient"]["status"] == "bitwise equal"
    assert findings["kink"]["colour"] == "red"
    assert findings["kink"]["id"] == "hinge/relu/one"
    assert "→" in findings["kink"]["text"]


def test_markdown_for_a_pull_request(planted):
    *_, text = planted
    assert text.startswith("### gradrace: regression\n")
    assert "| ❌ | `square/power/value_and_gradient/n1000/float64/cpu` | " in text
    assert "| ✅ | `square/wasteful/value_and_gradient/n1000/float64/cpu` | " in text


def test_what_is_acknowledged_is_a_notice_until_it_is_merged(project):
    project.write(changed("return (x**2).sum()"))
    code, _, output = project.gate(*MINE, "--acknowledge", "the copy is needed")
    assert code == 0
    assert f"1 acknowledged in {FILE}; commit it with the change" in output
    code, document, _ = project.gate(*MINE)
    assert (code, [each["colour"] for each in document["findings"]]) == (0, ["notice"])
    assert "acknowledged: the copy is needed" in document["findings"][0]["text"]
    project.commit()
    # Merged: now it is the base, and the reason is spent.
    project.write(KERNELS.replace("return (x**2).sum()", "return (torch.cat((x.clone(), x)) ** 2).sum() / 2"))
    assert project.gate(*MINE)[0] == 1


def test_a_base_without_the_kernels_passes_as_all_new(project):
    project.write(KERNELS.replace('"hinge"', '"hinge2"').replace('"square"', '"square2"'), "later.py")
    code, document, output = project.gate("HEAD", ".", "[hs][iq]*2/*", module="later")
    assert (code, {kernel["state"] for kernel in document["kernels"]}) == (0, {"new"})
    assert "all new: base has none of the 6 kernels" in output


def test_a_base_older_than_the_package_itself_is_not_compared_with_the_installed_one(project):
    """In this project's own history: the base arm would import what is installed, and agree with it."""
    package = Path(gradrace.__file__).parent
    shutil.copytree(package, project.folder / "src" / "gradrace", ignore=shutil.ignore_patterns("__pycache__"))
    code, document, output = project.gate("HEAD", ".", "hello/*/primal/*/cpu")
    assert (code, {kernel["state"] for kernel in document["kernels"]}) == (0, {"new"})
    assert "head: working tree, gradrace from its own src/gradrace" in output
    assert f"gradrace from {package}" in output


def test_a_head_that_does_not_import_has_no_verdict(project):
    project.write(KERNELS.replace("import os, signal, torch", "import nothing_of_this_name"))
    code, document, output = project.gate(*MINE)
    assert (code, document) == (5, None)
    assert "does not import" in output
    assert "nothing_of_this_name" in output


def test_a_pattern_that_selects_nothing_measures_nothing(project):
    code, document, output = project.gate("HEAD", ".", "nothing/*")
    assert (code, document["verdict"]) == (3, "nothing measured")
    assert "no kernel" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "'nope' is no commit of this repository"),
        (("HEAD", ".", "*", "--markdown", "/no/such/folder/x.md"), "there is no folder /no/such/folder"),
        (("HEAD", ".", "*", "--json", "."), ". cannot be written; name a file"),
        (("HEAD", ".", "*", "--asv"), "--asv needs an asv.conf.json in "),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(project, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(project.folder)
    assert main(["gate", "--module", "kernels", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_project_that_must_be_built_is_built_in_both_states(project):
    needs = "import built\n" + KERNELS
    project.write(needs)
    project.commit()
    project.write(needs.replace("one product too many", "a product more"))
    build = "echo 'MADE = 1' > built.py"
    assert project.gate("HEAD", ".", "square/product/*", "--build", build)[0] == 0
    code, document, output = project.gate("HEAD", ".", "square/*", "--build", "echo no compiler >&2; exit 3")
    assert (code, document) == (5, None)
    assert "cannot be built by 'echo no compiler >&2; exit 3', which ends with 3: no compiler" in output


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budget", "soon", "'soon' is no number"),
        ("--budget", "-1", "-1 is no number of seconds"),
        ("--margin", "3", "3 is not between 0 and 1"),
        ("--head-python", "./no/python", "./no/python is no program that can be started"),
    ],
)
def test_a_bad_option_is_said_before_anything_starts(option, value, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(["gate", option, value])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
