"""Errors that a user can act on."""


class PipelineError(Exception):
    """What is wrong, with which value, and what to do about it, in one line."""
