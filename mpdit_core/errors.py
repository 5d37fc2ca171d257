"""Every error a caller can react to; each message says what, where, and what would be right.

MPDiTError
    InvalidConfig     a configuration value is outside what is allowed
    BadData           training data is missing, damaged or of the wrong shape
    UnreadableRun     a folder is not a run of any known layout, or a file of it is damaged
        UnsafeFile    a file holds more than numbers; it was not opened
    AlreadyExists     something is already where a result should be written
    NoSuchWeights     the run is fine, but does not hold the weights asked for
    Diverged          the training loss is no longer a number
    NoSuchPoint       no probe point has that name
    ImpossibleIntervention  an intervention names what the model lacks, or never acted
    Cancelled         the user stopped the computation
"""


class MPDiTError(Exception):
    """Base of all errors of this project."""


class InvalidConfig(MPDiTError, ValueError):
    """A configuration value is outside what is allowed."""


class BadData(MPDiTError):
    """Training data is missing, damaged or of the wrong shape."""


class UnreadableRun(MPDiTError):
    """A folder is not a run of any known layout, or one of its files is damaged."""


class UnsafeFile(UnreadableRun):
    """A file holds more than numbers (code, objects); nothing of it was executed."""


class AlreadyExists(MPDiTError):
    """Something is already where a result should be written; nothing was overwritten."""


class NoSuchWeights(MPDiTError, KeyError):
    """The run does not hold the weights that were asked for."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class NoSuchPoint(MPDiTError, KeyError):
    """No probe point of this model has that name."""

    __str__ = Exception.__str__


class ImpossibleIntervention(MPDiTError, ValueError):
    """An intervention names what the model does not have, or acted on no sample at all."""


class Cancelled(MPDiTError):
    """The user stopped the computation."""


class Diverged(MPDiTError):
    """The training loss is no longer a finite number; what was saved before is intact."""
