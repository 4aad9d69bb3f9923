"""Converts published weights for Load ASUKA: python convert.py SRC [SRC ...] DST

It is `training.convert`, found also by the Python of ComfyUI's portable version for Windows, which looks for modules in no
other folder than its own.
"""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

if __name__ == "__main__":
    runpy.run_module("training.convert", run_name="__main__")
