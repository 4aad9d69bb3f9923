#!/usr/bin/env bash
# Writes workflows/ anew from scripts/workflows.py: bash scripts/workflows.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test
exec "$PYTHON" scripts/workflows.py
