"""Errors that a user can act on."""


class PipelineError(Exception):
    """What is wrong, with which value, and what to do about it, in one line."""


def exits_cleanly(main):  # TODO: goes when every entry point has the one of stages.common.entry
    from stages.common.entry import entry_point

    return entry_point(main)
