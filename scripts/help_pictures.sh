#!/usr/bin/env bash
# Draws the pictures of the help pages from a real run with the miniature: bash scripts/help_pictures.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test
exec "$PYTHON" -m scripts.pictures.help_pages
