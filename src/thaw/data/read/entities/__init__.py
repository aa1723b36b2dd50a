"""Entities: words with tags, or text with spans, become sentences with tags in IOB2."""
