"""Rows become tokens."""
