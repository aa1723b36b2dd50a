"""Tokens become batches."""
