"""What remote errors say, in a line."""

from ray.exceptions import OutOfMemoryError, RayError


def last_line(error: Exception) -> str:
    """What a remote error says in one line, without its traceback."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[-1] if lines else ''}"


def lacks_memory(error: RayError) -> bool:
    """Whether a call ended for want of memory: by Ray's monitor, in Python, or in TensorFlow (on a GPU, say)."""
    cause = getattr(error, "cause", None)
    return isinstance(error, OutOfMemoryError) or any(
        kind.__name__ in ("MemoryError", "ResourceExhaustedError") for kind in type(cause).__mro__
    )
