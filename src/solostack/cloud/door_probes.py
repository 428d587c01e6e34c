"""The front door as those outside see it: TLS, the way from HTTP, a login, and every API.

One program on a machine outside asks everything; it gets what it needs, the password among it, by
its standard input, and trusts nothing but the authority that clients are given. The site's own
certificates must be as RFC 5280 says to the letter; an operator's as clients commonly want them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from solostack.cloud.credentials import Access
from solostack.cloud.probes import Check, CheckResult, Vantage, skipped
from solostack.doors.clock import Deadline
from solostack.plan.model import FrontDoorPlan

SETTLE_S = 30.0
"""HAProxy looks after its servers every few seconds; one that just started may not be seen yet."""
PROBE_TIMEOUT_S = 180.0
WARN_DAYS = 30

_RENEW = "solostack certificates list; solostack up renews what is the site's own"
_OWN = (
    "get a new certificate for the files of front_door.certificate in the site, then: solostack up"
)
_REFUSED = (
    "solostack certificates list; solostack up puts one that was made anew in place. Clients "
    "need the file of solostack certificates export as it is now"
)
_OWN_REFUSED = (
    "front_door.certificate in the site must name the certificate of the URL's name, then its "
    "whole chain: openssl verify -CAfile ROOT -untrusted FILE FILE; with better files there: "
    "solostack up"
)
_DOOR = "on the controller: systemctl status haproxy; journalctl -u haproxy -e"
CERTIFICATE = Check(name="front door: TLS and certificate", hint=_DOOR)
REDIRECT = Check(
    name="front door: HTTP leads to HTTPS",
    hint="on the host: solostack firewall must show the front door's HTTP port; " + _DOOR,
)
LOGIN = Check(name="front door: login", hint="on the controller: journalctl -u keystone -e")
APIS = Check(name="front door: every API", hint="on the controller: systemctl --failed; " + _DOOR)
ENTRY = (CERTIFICATE, REDIRECT)
BEHIND = (LOGIN, APIS)

# Prints one JSON object per check, in order: name, ok, detail, seconds, days (certificate only),
# refused (whether the certificate was).
_PROBE = r"""
import http.client, json, socket, ssl, time, urllib.parse, warnings
url, address = REQUEST["url"], REQUEST["address"]
parts = urllib.parse.urlsplit(url)
port = parts.port or 443
class Door(http.client.HTTPSConnection):
    # By the address, whatever DNS says here; the name is for the certificate and the request.
    def connect(self):
        raw = socket.create_connection((address, self.port), self.timeout)
        self.sock = self._context.wrap_socket(raw, server_hostname=self.host)
def trusting():
    made = ssl.create_default_context(cadata=REQUEST["ca"] or None)
    # Set or not by default, depending on Python's version.
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    if not REQUEST["strict"]:
        made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return made
def fetch(where, method="GET", body=None, headers={}):
    there = urllib.parse.urlsplit(where)
    link = Door(there.hostname, there.port or 443, timeout=60, context=trusting())
    target = (there.path or "/") + ("?" + there.query if there.query else "")
    link.request(method, target, body, {"Accept": "application/json", **headers})
    answer = link.getresponse()
    text = answer.read().decode("utf-8", "replace")
    link.close()
    return answer, text
def certificate():
    with socket.create_connection((address, port), 20) as raw:
        with trusting().wrap_socket(raw, server_hostname=parts.hostname) as talk:
            end = ssl.cert_time_to_seconds(talk.getpeercert()["notAfter"])
            spoken = talk.version()
    days = int((end - time.time()) // 86400)
    warnings.simplefilter("ignore")
    old = trusting()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        with socket.create_connection((address, port), 20) as raw:
            old.wrap_socket(raw, server_hostname=parts.hostname).close()
        return False, "TLS 1.1 is still spoken", days
    except OSError:
        pass
    return days >= REQUEST["warn_days"], f"{spoken}, certificate valid for {days} days", days
def redirect():
    link = http.client.HTTPConnection(address, REQUEST["http_port"], timeout=20)
    link.request("GET", "/identity/v3?x=1")
    answer = link.getresponse()
    where = answer.getheader("Location", "nowhere")
    good = answer.status in (301, 308) and where == url + "/identity/v3?x=1"
    return good, f"{answer.status} to {where}"
token, catalogue = "", []
def login():
    global token, catalogue
    user = {"name": REQUEST["user"], "password": REQUEST["password"], "domain": {"id": "default"}}
    project = {"name": REQUEST["user"], "domain": {"id": "default"}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}},
                     "scope": {"project": project}}}
    answer, text = fetch(url + "/identity/v3/auth/tokens", "POST", json.dumps(body),
                         {"Content-Type": "application/json"})
    if answer.status != 201:
        return False, f"{answer.status} {' '.join(text.split())[:200]}"
    token, catalogue = answer.getheader("X-Subject-Token"), json.loads(text)["token"]["catalog"]
    return True, f"token of {REQUEST['user']}, {len(catalogue)} services in the catalogue"
