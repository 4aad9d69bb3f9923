"""Training of ASUKA's parts: `python -m training.<recipe> CONFIG.yaml`. See training/README.md."""
