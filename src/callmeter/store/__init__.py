"""Floor 2: the files. Who opens, locks, appends, renames, syncs or changes modes does it here."""
