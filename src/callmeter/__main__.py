"""`python -m callmeter`."""

from callmeter.cli.main import main

main()
