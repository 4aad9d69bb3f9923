#!/usr/bin/env bash
# Sets everything up, then runs ruff and the test suite: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2s/^# //p' "$0"; exit; fi
source scripts/setup.sh test
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
exec "$PYTHON" -m pytest "$@"
