"""What is done to a Hugging Face encoder."""
