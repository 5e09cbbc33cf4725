"""A client for image feature services on TensorFlow Serving. Needs no TensorFlow.

What `api` names, `interceptors` and `integrations` are public; the other modules may change at any time.
"""

import importlib as _importlib
import importlib.util as _importlib_util
import typing as _typing

if _typing.TYPE_CHECKING:
    from .api import *  # noqa: F403
    from .api import __all__ as __all__
    from .api import __version__ as __version__
else:

    def __getattr__(name: str) -> object:
        """Import the client when it is first used: the command starts without it, and sets what gRPC reads once."""
        # `from . import environment` asks here before the module is there; `api` must not be imported in between.
        if name not in ("__all__", "__version__") and (
            name.startswith("__") or _importlib_util.find_spec(f"{__name__}.{name}")
        ):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        api = _importlib.import_module(".api", __name__)
        globals().update({each: getattr(api, each) for each in (*api.__all__, "__all__", "__version__")})
        if name in globals():
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__"), "__version__"})
