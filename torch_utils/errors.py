"""The one exception for mistakes that the user can mend."""


class UserError(ValueError):
    """A wrong file or option: one sentence that names it and says how to mend it.

    Commands print the sentence without a traceback (see ``gghead.torch_utils.cli``).
    """
