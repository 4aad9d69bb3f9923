"""Converts published weights for Load ASUKA. The work is done in training/weights/convert.py.

python convert.py SRC [SRC ...] DST    (or python -m training.convert)
"""

from .engine import parsers

if __name__ == "__main__":
    parsers.convert().parse_args()  # answers --help and mistakes before torch is loaded

from .weights.convert import main

if __name__ == "__main__":
    main()
