"""ASUKA's networks in plain PyTorch: MAE prior, alignment module, harmonizing decoder (arXiv 2312.04831)."""