def links(value):
    if isinstance(value, dict):
        if isinstance(value.get("href"), str):
            yield value["href"]
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from links(one)
def judge(service, endpoint):
    if service == "s3" and endpoint.rstrip("/") == url:
        return ""
    root = url + "/" + urllib.parse.urlsplit(endpoint).path.strip("/").partition("/")[0]
    if not endpoint.startswith(url + "/"):
        return f"{service}: {endpoint} is not behind the door"
    for where in (endpoint, root + ("/info" if service == "object-store" else "/")):
        answer, text = fetch(where, headers={"X-Auth-Token": token})
        if answer.status >= 500 or answer.status in (401, 403, 404):
            return f"{service}: {where} answers {answer.status} {' '.join(text.split())[:100]}"
        try:
            found = list(links(json.loads(text)))
        except ValueError:
            found = []
        strays = [one for one in found if one.startswith("http") and not one.startswith(root)
                  and "openstack.org" not in one]
        if strays:
            return f"{service}: {where} names {strays[0]}"
    return ""
def apis():
    seen, bad = [], []
    for service in catalogue:
        for endpoint in service["endpoints"]:
            if endpoint["interface"] == "public":
                seen.append(service["type"])
                problem = judge(service["type"], endpoint["url"])
                bad += [problem] if problem else []
    return not bad and bool(seen), "; ".join(bad) or ", ".join(sorted(seen))
for name in REQUEST["checks"]:
    check = {"certificate": certificate, "redirect": redirect, "login": login, "apis": apis}[name]
    start, days, refused = time.monotonic(), None, False
    try:
        ok, detail, *more = check()
        days = more[0] if more else None
    except ssl.SSLCertVerificationError as error:
        ok, detail, refused = False, f"the certificate is refused: {error.verify_message}", True
        days = -1 if error.verify_code == 10 else None
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        ok, detail = False, str(error) or type(error).__name__
    print(json.dumps({"name": name, "ok": ok, "detail": detail, "days": days,
                      "refused": refused, "seconds": round(time.monotonic() - start, 3)}))
    if not ok and name in ("certificate", "login"):
        break
"""


_KINDS = {CERTIFICATE: "certificate", REDIRECT: "redirect", LOGIN: "login", APIS: "apis"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DoorToProbe:
    """A front door, and what a client of it is given. authority is PEM, "" the system's own."""

    door: FrontDoorPlan
    authority: str
    access: Access

    @property
    def request(self) -> dict[str, object]:
        """What the program needs to know."""
        return {
            "url": self.door.url,
            "address": str(self.door.address),
            "http_port": self.door.http_port,
            "ca": self.authority,
            "user": "admin",
            "password": self.access.admin_password,
            "warn_days": WARN_DAYS,
            "strict": not self.door.own_certificate,
        }


def probe_certificate(vantage: Vantage, probed: DoorToProbe) -> CheckResult:
    """Make the first check alone, once: it takes part of a second."""
    (found,) = _ask(vantage, probed, (CERTIFICATE,))
    return _result(CERTIFICATE, found, own=probed.door.own_certificate)


def probe_entry(vantage: Vantage, probed: DoorToProbe) -> tuple[CheckResult, ...]:
    """Look at the door itself, from a machine outside. Raises what the executor raises."""
    return _probe(vantage, probed, ENTRY)


def probe_apis(vantage: Vantage, probed: DoorToProbe) -> tuple[CheckResult, ...]:
    """Log in through the door and ask every API. Raises what the executor raises."""
    return _probe(vantage, probed, BEHIND)


def _probe(
    vantage: Vantage, probed: DoorToProbe, checks: tuple[Check, ...]
) -> tuple[CheckResult, ...]:
    """Make checks, again for a while: servers that just started are found only then."""
    deadline = Deadline.after(vantage.clock, SETTLE_S)
    while True:
        found = _ask(vantage, probed, checks)
        final = any(not one["ok"] and one["days"] is not None for one in found)
        if final or deadline.passed() or all(one["ok"] for one in found):
            break
        vantage.clock.sleep(2.0)
    made = {one["name"]: one for one in found}
    return tuple(
        _result(check, made[_KINDS[check]], own=probed.door.own_certificate)
        if _KINDS[check] in made
        else skipped(check.name)
        for check in checks
    )


def _ask(
    vantage: Vantage, probed: DoorToProbe, checks: Sequence[Check]
) -> Sequence[Mapping[str, Any]]:
    request = {**probed.request, "checks": [_KINDS[check] for check in checks]}
    text = f"import json\nREQUEST = json.loads({json.dumps(request)!r})\n{_PROBE}"
    done = vantage.executor.run(
        ("python3", "-I", "-"), stdin=text.encode(), timeout_s=PROBE_TIMEOUT_S
    )
    return [json.loads(line) for line in done.text.splitlines()]


def _result(check: Check, finding: Mapping[str, Any], *, own: bool) -> CheckResult:
    hint = check.hint
    if finding["days"] is not None:
        hint = _OWN if own else _RENEW
    elif finding["refused"]:
        hint = _OWN_REFUSED if own else _REFUSED
    return CheckResult(
        name=check.name,
        ok=finding["ok"],
        seconds=finding["seconds"],
        detail=finding["detail"],
        hint="" if finding["ok"] else hint,
    )
