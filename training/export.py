"""Joins trained parts into one file for Load ASUKA, with a model card. The work is done in training/weights/export.py.

python -m training.export --mae MAE --alignment ALIGNMENT --decoder DECODER --out FILE
"""

from .engine import parsers

if __name__ == "__main__":
    parsers.export().parse_args()  # answers --help and mistakes before torch is loaded

from .weights.export import main

if __name__ == "__main__":
    main()
