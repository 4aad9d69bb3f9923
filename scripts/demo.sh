#!/usr/bin/env bash
# Removes an object from a photo with the miniature weights: bash scripts/demo.sh [--image PHOTO --mask MASK] [--out FILE] [--serve]
set -euo pipefail
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2s/^# //p' "$0"; exit; fi
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" demo
PYTHONPATH=$ROOT exec "$PYTHON" "$ROOT/scripts/demo.py" "$@"
