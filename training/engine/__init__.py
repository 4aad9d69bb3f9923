"""What every recipe runs on, and what its reader need not open: config files, the training loop, checkpoints, logs."""
