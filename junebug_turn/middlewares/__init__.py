"""Middlewares, which see and may change messages and events between queues and applications.

Middlewares that users write import from here.
"""

from junebug_turn.middlewares.base import BaseMiddleware, BaseMiddlewareConfig

__all__ = ["BaseMiddleware", "BaseMiddlewareConfig"]
