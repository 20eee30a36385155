"""Floor 1: what the log adds up to. Pure: records in, a `Report` out."""
