#!/usr/bin/env bash
# Runs a benchmark of the miniature: bash scripts/evaluate.sh benchmark --set pairs.photos=PHOTOS --set pairs.masks.objects=MASKS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ $# = 0 ] || [ "$1" = --help ] || [ "$1" = -h ]; then sed -n '2s/^# //p' "$0"; exit; fi
source scripts/setup.sh test
exec "$PYTHON" -m scripts.evaluate "$@"
