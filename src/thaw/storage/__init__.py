"""Where bytes lie and come from."""
