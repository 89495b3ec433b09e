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

import errno
import unicodedata

LONGEST_MESSAGE = 3000
"""Characters of a message: what a file holds is shown in it, and a file may hold anything."""

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


class ElmanError(Exception):
    """The root of every error that a user can meet and mend. Its message is one line of printable characters, see `one_line`."""

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """`text` as one line that commands no terminal: blanks for line ends and tabs, escapes for control characters and halves of
    surrogate pairs, and what is longer than `LONGEST_MESSAGE` cut in its middle, because the remedy stands at the end.

    >>> one_line("two\\nlines, \\x1b[31mred")
    'two lines, \\\\x1b[31mred'
    """
    text = _cut(text)
    if text.isprintable():
        return text
    blank = "".join(" " if letter.isspace() else letter for letter in text)
    return _cut("".join(ascii(one)[1:-1] if unicodedata.category(one) in _UNPRINTABLE else one for one in blank))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 905]} ... {text[-900:]}"


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, of the system's loader or of XLA says that there is no memory left.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    (True, True)
    >>> is_out_of_memory(ValueError("memory"))
    False
    """
    said = str(error).lower()
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, ImportError):
        return "cannot allocate memory" in said or "failed to map segment" in said
    if isinstance(error, RuntimeError):  # XLA's errors are such, and so is a thread that cannot be started
        return any(words in said for words in ("resource_exhausted", "out of memory", "can't start new thread"))
    return isinstance(error, MemoryError)
