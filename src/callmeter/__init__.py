"""The meter between LLM agents and their keys."""

__version__ = "0.1.0"
