"""Metrics of each task, with skewed classes in mind; what is undefined is said to be."""
