"""Floor 4: the command line. The only floor that asks the time, the environment or the terminal."""
