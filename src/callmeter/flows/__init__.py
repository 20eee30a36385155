"""Floor 3: sequences that touch several adapters. The order of things is decided here."""
