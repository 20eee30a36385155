"""Floor 0: the words that everyone speaks. Standard library only (and msgspec, in `record`)."""
