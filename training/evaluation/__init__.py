"""The paper's benchmark: its pairs of image and mask, the compared methods, the metrics, and the report."""
