#!/bin/bash
# solostack: how the outside reaches this host. Safe to run at any time; says what it
# changes. Before `down`, stop solostack-watch.service: it would put things right again.
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
nic=enp1s0 uplink=enp1s0 external=br-external
bridge=br-uplink link=solo-uplink peer=solo-uplink-ext
state=/var/lib/solostack/uplink.state
protocol=157 metric=4000
firewall=/usr/local/lib/solostack/firewall
firewall_enabled=/etc/systemd/system/multi-user.target.wants/solostack-firewall.service
networks=(
    203.0.113.18/31 203.0.113.20/31 203.0.113.22
)
proxied=(
    203.0.113.18 203.0.113.19 203.0.113.20 203.0.113.21 203.0.113.22
)
sysctls='ipv4/conf/all/send_redirects 0
ipv4/conf/enp1s0/send_redirects 0
ipv4/conf/enp1s0/arp_ignore 1
ipv4/conf/enp1s0/arp_announce 2
ipv4/conf/enp1s0/proxy_arp 0
ipv4/conf/br-external/send_redirects 0
ipv4/conf/br-external/arp_ignore 1
ipv4/conf/br-external/arp_announce 2
ipv4/conf/br-external/proxy_arp 0
ipv4/neigh/enp1s0/proxy_delay 0'

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
