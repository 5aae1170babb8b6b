"""What runs the gate in CI: the action, and the script that it calls, in a foreign repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gate_project import KERNELS, Project
from gradrace.cli.gate_report import HEADING

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def run(project, **variables):
    """Exit code of the script, what it says, the summary and the outputs of the step."""
    summary, outputs = project.folder.parent / "summary.md", project.folder.parent / "outputs"
    environment = {
        **project.environment,
        "GATE_PYTHON": sys.executable,
        "GATE_FOLDER": str(project.folder.parent),
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(outputs),
        **variables,
    }
    done = subprocess.run(
        ["bash", ROOT / ".ci" / "gate.sh"],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = outputs.read_text().splitlines() if outputs.exists() else []
    return (
        done.returncode,
        done.stdout + done.stderr,
        summary.read_text() if summary.exists() else "",
        dict(line.split("=", 1) for line in lines),
    )


def test_the_step_fails_with_the_gate_and_says_why(tmp_path):
    project = Project(tmp_path)
    project.write(KERNELS.replace("return (x * x).sum()", "return (x * x.detach()).sum()"))
    code, _, summary, outputs = run(
        project, GATE_BASE="HEAD", GATE_PATTERN="square/product/*", GATE_MODULES="kernels", GATE_ARGUMENTS="--budget 0"
    )
    assert code == 1
    assert summary.startswith(f"{HEADING} regression\n")
    assert (outputs["verdict"], outputs["exit-code"]) == ("regression", "1")
    assert Path(outputs["json"]).exists()
    assert Path(outputs["markdown"]).read_text() == summary


def test_bad_input_leaves_no_summary(tmp_path):
    code, said, summary, outputs = run(Project(tmp_path), GATE_BASE="nope", GATE_ARGUMENTS="--budget 0")
    assert (code, summary, outputs["verdict"], outputs["exit-code"]) == (2, "", "", "2")
    assert "'nope' is no commit" in said


def test_a_pattern_without_a_base_is_refused(tmp_path):
    code, said, *_ = run(Project(tmp_path), GATE_PATTERN="square/*")
    assert (code, "set GATE_BASE" in said) == (2, True)


def test_the_action_hands_every_input_to_the_script():
    (step,) = ACTION["runs"]["steps"]
    read = (ROOT / ".ci" / "gate.sh").read_text()
    assert all(name in read for name in step["env"])
    used = " ".join(step["env"].values())
    assert all(f"inputs.{name}" in used for name in ACTION["inputs"])
    assert (ROOT / ".ci" / "gate.sh").name in step["run"]


def test_no_input_reaches_a_shell_unquoted():
    """Each comes as a variable: text that is pasted into a script could be code."""
    (step,) = ACTION["runs"]["steps"]
    assert "${{" not in step["run"]


@pytest.mark.parametrize("file", ["gate.yml", "test.yml"])
def test_the_workflows_are_readable(file):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / file).read_text())
    assert workflow["jobs"]


def test_the_workflow_edits_the_comment_of_the_gate_and_no_other():
    (comment,) = (
        step["run"]
        for step in yaml.safe_load((ROOT / ".github" / "workflows" / "gate.yml").read_text())["jobs"]["gate"]["steps"]
        if "comment" in step.get("run", "")
    )
    assert f'startswith("{HEADING}")' in comment
    assert subprocess.run(["bash", "-n", "-c", comment], check=False).returncode == 0


def test_the_copied_workflow_fetches_the_whole_history():
    """Without it there is no base to compare with."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "gate.yml").read_text())
    checkout, *_ = workflow["jobs"]["gate"]["steps"]
    assert checkout["with"]["fetch-depth"] == 0
    assert os.access(ROOT / ".ci" / "gate.sh", os.R_OK)
