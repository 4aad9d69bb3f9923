"""What went wrong in a data worker, in one line."""


def one_line(error: Exception) -> str:
    """The message of an error, without the traceback that one of a data worker brings along. Raises a RuntimeError that is
    not of a worker that died."""
    text = str(error)
    if "is killed by signal" in text or "exited unexpectedly" in text:
        return (
            "a data worker was killed, most often for lack of memory; start the same command again to go on, with a "
            "smaller run.workers or on a machine with more memory"
        )
    if isinstance(error, RuntimeError):
        raise error
    if "in DataLoader worker process" in text:
        return text.strip().splitlines()[-1].partition(": ")[2]  # below its traceback, behind its type
    return text
