"""Floor 2: where keys lie. Nothing else in callmeter reads one."""
