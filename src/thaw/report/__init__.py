"""Writes what a run and a sweep leave for people."""
