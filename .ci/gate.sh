#!/usr/bin/env bash
# The gate as a step of a workflow: `action.yml` calls it, and any other system can.
#
#   GATE_BASE       the branch to compare with            GATE_HEAD      what to compare (.: what is checked out)
#   GATE_PATTERN    a glob on the id of the cases         GATE_MODULES   modules with kernels, separated by spaces
#   GATE_ARGUMENTS  more arguments, separated by spaces   GATE_PYTHON    the interpreter
#   GATE_SOURCE     where gradrace is installed from, if it is missing
#   GATE_FOLDER     where gate.json and gate.md are written
set -uo pipefail

python=${GATE_PYTHON:-python}
folder=${GATE_FOLDER:-.}
json=$folder/gate.json
markdown=$folder/gate.md

if ! "$python" -c 'import gradrace' 2>/dev/null; then
  "$python" -m pip install --quiet "${GATE_SOURCE:-gradrace}" || exit 2
fi

where=()
if [[ -n ${GATE_BASE:-} ]]; then
  # What the base branch has learned since is no change of this one.
  base=$(git merge-base "$GATE_BASE" HEAD 2>/dev/null) || base=$GATE_BASE
  where=("$base" "${GATE_HEAD:-.}")
  [[ -n ${GATE_PATTERN:-} ]] && where+=("$GATE_PATTERN")
elif [[ -n ${GATE_PATTERN:-} ]]; then
  echo "gate.sh: a pattern needs a base too; set GATE_BASE" >&2
  exit 2
fi
read -r -a modules <<<"${GATE_MODULES:-}"
read -r -a more <<<"${GATE_ARGUMENTS:-}"
options=(--json "$json" --markdown "$markdown")
for module in ${modules[@]+"${modules[@]}"}; do options+=(--module "$module"); done

rm -f "$json" "$markdown"
"$python" -m gradrace.cli gate ${where[@]+"${where[@]}"} "${options[@]}" ${more[@]+"${more[@]}"}
code=$?

if [[ -f $markdown && -n ${GITHUB_STEP_SUMMARY:-} ]]; then
  cat "$markdown" >>"$GITHUB_STEP_SUMMARY"
fi
if [[ -n ${GITHUB_OUTPUT:-} ]]; then
  verdict=
  [[ -f $json ]] && verdict=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["verdict"])' "$json")
  {
    echo "verdict=$verdict"
    echo "exit-code=$code"
    [[ -f $json ]] && echo "json=$json"
    [[ -f $markdown ]] && echo "markdown=$markdown"
  } >>"$GITHUB_OUTPUT"
fi
exit "$code"
