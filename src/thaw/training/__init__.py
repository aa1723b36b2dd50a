"""Lightning's Trainer and its callbacks."""
