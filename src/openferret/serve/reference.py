"""/docs: the OpenAPI description as a plain page, without scripts and without other hosts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any


def reference_page(openapi: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI description: every route with what it says, its body's example and its errors."""
    title = escape(str(openapi["info"]["title"]))
    schemas = openapi.get("components", {}).get("schemas", {})
    routes = [
        _route(path, method, route, schemas)
        for path, methods in openapi["paths"].items()
        for method, route in methods.items()
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"></head><body>'
        f'<h1>{title}</h1><p><a href="/openapi.json">openapi.json</a></p>{"".join(routes)}</body></html>'
    )


def _route(path: str, method: str, route: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    replies = "".join(
        f"<li>{escape(status)}: {escape(str(reply.get('description', '')))}</li>"
        for status, reply in route["responses"].items()
    )
    said = escape(str(route.get("description", route.get("summary", ""))))
    example = _example(route, schemas)
    shown = "" if example is None else f"<pre>{escape(json.dumps(example, indent=2))}</pre>"
    return f"<h2>{escape(method.upper())} {escape(path)}</h2><p>{said}</p>{shown}<ul>{replies}</ul>"


def _example(route: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    content = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]
    examples = schemas.get(name, {}).get("examples", [])
    return examples[0] if examples else None
