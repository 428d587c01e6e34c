# Runs a seed: a copy of a role's tree as a container at its final address, in a namespace of its own.
# Runs with sh on the host. Usage: VERB NODE DIRECTORY ..., see each verb.
set -eu
verb=$1 node=$2 directory=$3
# A killed solostack may have left this very script running on the host: wait for that one.
mkdir -p "$directory"
exec 9>"$directory/.lock"
flock -w 900 9
root=$directory/root unit=solostack-seed-$node space=solostack-seed-$node

# prepare NODE DIRECTORY TREE: the copy, whole or not there at all.
prepare() {
    [ ! -d "$root" ] || return 0
    # The tree has programs and secrets of another system: no user of the host may pass.
    chmod 0700 "$directory"
    rm -rf --one-file-system "$directory/.root"
    cp -a --reflink=auto "$1" "$directory/.root"
    mv "$directory/.root" "$root"
}

# start NODE DIRECTORY NIC MAC ADDRESS/PREFIX: a NIC called and addressed as the node's will be, its
# other end beside it. Nothing leads out of the namespace, so a running node of the same address
# is not disturbed.
start() {
    if ! systemctl -q is-active "$unit"; then
        stop
        ip netns add "$space"
        ip -n "$space" link set lo up
        ip -n "$space" link add "$1" address "$2" type veth peer name seed-end
        ip -n "$space" link set seed-end up
        ip -n "$space" address add "$3" dev "$1"
        ip -n "$space" link set "$1" up
        bind=
        [ ! -e /dev/net/tun ] || bind=--bind=/dev/net/tun
        systemctl reset-failed "$unit" 2>/dev/null || true
        SYSTEMD_SECCOMP=0 systemd-run -q --unit="$unit" -p KillMode=mixed -p TimeoutStopSec=120 \
            -p Delegate=yes -p DevicePolicy=auto -E SYSTEMD_SECCOMP=0 \
            systemd-nspawn -q -b -D "$root" --register=no --keep-unit --machine="$space" \
            --network-namespace-path="/run/netns/$space" --capability=all --resolv-conf=off \
            --timezone=off --link-journal=no $bind
    fi
    i=0
    while [ $i -lt 600 ]; do
        pid=$(leader) || true
        [ -z "$pid" ] || {
            state=$(inside "$pid" systemctl is-system-running 2>/dev/null) || true
            case $state in running | degraded) return 0 ;; esac
        }
        systemctl -q is-active "$unit" || {
            journalctl -q -n 20 -o cat -u "$unit" >&2
            exit 5
        }
        i=$((i + 1))
        sleep 0.2
    done
    echo "the seed's systemd is still ${state:-absent} after 120 s" >&2
    exit 6
}

leader() {
    main=$(systemctl show -P MainPID "$unit")
    [ "$main" != 0 ] && cut -d' ' -f1 "/proc/$main/task/$main/children" 2>/dev/null
}

inside() {
    target=$1
    shift
    nsenter -t "$target" -m -u -i -n -p -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        LC_ALL=C.UTF-8 HOME=/root "$@"
}

# stop NODE DIRECTORY: a clean shutdown, databases closed; the namespace goes too.
stop() {
    systemctl stop "$unit" 2>/dev/null || true
    ip netns delete "$space" 2>/dev/null || true
    # What comes next copies its files: databases must be closed by then.
    ! systemctl -q is-active "$unit" || {
        echo "the seed still runs" >&2
        exit 7
    }
}

shift 3
case $verb in
prepare) prepare "$@" ;;
start) start "$@" ;;
stop) stop ;;
esac
