"""Computes the frozen first blocks once and keeps their output."""
