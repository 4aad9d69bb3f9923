#!/usr/bin/env bash
# Draws the workflows' thumbnails, from real runs with the miniature where it will do: bash scripts/thumbnails.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test
exec "$PYTHON" -m scripts.pictures.thumbnails
