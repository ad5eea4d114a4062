"""Klein, for routes whose paths are fixed: a path that was found once need not be searched again."""

from __future__ import annotations

from typing import Any

from klein import Klein
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, MapAdapter

MAX_KEPT = 100


class _Found(MapAdapter):
    """An adapter that knows what it matches."""

    def __init__(self, adapter: MapAdapter, found: tuple[Any, Any]) -> None:
        vars(self).update(vars(adapter))
        self._found = found

    def match(self, *args: Any, **options: Any) -> Any:
        return self._found


class _KeepingMap(Map):
    """A map that keeps its adapters: making one encodes the host by IDNA, and matching walks through all rules.

    Only those are kept that match, of which there are few; a client can't fill it with paths of its own.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: dict[tuple[str | None, ...], MapAdapter] = {}

    def bind(
        self,
        server_name: str,
        script_name: str | None = None,
        subdomain: str | None = None,
        url_scheme: str = "http",
        default_method: str = "GET",
        path_info: str | None = None,
        query_args: Any = None,
    ) -> MapAdapter:
        key = (server_name, script_name, subdomain, url_scheme, default_method, path_info)
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        adapter = super().bind(*key, query_args)
        try:
            found = adapter.match(return_rule=True)
        except HTTPException:
            # Whoever asks gets this once more.
            return adapter
        found_adapter = _Found(adapter, found)
        if len(self._kept) < MAX_KEPT:
            self._kept[key] = found_adapter
        return found_adapter


class Router(Klein):
    """Klein with such a map."""

    def __init__(self) -> None:
        super().__init__()
        self._url_map = _KeepingMap()
