"""Floor 2: the transactional store of reservations and running totals. Derived: it can be rebuilt from the log."""
