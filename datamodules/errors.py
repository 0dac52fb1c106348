"""The errors for wrong input of this package."""

from pathlib import Path


class DataError(ValueError):
    """A data set, a result or settings of the data that are missing, incomplete or inconsistent.

    The message names the value, the place and a call that works.
    """


class IncompleteSequenceError(DataError):
    """A sequence without all its frames, or without its annotation."""


class NoDataError(DataError):
    """The error of a data set of which nothing is at its root.

    Args:
        message: the message.
        data_set: name of the data set.
        root: its folder.
    """

    def __init__(self, message: str, data_set: str, root: Path):
        super().__init__(message)
        self.data_set, self.root = data_set, root


class DataSettingError(DataError):
    """An error that a setting of the reader mends. The message ends with the setting.

    Args:
        problem: what is wrong.
        remedy: what to do; the setting follows.
        setting: argument of the reader as on the command line, e.g. "only_complete=true".
    """

    def __init__(self, problem: str, remedy: str, setting: str):
        super().__init__(f"{problem}. {remedy}: {setting}")
        self.problem, self.remedy, self.setting = problem, remedy, setting

    def at(self, place: str) -> "DataSettingError":
        """Returns the error with the whole override, for a reader whose settings lie at `place` of a configuration."""
        return DataSettingError(self.problem, self.remedy, f"{place}.{self.setting}")
