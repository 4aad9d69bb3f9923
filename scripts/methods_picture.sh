#!/usr/bin/env bash
# Draws README's picture of the benchmark's methods on photos of scikit-image: bash scripts/methods_picture.sh
# Needs SD-prompt's tokens: python -m training.ablations --photos PHOTOS --masks MASKS --only align-prompt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then sed -n '2,3s/^# //p' "$0"; exit; fi
source scripts/setup.sh test
exec "$PYTHON" -m scripts.pictures.methods
