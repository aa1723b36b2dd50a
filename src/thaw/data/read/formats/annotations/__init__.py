"""Reads what annotation tools export."""
