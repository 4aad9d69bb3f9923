"""What draws the images of the documentation, most of them from real runs of the demo model."""
