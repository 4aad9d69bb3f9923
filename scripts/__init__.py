"""The demo, the set-up, the workflow generator, and what draws the images of the documentation."""
