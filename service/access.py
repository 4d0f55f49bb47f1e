"""Who may ask what. A request that is refused here costs nothing more: its body has not been read.

Without a file of keys everybody may ask, nobody may change the collection or reload it, and /metrics answers this
machine and private networks. With one, all but the page's own files and the two probes needs a key with the right role.
"""

from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import problem
from service.hosts import SAFE, CrossSite, Hosts, Origins, WrongHost
from service.keys import Closed, KeyNeeded, Keys, NotAllowed, Role
from service.rates import Rate, TooManyRequests, network_of
from service.settings import Settings
from service.stages import note

__all__ = ["Access", "role_of"]

OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
OPEN_FOLDERS = ("/static/", "/docs/")
REFUSALS = (WrongHost, CrossSite, KeyNeeded, NotAllowed, Closed, TooManyRequests)


class Access:
    """ASGI middleware: checks a request's host, the page that sent it, its key, and its sender's rate."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys | None) -> None:
        self.app, self._keys = app, keys
        self._hosts, self._origins = Hosts(settings.hosts), Origins(settings.cors_origins)
        self._rate = Rate(settings.rate) if settings.rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except REFUSALS as error:
                await problem(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        self._hosts.check(headers)
        self._origins.check(method, headers)
        role = role_of(method, path)
        if role is None:
            return
        address = scope["client"][0] if scope["client"] else ""
        caller = self._named(headers, role) if self._keys else self._unnamed(address, role)
        if self._rate and role != "metrics" and not _is_thumbnail(method, path):
            self._rate.count(caller)

    def _named(self, headers: Headers, role: Role) -> str:
        """Return the name of the key. Raises KeyNeeded, NotAllowed."""
        assert self._keys is not None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise KeyNeeded("this service asks for a key; send the header `Authorization: Bearer KEY`")
        key = self._keys.find(sent.strip())
        if key is None:
            raise KeyNeeded("this key is not known here, or no longer")
        note(key=key.name)
        if not key.roles & {role, "admin"}:
            raise NotAllowed(f"the key of {key.name} has not the role {role}, which this needs")
        return f"key {key.name}"

    def _unnamed(self, address: str, role: Role) -> str:
        """Return the address. Raises Closed."""
        if role in ("write", "admin"):
            raise Closed(f"this needs a key with the role {role}; make one with scripts/make_key.py, serve with --keys")
        if role == "metrics" and not _is_near(address):
            raise Closed("without keys /metrics answers this machine and private networks; serve with --keys")
        return network_of(address)


def role_of(method: str, path: str) -> Role | None:
    """Return the role that a request needs, None where nobody needs one. What is not known here needs `read`."""
    if path in OPEN or path.startswith(OPEN_FOLDERS):
        return None
    if path.startswith("/metrics"):  # routes match a line's end behind their path, too: "/metrics%0A"
        return "metrics"
    if path == "/admin" or path.startswith("/admin/"):
        return "admin"
    if path.startswith("/images") and method not in SAFE:
        return "write"
    return "read"


def _is_thumbnail(method: str, path: str) -> bool:
    """One answer shows many: they are not counted as questions."""
    return method in SAFE and path.startswith("/images/") and path.removeprefix("/images/").isdigit()


def _is_near(address: str) -> bool:
    try:
        return ip_address(address).is_private  # loopback is, too
    except ValueError:
        return False
