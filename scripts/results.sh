#!/usr/bin/env bash
# Trains the miniature's ablations and remakes its tables: bash scripts/results.sh --photos PHOTOS --masks MASKS --held-out PHOTOS
# Takes more than a day on two CPU cores; started again it goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ $# = 0 ] || [ "$1" = --help ] || [ "$1" = -h ]; then sed -n '2,3s/^# //p' "$0"; exit; fi
source scripts/setup.sh test
exec "$PYTHON" -m scripts.results "$@"
