"""The part of the uplink script that moves a NIC's addresses and routes to a bridge and back.

Text only. The state file is written first and removed last; every later line can be run again, so
a move that was killed half-way goes on. It holds for one boot: after the next, the host's own
network configuration has set up the NIC afresh.
"""

from __future__ import annotations

BRIDGE_FUNCTIONS = r"""
# The bridge: what the NIC had is kept as lines `KIND REST`, REST as `ip KIND add` takes it.

read_state() { sed -n "s/^$1 //p" "$state"; }

has_state() { [ -e "$state" ] && [ "$(read_state boot)" = "$(</proc/sys/kernel/random/boot_id)" ]; }

master_of() {
    local master
    master=$(readlink "$net/$1/master") && echo "${master##*/}"
}

is_up() { [ $(($(<"$net/$1/flags") & 1)) = 1 ]; }

# DEVICE: its addresses but for those the kernel makes by itself (link-local, temporary).
addresses_of() {
    local words word out index
    while read -r -a words; do
        [[ " ${words[*]} " != *" inet6 "*" scope link "* ]] || continue
        [[ " ${words[*]} " != *" temporary "* ]] || continue
        [ "${words[2]}" = inet ] && out="address4 ${words[3]}" || out="address6 ${words[3]}"
        for ((index = 4; index < ${#words[@]}; index++)); do
            word=${words[index]%\\}
            case $word in
            peer | brd | scope | metric) out+=" $word ${words[++index]}" ;;
            proto) ((++index)) ;;
            valid_lft | preferred_lft)
                [ "${words[++index]}" = forever ] || out+=" $word ${words[index]%sec}" ;;
            noprefixroute | mngtmpaddr | home | nodad) out+=" $word" ;;
            "$1":*) out+=" label $word" ;;
            esac
        done
        echo "$out"
    done < <(ip -o address show dev "$1")
}

# FAMILY DEVICE: its routes in all tables but for the kernel's, which come with the addresses.
# Those without a gateway first: others may need them.
routes_of() {
    local words word out index later=''
    while read -r -a words; do
        [[ ${words[0]} != @(local|broadcast|multicast|anycast) ]] || continue
        [[ " ${words[*]} " != *" proto kernel "* ]] || continue
        out=route$1
        for ((index = 0; index < ${#words[@]}; index++)); do
            word=${words[index]}
            case $word in
            dead | linkdown | offload | offload_failed | trap | rt_offload | rt_trap) ;;
            error | nhid) ((++index)) ;;
            expires) out+=" expires ${words[++index]%sec}" ;;
            *) out+=" $word" ;;
            esac
        done
        if [[ $out == *" via "* ]]; then later+=$out$'\n'; else echo "$out"; fi
    done < <(ip -"$1" route show table all dev "$2")
    printf '%s' "$later"
}

# FAMILY DEVICE: neighbours that somebody entered by hand.
neighbors_of() {
    local words
    while read -r -a words; do
        [ "${words[1]}" != lladdr ] ||
            echo "neighbor$1 ${words[0]} lladdr ${words[2]} nud permanent"
    done < <(ip -"$1" neighbor show dev "$2" nud permanent)
}

describe() {
    local family
    addresses_of "$1"
    for family in 4 6; do
        routes_of $family "$1"
        neighbors_of $family "$1"
    done
}

# LINE: sets `settled` to what it says without what changes by itself or is otherwise elsewhere.
settle() {
    settled=${1%% label *}
    settled=${settled%% valid_lft *}
    settled=${settled%% preferred_lft *}
    if [[ $settled =~ ^(.*)" expires "[0-9]+(.*)$ ]]; then
        settled=${BASH_REMATCH[1]}${BASH_REMATCH[2]}
    fi
}

settle_all() {
    local line
    while read -r line; do settle "$line" && echo "$settled"; done
}

write_state() {
    {
        echo "boot $(</proc/sys/kernel/random/boot_id)"
        echo "nic $nic"
        echo "mac $(<"$net/$nic/address")"
        # Of the device described: on a NIC that is a port it is off.
        echo "disable_ipv6 $(<"/proc/sys/net/ipv6/conf/$1/disable_ipv6")"
        describe "$1"
    } | keep "$state"
}

# LINE of a route: sets `key` to that of which the kernel has but one per route (rtnetlink(7)).
set_key() {
    local words index
    read -r -a words <<<"$1"
    key="${words[0]} ${words[1]}"
    for ((index = 2; index < ${#words[@]}; index++)); do
        [[ ${words[index]} != @(tos|table|metric) ]] ||
            key+=" ${words[index]} ${words[++index]}"
    done
}

# DEVICE: adds what it has got since; of two routes that cannot both be, the newer one stays.
merge_state() {
    local known line settled key keys='' more=''
    known=$(settle_all <"$state")
    while read -r line; do
        settle "$line"
        [[ " $line " == *" proto ra "* ]] || has "$known" "$settled" || more+=$line$'\n'
    done < <(describe "$1")
    [ -n "$more" ] || return 0
    while read -r line; do
        [[ $line != route4" "* ]] || { set_key "$line" && keys+=$key$'\n'; }
    done <<<"$more"
    {
        while read -r line; do
            set_key "$line"
            [[ $line = route4" "* ]] && has "$keys" "$key" || echo "$line"
        done <"$state"
        printf '%s' "$more"
    } | keep "$state"
}

# Lines of the state that a device lacks; what the kernel keeps by itself (RFC 4862) is left out.
missing_on() {
    local present line settled
    present=$(describe "$1" | settle_all)
    while read -r line; do
        settle "$line"
        [[ $line != @(address|route|neighbor)[46]" "* ]] ||
            [[ " $line " == *" "@(proto ra|expires|valid_lft)" "* ]] ||
            has "$present" "$settled" || echo "$line"
    done <"$state"
}

# FAMILY DEVICE: the state as commands for `ip -batch`.
commands() {
    local kind rest what
    for what in address route neighbor; do
        while read -r kind rest; do
            [ "$kind" = "$what$1" ] || continue
            [ "$2" != "$bridge" ] || rest=${rest% label *}
            # A router's own announcement will come; the copy must not be in its way.
            if [[ " $rest " == *" proto ra "* && $rest =~ ^(.* metric )([0-9]+)(.*)$ ]]; then
                rest="${BASH_REMATCH[1]}$((BASH_REMATCH[2] + 1))${BASH_REMATCH[3]}"
            fi
            echo "$what replace $rest dev $2"
        done <"$state"
    done
}

# Exit status 78: no use in trying again (systemd.exec(5), EX_CONFIG).
refuse() {
    echo "refused: $*" >&2
    exit 78
}

refuse_bad_start() {
    local master lines
    [ -e "$net/$nic" ] || { fail "there is no $nic"; return 1; }
    master=$(master_of "$nic")
    [ -z "$master" ] || refuse "$nic is already a port of $master"
    lines=$(ip -o address show dev "$nic")
    [[ $lines == *" inet "* ]] || { fail "$nic has no IPv4 address yet"; return 1; }
    # What routers announce (RFC 4862) has a lifetime too, but a /64 as a rule and no client.
    ! grep -Eq ' inet(6 [^ ]*/128)? .* dynamic ' <<<"$lines" ||
        refuse "the address of $nic is leased by DHCP, and its client would go on asking on $nic;" \
            "make the address static, or use method proxy or routed"
    [ -z "$(ip nexthop show dev "$nic" 2>/dev/null)" ] ||
        refuse "$nic has nexthop objects (ip nexthop), which cannot be moved"
    ! { ip -4 route show table all; ip -6 route show table all; } |
        grep -q "nexthop .*dev $nic " ||
        refuse "a route has several ways, one of them by $nic (nexthop); it cannot be moved"
    ! { ip -4 rule show; ip -6 rule show; } | grep -q "[io]if $nic " ||
        refuse "policy rules (ip rule) name $nic; they would no longer match"
}

# After a boot the host's own tools may be half-way: an address, but no default route yet, which
# they could not set any more once the address has moved. What the NIC had in the boot before is
# waited for, though not for ever: it may be configured otherwise by now.
is_set_up() {
    local lacks uptime
    [ -e "$state" ] && [ "$(read_state nic)" = "$nic" ] || return 0
    lacks=$(missing_on "$nic")
    read -r uptime _ </proc/uptime
    [ -n "$lacks" ] && [ "${uptime%.*}" -lt 180 ] || return 0
    fail "$nic still lacks what it had before the reboot: $lacks"
    return 1
}

copy_settings() {
    local path
    for path in ipv4/{rp_filter,accept_redirects,secure_redirects,accept_source_route} \
        ipv4/log_martians ipv6/{accept_ra,accept_ra_defrtr,accept_ra_pinfo,autoconf} \
        ipv6/{use_tempaddr,addr_gen_mode,accept_redirects}; do
        path=/proc/sys/net/${path%/*}/conf/@/${path#*/}
        [ ! -e "${path/@/$nic}" ] || cat "${path/@/$nic}" >"${path/@/$bridge}"
    done
    read_state disable_ipv6 >"/proc/sys/net/ipv6/conf/$bridge/disable_ipv6"
    # The addresses are the host's already: no second of doubt about each.
    echo 0 >"/proc/sys/net/ipv6/conf/$bridge/accept_dad"
}

make_bridge() {
    local mac
    mac=$(read_state mac)
    # With an address given, a bridge keeps it whatever ports come and go.
    [ -e "$net/$bridge" ] ||
        change "bridge $bridge made" ip link add "$bridge" address "$mac" \
            mtu "$(<"$net/$nic/mtu")" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
    [ "$(<"$net/$bridge/address")" = "$mac" ] ||
        change "bridge $bridge has the MAC address of $nic" ip link set "$bridge" address "$mac"
    copy_settings
    ip link set "$bridge" up
}

bridge_is_right() {
    [ -e "$net/$bridge" ] && [ -e "$net/$nic" ] && [ "$(master_of "$nic")" = "$bridge" ] &&
        is_up "$bridge" && [ -z "$(ip -4 -o address show dev "$nic")" ] &&
        [ -z "$(routes_of 4 "$nic")" ] &&
        [ "$(<"/proc/sys/net/ipv6/conf/$nic/disable_ipv6")" = 1 ] &&
        [ -z "$(missing_on "$bridge")" ]
}

move_to_bridge() {
    if has_state && [ "$(read_state nic)" != "$nic" ]; then move_to_nic; fi
    if ! has_state; then
        if [ "$(master_of "$nic")" = "$bridge" ]; then
            write_state "$bridge"
        else
            refuse_bad_start && is_set_up || return
            write_state "$nic"
        fi
    fi
    [ -e "$net/$nic" ] || { fail "there is no $nic"; return; }
    bridge_is_right && return
    # The host's own tools may have set the NIC up again.
    merge_state "$nic"
    make_bridge
    change "$nic joined $bridge, with addresses and routes" ip -4 -force -batch - < <(
        echo "link set $nic up master $bridge"
        commands 4 "$bridge"
        echo "address flush dev $nic"
        echo "route flush table all dev $nic"
        # With the last address the kernel takes away routes, so the ones that went with it anew.
        commands 4 "$bridge"
    )
    change "$nic: IPv6 too" ip -6 -force -batch - < <(commands 6 "$bridge")
    write_value "ipv6/conf/$nic/disable_ipv6" 1
    bridge_is_right || fail "$bridge lacks: $(missing_on "$bridge")"
}

move_to_nic() {
    local home
    [ -e "$net/$bridge" ] || { rm -f "$state"; return; }
    has_state || write_state "$bridge"
    home=$(read_state nic)
    [ -e "$net/$home" ] || { fail "there is no $home to give the addresses back to"; return; }
    merge_state "$bridge"
    [ ! -e "$net/$link" ] || ip link delete "$link"
    write_value "ipv6/conf/$home/disable_ipv6" "$(read_state disable_ipv6)"
    change "$home left $bridge, with addresses and routes" ip -4 -force -batch - < <(
        echo "link set $home up"
        commands 4 "$home"
        echo "link set $home nomaster"
    )
    change "$home: IPv6 too" ip -6 -force -batch - < <(commands 6 "$home")
    if [ -n "$(missing_on "$home")" ]; then
        fail "$home lacks: $(missing_on "$home")"
    else
        change "bridge $bridge removed" ip link delete "$bridge" && rm -f "$state"
    fi
}

# The veth pair that joins the provider's wire with the external bridge. It stays down while the
# table is away that keeps internal addresses from the wire.
ensure_link() {
    local end
    [ -e "$net/$bridge" ] && [ -e "$net/$external" ] || return 0
    [ -e "$net/$link" ] ||
        change "$link made" ip link add "$link" mtu "$(<"$net/$bridge/mtu")" \
            type veth peer name "$peer" mtu "$(<"$net/$bridge/mtu")"
    [ -e "$net/$link" ] || return 0
    for end in "$link $bridge" "$peer $external"; do
        [ "$(master_of "${end% *}")" = "${end#* }" ] ||
            change "${end% *} joined ${end#* }" ip link set "${end% *}" master "${end#* }"
        end=${end% *}
        [ "$(<"/proc/sys/net/ipv6/conf/$end/disable_ipv6")" = 1 ] ||
            write_value "ipv6/conf/$end/disable_ipv6" 1
    done
    if has "$(nft list tables 2>/dev/null)" "table bridge solostack"; then
        is_up "$link" && is_up "$peer" ||
            change "$link is up" ip -batch - <<<"link set $peer up"$'\n'"link set $link up"
    elif is_up "$link"; then
        change "$link is down: the table bridge solostack is away" ip link set "$link" down
    fi
}
"""
