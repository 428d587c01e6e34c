"""The script that keeps a host's uplink as it must be. Pure text.

One text for every method; only the settings at its top differ. It changes nothing that is right
already, so ``ensure`` may run every few seconds, and may be killed anywhere: run again, it ends
right. What it replaces is written down before, for ``down``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from solostack.host.uplink import (
    BACKUP_METRIC,
    EXTERNAL_LINK,
    ROUTE_PROTOCOL,
    STATE_PATH,
    UPLINK_BRIDGE,
    UPLINK_LINK,
    Uplink,
)
from solostack.host.uplink_bridge import BRIDGE_FUNCTIONS

_COMMON = r"""
before=/var/lib/solostack/before/uplink-sysctls
net=/sys/class/net
failed=0

fail() {
    echo "failed: $*" >&2
    failed=1
}

# WHAT COMMAND...: does it and says so.
change() {
    local error
    if error=$("${@:2}" 2>&1); then echo "$1"; else fail "$1: $error"; fi
}

# LINES LINE
has() { [[ $'\n'$1$'\n' == *$'\n'"$2"$'\n'* ]]; }

# PATH: puts standard input there, whole or not at all.
keep() { mkdir -p "${1%/*}" && cat >"$1.new" && sync "$1.new" && mv "$1.new" "$1"; }
"""

_ROUTES = r"""
# Routes of ours as `NETWORK DEVICE` or `NETWORK blackhole`.
our_routes() {
    local words
    while read -r -a words; do
        if [ "${words[0]}" = blackhole ]; then
            echo "${words[1]} blackhole"
        else
            echo "${words[0]} ${words[2]}"
        fi
    done < <(ip -4 route show table main proto "$protocol")
}

remove_route() {
    if [ "$2" = blackhole ]; then
        change "route removed: blackhole $1" ip -4 route delete blackhole "$1" metric "$metric"
    else
        change "route removed: $1 dev $2" ip -4 route delete "$1" dev "$2" proto "$protocol"
    fi
}

# Only routes that are not there are made. The backups see to it that, while the bridge is away,
# the block does not bounce back to the provider.
ensure_routes() {
    local have wanted='' network device
    have=$(our_routes)
    for network in "${networks[@]}"; do
        wanted+="$network $external"$'\n'"$network blackhole"$'\n'
        has "$have" "$network blackhole" ||
            change "route: blackhole $network" \
                ip -4 route replace blackhole "$network" metric "$metric" proto "$protocol"
        has "$have" "$network $external" || [ ! -e "$net/$external" ] ||
            change "route: $network dev $external" \
                ip -4 route replace "$network" dev "$external" proto "$protocol"
    done
    while read -r network device; do
        [ -z "$network" ] || has "$wanted" "$network $device" || remove_route "$network" "$device"
    done <<<"$have"
}

# Earlier versions left routes without our mark: those on our bridge, and backups.
remove_unmarked_routes() {
    local network rest
    while read -r _ network rest; do
        [[ " $rest " == *" metric $metric "* ]] || continue
        change "old route removed: blackhole $network" \
            ip -4 route delete blackhole "$network" metric "$metric" proto boot
    done < <(ip -4 route show table main type blackhole proto boot)
    [ -n "$external" ] && [ -e "$net/$external" ] || return 0
    while read -r network rest; do
        change "old route removed: $network dev $external" \
            ip -4 route delete "$network" dev "$external" proto boot
    done < <(ip -4 route show table main dev "$external" proto boot)
}

remove_routes() {
    local network device
    while read -r network device; do remove_route "$network" "$device"; done < <(our_routes)
}
"""

_PROXIES = r"""
# Neighbour proxies of ours as `ADDRESS DEVICE`.
our_proxies() {
    local address device
    while read -r address _ device _; do
        echo "$address $device"
    done < <(ip -4 neighbor show proxy proto "$protocol")
}

