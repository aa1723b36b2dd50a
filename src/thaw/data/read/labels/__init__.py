"""Labels of texts: read from the values of a table, named, counted and shown."""
