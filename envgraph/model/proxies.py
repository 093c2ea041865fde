"""Which proxy the user's setup wants for an address (urllib3 reads no variables)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` (lower case wins), minus ``NO_PROXY``."""
    parts = urlsplit(url)
    found = _variable(environ, f"{parts.scheme}_proxy") or _variable(environ, "all_proxy")
    if not found or bypassed(parts.hostname or "", parts.port, _variable(environ, "no_proxy")):
        return None
    return found if "://" in found else "http://" + found


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def bypassed(host: str, port: int | None, rules: str) -> bool:
    """Whether ``NO_PROXY`` names ``host``: ``*``, a domain, an address or a network."""
    host = host.lower()
    for rule in (part.strip().lower() for part in rules.split(",")):
        name, _, wanted_port = rule.rpartition(":") if rule.count(":") == 1 else (rule, "", "")
        if not rule or (wanted_port and wanted_port != str(port)):
            continue
        name = name.lstrip("*").lstrip(".")
        if rule == "*" or (name and (host == name or host.endswith("." + name))):
            return True
        if "/" in rule and _in_network(host, rule):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
