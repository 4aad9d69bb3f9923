#!/usr/bin/env bash
# Writes locales/en/nodeDefs.json anew from the nodes, for translators to compare with: bash scripts/locales.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh test
exec "$PYTHON" -m scripts.node_texts
