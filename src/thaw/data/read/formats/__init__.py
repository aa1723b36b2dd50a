"""Files as other tools write them, one function a format: a path gives rows."""