# A proxy that somebody else made is as good, and stays theirs.
ensure_proxies() {
    local all='' wanted='' address device
    if [ ${#proxied[@]} != 0 ]; then
        while read -r address _ device _; do
            all+="$address $device"$'\n'
        done < <(ip -4 neighbor show proxy)
    fi
    for address in "${proxied[@]}"; do
        wanted+="$address $uplink"$'\n'
        has "$all" "$address $uplink" || [ ! -e "$net/$uplink" ] ||
            change "proxy: $address dev $uplink" \
                ip -4 neighbor replace proxy "$address" dev "$uplink" protocol "$protocol"
    done
    while read -r address device; do
        has "$wanted" "$address $device" || remove_proxy "$address" "$device"
    done < <(our_proxies)
}

remove_proxy() {
    change "proxy removed: $1 dev $2" ip -4 neighbor delete proxy "$1" dev "$2"
}

remove_proxies() {
    local address device
    while read -r address device; do remove_proxy "$address" "$device"; done < <(our_proxies)
}
"""

_SYSCTLS = r"""
write_value() { echo "$2" >"/proc/sys/net/$1"; }

# The first value seen is the one to give back; it is on disk before the change. What is of a
# device of ours goes with that.
remember_value() {
    local known=''
    [[ $1 != */"$bridge"/* ]] || return 0
    [ ! -e "$before" ] || known=$(<"$before")
    [[ $'\n'$known != *$'\n'"$1 "* ]] || return 0
    printf '%s\n' ${known:+"$known"} "$1 $2" | keep "$before"
}

ensure_sysctls() {
    local path value now
    while read -r path value; do
        [ -e "/proc/sys/net/$path" ] || continue
        read -r now <"/proc/sys/net/$path"
        [ "$now" != "$value" ] || continue
        remember_value "$path" "$now" || { fail "cannot write $before"; continue; }
        change "sysctl: $path $now -> $value" write_value "$path" "$value"
    done <<<"$sysctls"
}

# WANTED: gives back the values of all settings but these.
restore_sysctls() {
    local path value kept=''
    [ -e "$before" ] || return 0
    while read -r path value; do
        if [[ $'\n'$1 == *$'\n'"$path "* ]]; then
            kept+="$path $value"$'\n'
        elif [ -e "/proc/sys/net/$path" ]; then
            change "sysctl back: $path $value" write_value "$path" "$value"
        else
            echo "sysctl $path is gone with its device; it was $value"
        fi
    done <"$before"
    if [ -n "$kept" ]; then printf '%s' "$kept" | keep "$before"; else rm -f "$before"; fi
}
"""

_TABLES = r"""
has_our_tables() {
    has "$1" "table inet solostack" && has "$1" "table arp solostack" &&
        { [ "$uplink" != "$bridge" ] || has "$1" "table bridge solostack"; }
}

ensure_tables() {
    local tables address
    tables=$(nft list tables 2>/dev/null) || return 0
    if [ -L "$firewall_enabled" ] && ! has_our_tables "$tables"; then
        change "the firewall's tables were gone: loaded again" "$firewall" load
        tables=$(nft list tables 2>/dev/null)
    fi
    # The host must be able to answer for whatever address it has, now or later.
    has "$tables" "table arp solostack" || return 0
    while read -r _ _ _ address _; do
        address=${address%/*}
        nft get element arp solostack owned "{ $address }" >/dev/null 2>&1 ||
            change "ARP: may answer for $address" \
                nft add element arp solostack owned "{ $address }"
    done < <(ip -4 -o address show dev "$uplink" 2>/dev/null)
}
"""

_MAIN = r"""
lock() {
    mkdir -p /run/solostack && exec 9>/run/solostack/uplink.lock && flock -w 60 9 || {
        echo "another run of this script does not end" >&2
        exit 1
    }
}

# COMMAND: with the host half-way between NIC and bridge, a Ctrl-C or a lost terminal must wait.
# What is started in it ignores them, too.
whole() {
    trap '' HUP INT PIPE TERM
    "$@"
    trap - HUP INT PIPE TERM
}

up() {
    if [ "$uplink" = "$bridge" ]; then whole move_to_bridge; else whole move_to_nic; fi
    [ -e "$net/$uplink" ] || fail "there is no $uplink"
    restore_sysctls $'\n'"$sysctls"
    ensure
    remove_unmarked_routes
}

# Never makes the NIC join a bridge: only `up` does, under the guard's eyes or at boot.
ensure() {
    if [ "$uplink" = "$bridge" ] && has_state; then whole move_to_bridge; fi
    [ "$(</proc/sys/net/ipv4/ip_forward)" = 1 ] ||
        change "forwarding is on again" write_value ipv4/ip_forward 1
    ensure_sysctls
    ensure_routes
    ensure_proxies
    ensure_tables
    [ "$uplink" != "$bridge" ] || ensure_link
}

down() {
    remove_proxies
    remove_routes
    whole move_to_nic
    restore_sysctls ''
}

# Events of links, addresses and tables that go, several as one, and every 30 s without any.
watch() {
    local line events next status
    while :; do
        exec {events}< <(
            nft monitor destroy tables 2>/dev/null &
            exec ip -o monitor link address
        )
        status=0 next=0
        while [ "$status" = 0 ] || [ "$status" -gt 128 ]; do
            if [ "$SECONDS" -ge "$next" ]; then
                "$0" ensure
                next=$((SECONDS + 30))
            fi
            read -r -t $((next - SECONDS > 0 ? next - SECONDS : 1)) -u "$events" line
            status=$?
            if [ "$status" = 0 ] && is_of_ours "$line"; then
                next=$((SECONDS + 2))
                while [ "$SECONDS" -lt "$next" ] && read -r -t 0.3 -u "$events" line; do :; done
                next=$SECONDS
            fi
        done
        exec {events}<&-
        sleep 1
    done
}

# LINE: whether an event is about a device that is kept right here.
is_of_ours() {
    local device
    [[ "$1 " != "delete table "*" solostack "* ]] || return 0
    for device in "$nic" "$uplink" ${external:+"$external"} "$link" "$peer"; do
        [[ "$1 " != *": $device"[@:\ ]* ]] || return 0
    done
    return 1
}

case ${1-} in
up | down | ensure)
    lock
    "$1"
    exit "$failed"
    ;;
watch) watch ;;
*)
    echo "usage: $0 up|down|ensure|watch" >&2
    exit 2
    ;;
esac
"""


def script_text(uplink: Uplink, *, firewall: str, enabled: str) -> str:
    """Render the script.

    firewall is the path of the script that loads the firewall's tables, enabled the link that is
    there while its unit is enabled.
    """
    head = (
        "#!/bin/bash\n"
        "# solostack: how the outside reaches this host. Safe to run at any time; says what it\n"
        "# changes. Before `down`, stop solostack-watch.service: it would put things right again.\n"
        "set -u\n"
        "export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
        f"nic={uplink.nic} uplink={uplink.device} external={uplink.external}\n"
        f"bridge={UPLINK_BRIDGE} link={UPLINK_LINK} peer={EXTERNAL_LINK}\n"
        f"state={STATE_PATH}\n"
        f"protocol={ROUTE_PROTOCOL} metric={BACKUP_METRIC}\n"
        f"firewall={firewall}\n"
        f"firewall_enabled={enabled}\n"
        f"{_array('networks', uplink.networks)}"
        f"{_array('proxied', uplink.proxied)}"
    )
    lines = "\n".join(f"{path} {value}" for path, value in uplink.sysctls)
    return (
        head
        + f"sysctls='{lines}'\n"
        + _COMMON
        + _ROUTES
        + _PROXIES
        + _SYSCTLS
        + _TABLES
        + BRIDGE_FUNCTIONS
        + _MAIN
    )


def _array(name: str, words: Iterable[str]) -> str:
    text = textwrap.fill(" ".join(words), 96, initial_indent="    ", subsequent_indent="    ")
    return f"{name}=(\n{text}\n)\n" if text else f"{name}=()\n"
