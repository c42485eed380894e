"""The exceptions for mistakes that the user can mend."""


class UserError(ValueError):
    """A wrong file or value: one sentence that names it and says how to mend it.

    From Python it is a ``ValueError`` like any other. Commands print the sentence without a
    traceback and name their options in it (see ``gghead.torch_utils.cli``), so the library itself
    speaks of parameters (``masks='none'``) and never of flags. Names in it may come from other
    people's files, so characters that would steer a terminal or break the line are written as
    escapes.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(_one_line(sentence))


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that does not exist: a ``FileNotFoundError`` as well."""


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
