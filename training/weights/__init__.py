"""Other people's weights, read for training, and ours, described for others."""
