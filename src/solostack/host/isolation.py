"""Control nodes invisible to Nova: libvirt's polkit access driver. Pure.

nova-compute refuses its first start where libvirt already has domains it does not know, and counts
them for ever after. With the rule, user nova sees and reaches only domains named ``instance-*``
(libvirt, "Polkit access control").
"""

from __future__ import annotations

from solostack.engine.operations import File, Line, Operation, Unit
from solostack.host.network import HOOK_PATH, hook_file

RULE_PATH = "/etc/polkit-1/rules.d/50-solostack-control-nodes.rules"
LIBVIRTD_CONF = "/etc/libvirt/libvirtd.conf"

_RULE = """// solostack: user nova may do everything in libvirt, but only to instances.
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.libvirt.") !== 0 || subject.user !== "nova") {
        return polkit.Result.NOT_HANDLED;
    }
    if (action.id.indexOf("org.libvirt.api.domain.") === 0) {
        var name = action.lookup("domain_name");
        if (name && name.indexOf("instance-") !== 0) {
            return polkit.Result.NO;
        }
    }
    return polkit.Result.YES;
});
"""


def isolation_operations() -> tuple[Operation, ...]:
    """Return the rule, the driver's line in libvirtd.conf, and libvirtd's restart."""
    return (
        File(path=RULE_PATH, content=_RULE),
        Line(
            path=LIBVIRTD_CONF,
            line='access_drivers = [ "polkit" ]',
            match=r"^#?\s*access_drivers\s*=",
        ),
        hook_file(),
        Unit(name="libvirtd.service", restart_on=(LIBVIRTD_CONF, HOOK_PATH)),
    )
