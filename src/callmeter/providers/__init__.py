"""Floor 2: endpoints that answer calls, and the wires that lead to them."""
