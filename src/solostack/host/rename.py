"""Bring a libvirt network to its bridge, also when it runs on one of another name. Pure.

libvirt renames neither a network nor the bridge of one that runs, so the network is stopped and
started with the new name, and what was in the old bridge is put into the new one: the taps of VMs,
the veths of containers, the host's own. No node is restarted; each is off the network for as long
as libvirt needs to start a network, well below a second.
"""

from __future__ import annotations

VIRSH = "virsh -q -c qemu:///system"
FOLDER = "/var/lib/solostack"

# Of a running domain's XML the interface with a MAC, as update-device wants it: without what
# libvirt added when it was plugged in. Nothing when libvirt has it on the wanted bridge already.
_CARD = """
import sys
import xml.etree.ElementTree as ET
mac, wanted = sys.argv[1:]
for card in ET.parse(sys.stdin).getroot().iterfind("devices/interface"):
    source = card.find("source")
    if card.find("mac").get("address") == mac and source.get("bridge") != wanted:
        source.attrib.pop("bridge", None)
        source.attrib.pop("portid", None)
        print(ET.tostring(card, encoding="unicode"))
"""

_FUNCTIONS = f"""
active() {{ {VIRSH} net-list --name | grep -qx "$name"; }}
bridge_of() {{ sed -n "s/.*<bridge name='\\([^']*\\)'.*/\\1/p"; }}
# The list must be on disk before the bridge goes: killed in between, the next run still has it.
keep() {{
    mkdir -p "$kept"
    echo "$boot" >"$kept/boot"
    {VIRSH} net-dumpxml "$name" >"$kept/before.xml"
    touch "$kept/ports"
    ls "/sys/class/net/$1/brif" | sort -u - "$kept/ports" >"$kept/ports.new"
    mv "$kept/ports.new" "$kept/ports"
}}
join() {{
    for port in $(cat "$kept/ports"); do
        [ -e "/sys/class/net/$port" ] || continue
        master=$(readlink "/sys/class/net/$port/master" || echo "$1")
        [ "${{master##*/}}" = "$1" ] || continue
        ip link set "$port" master "$1" up
    done
}}
# libvirt remembers the bridge of each VM's tap and would put it back there when it restarts.
tell() {{
    told=yes
    for domain in $({VIRSH} list --name); do
        for card in $({VIRSH} domiflist "$domain" |
            awk -v name="$name" '$2 == "network" && $3 == name {{ print $1 "," $5 }}'); do
            port=${{card%%,*}}
            {VIRSH} dumpxml "$domain" | python3 -I -c "$pick" "${{card#*,}}" "$wanted" \\
                >"$kept/card.xml"
            [ -s "$kept/card.xml" ] || continue
            ip link set "$port" nomaster
            {VIRSH} update-device "$domain" "$kept/card.xml" --live >/dev/null || {{
                ip link set "$port" master "$wanted" up
                echo "libvirt keeps $port of $domain on another bridge than $wanted" >&2
                echo "restart it: virsh shutdown $domain; virsh start $domain" >&2
                told=no
            }}
        done
    done
    [ $told = yes ]
}}
# What was there stays or comes back; so does the description, from which containers learn the
# bridge when they start.
give_up() {{
    [ -e "$kept/before.xml" ] || exit 1
    {VIRSH} net-define "$kept/before.xml" >/dev/null
    active || {VIRSH} net-start "$name" >/dev/null
    join "$(bridge_of <"$kept/before.xml")"
    cat "$kept/before.xml" >"$xml"
    rm -rf "$kept"
    exit 1
}}
"""

_MAIN = f"""
boot=$(cat /proc/sys/kernel/random/boot_id)
# Names of before a reboot say nothing: every port was made anew.
[ "$(cat "$kept/boot" 2>/dev/null)" = "$boot" ] || rm -rf "$kept"
now=$wanted
! active || now=$({VIRSH} net-dumpxml "$name" | bridge_of)
if [ "$now" != "$wanted" ]; then
    keep "$now"
    if [ -e "/sys/class/net/$wanted" ]; then
        echo "there is an interface $wanted on this host already" >&2
        echo "choose another data.bridge in the site, or remove it: ip link delete $wanted" >&2
        give_up
    fi
fi
{VIRSH} net-define "$xml" >/dev/null || give_up
{VIRSH} net-autostart "$name" >/dev/null
[ "$now" = "$wanted" ] || {VIRSH} net-destroy "$name" >/dev/null
active || {VIRSH} net-start "$name" >/dev/null || active || give_up
if [ -e "$kept/ports" ]; then
    join "$wanted"
    tell
fi
rm -rf "$kept"
"""


def kept_path(name: str) -> str:
    """Return the folder that is there while a network's bridge is being renamed."""
    return f"{FOLDER}/rename-{name}"


def network_text(name: str, bridge: str, path: str) -> str:
    """Render the script (sh) that makes a libvirt network run on this bridge.

    path is the network's description. Running it again is safe at any point, also after it was
    killed half-way; where the new bridge cannot be made the old one comes back, and it fails.
    """
    return (
        f"name={name} wanted={bridge} xml={path} kept={kept_path(name)}\n"
        f"pick='{_CARD}'{_FUNCTIONS}{_MAIN}"
    )


def is_done_text(name: str, bridge: str) -> str:
    """Render the test that nothing is to do: it starts at boot, runs on this bridge, all joined."""
    return (
        f"test -e /etc/libvirt/qemu/networks/autostart/{name}.xml\n"
        f"test -e /sys/class/net/{bridge}/bridge\n"
        f"test ! -e {kept_path(name)}\n"
    )
