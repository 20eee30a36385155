"""Floor 2: what goes out of the program and comes in from others: alerts, mail, rows of outcomes."""
