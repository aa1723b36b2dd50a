"""What predicts with an exported model, of each task; none loads what only training needs."""
