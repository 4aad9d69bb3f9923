#!/usr/bin/env bash
# Sets everything up, then runs ruff, mypy and the test suite: bash scripts/test.sh [--fast | --all-comfyui] [pytest arguments]
# With --fast no ComfyUI is set up: only the tests that need neither it nor minutes of training run, in the active Python environment.
# With --all-comfyui the nodes' tests also run in ComfyUI 0.18.2 and 0.24.1: 12 GB more to install, and ten minutes more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2,4s/^# //p' "$0"; exit; fi
purpose=test older=
case ${1:-} in
  --fast) purpose=fast; shift; set -- tests --ignore=tests/comfyui -m "not slow and not trains" "$@" ;;
  --all-comfyui) older="0.18.2 0.24.1"; shift ;;
esac
source scripts/setup.sh "$purpose"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
"$PYTHON" -m pytest "$@"
for version in $older; do
  ( OLD_COMFYUI=$version; source scripts/setup.sh test; "$PYTHON" -m pytest --override-ini testpaths=tests/comfyui -m "not newest" "$@" )
done
