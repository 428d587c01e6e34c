"""The server's settings: TLS only, nobody anonymous, small, and a policy for passwords."""

from __future__ import annotations

from .server import Server

CONFIG = "cn=config"
PLUGINS = "cn=plugins,cn=config"
DATABASE = f"cn=userroot,cn=ldbm database,{PLUGINS}"
PASSWORD_LENGTH = 10

# Read by the server only when it starts. Port 0: there is no plain LDAP at all, only LDAPS and the
# local socket. Four threads do for one Keystone; each keeps memory of its own.
AT_START = (
    (CONFIG, {
        "nsslapd-port": "0",
        "nsslapd-securePort": "636",
        "nsslapd-security": "on",
        "nsslapd-threadnumber": "4",
    }),
    ("cn=encryption,cn=config", {"sslVersionMin": "TLS1.2", "nsSSLClientAuth": "off"}),
    (DATABASE, {"nsslapd-cachememsize": "8388608", "nsslapd-dncachememsize": "4194304"}),
    (f"cn=bdb,cn=config,cn=ldbm database,{PLUGINS}", {"nsslapd-cache-autosize": "0"}),
    (f"cn=MemberOf Plugin,{PLUGINS}", {
        "nsslapd-pluginEnabled": "on",
        "memberofgroupattr": "member",
        "memberofattr": "memberOf",
        "memberofautoaddoc": "nsMemberOf",
    }),
    (f"cn=referential integrity postoperation,{PLUGINS}", {
        "nsslapd-pluginEnabled": "on",
        "referint-update-delay": "0",
    }),
    (f"cn=attribute uniqueness,{PLUGINS}", {"nsslapd-pluginEnabled": "on"}),
)  # fmt: skip
# Logs by count and MiB; the security log keeps refused logins.
AT_ONCE = {
    "nsslapd-require-secure-binds": "on",
    "nsslapd-allow-anonymous-access": "off",
    "nsslapd-idletimeout": "1800",
    "nsslapd-pwpolicy-local": "on",
    "passwordCheckSyntax": "on",
    "passwordMinLength": str(PASSWORD_LENGTH),
    "passwordMinTokenLength": "4",
    "passwordHistory": "off",
    "passwordLockout": "on",
    "passwordMaxFailure": "10",
    "passwordResetFailureCount": "300",
    "passwordLockoutDuration": "300",
    "nsslapd-accesslog-maxlogsize": "5",
    "nsslapd-accesslog-maxlogsperdir": "3",
    "nsslapd-errorlog-maxlogsize": "5",
    "nsslapd-errorlog-maxlogsperdir": "2",
    "nsslapd-securitylog-maxlogsize": "5",
    "nsslapd-securitylog-maxlogsperdir": "3",
}


def ensure_settings(server: Server) -> bool:
    """Bring every setting about; return whether the server must be restarted for it."""
    restart = [
        server.ensure_values(dn, {name: [value] for name, value in values.items()})
        for dn, values in AT_START
    ]
    server.ensure_values(CONFIG, {name: [value] for name, value in AT_ONCE.items()})
    return any(restart)
