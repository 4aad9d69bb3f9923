#!/usr/bin/env bash
# Writes workflows/ and subgraphs/ anew from their descriptions in scripts/workflows/: bash scripts/workflows.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test
exec "$PYTHON" -m scripts.workflows
