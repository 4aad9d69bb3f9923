#!/usr/bin/env bash
# Takes README's screenshots from a real run with the miniature: bash scripts/readme_pictures.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test
exec "$PYTHON" -m scripts.pictures.readme
