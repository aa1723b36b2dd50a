"""Files and the Hub become checked rows."""
