"""Errors for people: what happened, what was kept, what to do. One line each.

Shells (CLI, web page, server) print `str(error)` and never a traceback; everything in the package raises
one of these for whatever a user can cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class MamError(Exception):
    """Base of every error a user can cause; its text is one line that says what to do next."""


class WeightsError(MamError):
    """Weights are missing, damaged, of the wrong kind or could not be fetched."""


class UnattachedError(WeightsError):
    """No integrator was trained for the base."""


class StoreError(MamError):
    """The store could not be read or written; nothing stored was lost."""


class RemainsError(StoreError):
    """What was purged is gone from the memory, but a copy of it remains somewhere."""


class EndpointError(MamError):
    """The server of the base was not reached, refused or broke off; what it said until then is kept."""


class InputError(MamError, ValueError):
    """What was asked for cannot be done: an empty message, an unknown id, `k` out of range."""


class MissingError(InputError):
    """What an id stands for is not here, or is somebody else's: nobody can tell which."""


class ConflictError(MamError):
    """Somebody else changed the same thing first; look again, then repeat."""


@contextmanager
def legible(path: Path) -> Iterator[None]:
    """Reading the text file `path` inside raises InputError where it cannot be read or is not UTF-8."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8, then repeat.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path.") from error
