# Two machines on this one, as far as SSH and Ray can tell: each has its own network, processes, host name, home folder
# and /tmp/ray. They hang on a bridge together with the machine that this script runs on. All of it ends with the script.
#
# Usage, in network, process and mount namespaces of its own: machines.sh FOLDER
set -eu
folder=$1

mount --bind "$folder/laptop/ray" /tmp/ray
mount --bind "$folder/laptop/passwd" /etc/passwd
ip link set lo up
ip link add bridge type bridge
ip address add 10.77.0.254/24 dev bridge
ip link set bridge up

number=0
for machine in head worker; do
    number=$((number + 1))
    unshare --net --pid --uts --ipc --mount --fork --kill-child --mount-proc sh -eu -c '
        folder=$1 machine=$2 address=$3
        hostname "$machine"
        mount --bind "$folder/$machine/ray" /tmp/ray
        mount --bind "$folder/$machine/passwd" /etc/passwd
        mount -t tmpfs tmpfs /dev/shm
        mkdir -p /run/sshd
        ip link set lo up
        touch "$folder/$machine/made"
        until ip link show dev eth0 >/dev/null 2>&1; do sleep 0.05; done
        ip address add "$address/24" dev eth0
        ip link set eth0 up
        # Ray takes the address that faces the world for its own, and 127.0.0.1 where there is none.
        ip route add default via 10.77.0.254
        # A shell on top, because it collects the processes that lose their parent.
        exec bash -c "/usr/sbin/sshd -D -e -f \"$folder/sshd_config\" 2>\"$folder/$machine/sshd.log\" & wait"
    ' sh "$folder" "$machine" "10.77.0.$number" &
    outside=$!
    until [ -e "$folder/$machine/made" ]; do sleep 0.05; done
    inside=$(cat "/proc/$outside/task/$outside/children")
    ip link add "$machine" type veth peer name eth0 netns ${inside% }
    ip link set "$machine" master bridge up
done
touch "$folder/ready"
wait
