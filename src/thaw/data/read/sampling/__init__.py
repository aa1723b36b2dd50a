"""Draws splits, folds and few shots from rows."""
