"""Metrics that a task computes of its predictions."""
