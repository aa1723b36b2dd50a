"""What is known before torch is loaded."""
