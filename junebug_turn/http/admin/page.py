"""The base of the pages that the daemon itself has, beside the APIs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from junebug_turn.errors import MethodNotAllowed, NotFound


class Page(Resource, ABC):
    """A page that answers GET and HEAD at its own path.

    :cvar path: the path of its mount
    :cvar slash: whether the same path with a slash at its end is the page, too
    """

    isLeaf = True
    path: ClassVar[str]
    slash: ClassVar[bool] = False

    def render(self, request: IRequest) -> bytes:
        """Return the page.

        :raises NotFound: the path is not just the page's
        :raises MethodNotAllowed: the method is another
        """
        if request.postpath and not (self.slash and request.postpath == [b""]):
            raise NotFound(f"there is nothing below {self.path}")
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(f"{self.path} takes GET only", ("GET", "HEAD"))
        return self.write(request)

    @abstractmethod
    def write(self, request: IRequest) -> bytes:
        """Set the answer's status and headers and return its body."""
