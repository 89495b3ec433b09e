"""Everything that can go wrong through no fault of the program, as one small tree.

    ElmanError              catch this one to catch them all
    ├── ConfigError         an unknown or impossible setting
    ├── DataError           text or measurements that cannot be used as they are
    ├── BundleError         a saved file that is damaged, hostile, too new or of another kind
    ├── RunError            a run folder that cannot be used: in use, incomplete, not one
    └── TrainingError       training that cannot go on

A message says what happened with the value, where, and what to do. It is raised where the fact is known and caught in two places
only: the command line (one line, exit status 2) and the server (JSON, status 4xx). Anything else that escapes is a defect of ours.
"""


class ElmanError(Exception):
    """The root of every error that a user can meet and mend."""


class ConfigError(ElmanError):
    """A setting with an unknown name or an impossible value."""


class DataError(ElmanError):
    """Input that is missing, empty, unreadable or too small for what was asked."""


class BundleError(ElmanError):
    """A bundle or checkpoint that cannot be read: the message names the path, what was expected and what was found."""


class RunError(ElmanError):
    """A run folder that cannot be used as asked."""


class TrainingError(ElmanError):
    """Training cannot go on: the message names the update, the last finite loss and what to try."""
