"""The one exception a user may see: a mistake in what was given, said in one line."""


class HeadAtlasError(Exception):
    """Something the user can mend; the message names the file, line or key, what is wrong, and what to do."""
