"""Callbacks of Lightning's Trainer; conf/callbacks lists them."""
