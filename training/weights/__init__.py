"""Weight files: other people's, read and converted, and ours, joined and described."""
