"""Two checks of what a web page of somebody else can make a browser send to this service.

DNS rebinding: the page's own name is made to point to this machine, so that the browser takes the service for the
page's own server and lets the page read its answers. The Host header then holds that name, which is not one of ours. An
IP address as the host is no danger: what a browser opened at an address stays with that address.

A form of another site: a browser sends it without asking first, and only hides the answer. It says who sent it, in
Sec-Fetch-Site where the connection is safe (https, localhost), else in Origin.
"""

import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers

__all__ = ["CrossSite", "Hosts", "Origins", "WrongHost", "checked_hosts", "checked_origins", "checked_proxies"]

SAFE = ("GET", "HEAD", "OPTIONS")  # these methods change nothing
ANY = "*"
NAME = re.compile(r"[A-Za-z0-9._-]+")
ORIGIN = re.compile(r"https?://[a-z0-9._-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?")  # as a browser writes it


class WrongHost(Exception):
    """The request was sent to a host name that is not this service's."""


class CrossSite(Exception):
    """A web page of another site sent this request."""


class Hosts:
    """The names under which this service may be asked: localhost, this machine's, and those of the operator."""

    def __init__(self, names: Iterable[str]) -> None:
        """names: host names without a port; "*" allows every name."""
        self._names = {"localhost", *(name.lower() for name in (socket.gethostname(), *names))}

    def check(self, headers: Headers) -> None:
        """Raise WrongHost unless the request has one Host, which is one of the names or an IP address."""
        hosts = headers.getlist("host")
        if ANY in self._names or (len(hosts) == 1 and self._is_ours(_name(hosts[0]))):
            return
        shown = ", ".join(hosts)[:100] or "none"
        raise WrongHost(
            f"the request's Host is {shown!r}; accepted are localhost, this machine's name, IP addresses, "
            "and the names of --hosts"
        )

    def _is_ours(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


class Origins:
    """The other origins whose pages may send requests that change something or carry an image."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """allowed: as "https://photos.example"; "*" allows every origin."""
        self._allowed = frozenset(allowed)

    def check(self, method: str, headers: Headers) -> None:
        """Raise CrossSite where a browser says that the page of another origin sent this, and not to read only."""
        origin = headers.get("origin")
        if method in SAFE or ANY in self._allowed or origin in self._allowed:
            return
        if site := headers.get("sec-fetch-site"):
            allowed = site in ("same-origin", "none")
        else:  # programs send neither header
            allowed = origin is None or origin.partition("://")[2] == headers.get("host")
        if not allowed:
            raise CrossSite("a web page of another site sent this; accepted are those of --cors-origins")


def checked_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError for what no Host header can be."""
    for name in names:
        if name != ANY and not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a host name; accepted are names without a port, as photos.example, or *")
    return names


def checked_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError for what no Origin header can be."""
    for origin in origins:
        if origin != ANY and not ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not an origin; accepted are https://photos.example, without a path, or *")
    return origins


def checked_proxies(proxies: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError for what uvicorn would never take for a client's address."""
    for proxy in proxies:
        try:
            if proxies != (ANY,):
                ip_network(proxy)
        except ValueError as error:
            raise ValueError(f"{proxy!r} is not a proxy; accepted are 10.0.0.7, 10.0.0.0/8, or * alone") from error
    return proxies


def _name(host: str) -> str:
    """Return the name without a port: "[::1]:8000" -> "::1", "Photos.example:80" -> "photos.example"."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
