"""Errors: one line with the cause and, where there is one, a hint how to fix it."""

from __future__ import annotations


class FoveateError(Exception):
    """Base of all errors that a user can cause or fix.

    Args:
        cause: One line: what failed and on which file or name.
        hint: One line: how to fix it; None if that is unknown.
    """

    kind = "error"

    def __init__(self, cause: str, hint: str | None = None) -> None:
        self.cause = " ".join(str(cause).split())
        self.hint = " ".join(hint.split()) if hint else None
        super().__init__(self.cause)

    def __str__(self) -> str:
        return f"{self.cause} ({self.hint})" if self.hint else self.cause


class MediaError(FoveateError):
    """A source that cannot be opened or decoded."""

    kind = "media"


class LimitError(MediaError):
    """A source that exceeds a limit."""

    kind = "limit"


class DataWarning(UserWarning):
    """Something odd about labelled videos that does not stop the work."""


class WeightsError(FoveateError):
    """Weights that are missing, damaged or of the wrong shape."""

    kind = "weights"


class ModelError(FoveateError):
    """An unknown model, or a request that a model does not support."""

    kind = "model"


class ConfigError(FoveateError):
    """A setting that is unknown or out of range."""

    kind = "config"


class ResultError(FoveateError):
    """A file of results that cannot be read."""

    kind = "result"


class InternalError(FoveateError):
    """An unexpected failure while one source was processed."""

    kind = "internal"


class MissingExtra(FoveateError):
    """An optional dependency that is not installed."""

    kind = "extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f"type: pip install 'foveate[{extra}]'")
