"""read -> check -> encode -> batch."""
