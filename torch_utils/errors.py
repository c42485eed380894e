"""The one exception for mistakes that the user can mend."""


class UserError(ValueError):
    """A wrong file or option: one sentence that names it and says how to mend it.

    Commands print the sentence without a traceback (see ``gghead.torch_utils.cli``). Names in it
    may come from other people's files, so characters that would steer a terminal or break the line
    are written as escapes.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(_one_line(sentence))


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
