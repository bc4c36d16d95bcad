#!/bin/bash
# Boots a folder as a container whose process 1 is its systemd, with a network of its own, under the kernel of this machine; runs
# a command in it as soon as it is up, and shows what that prints. As root.
#
#   boot-container.sh ROOT COMMAND...      what is written stays in ROOT
#
# KNP_BOOT_TIMEOUT  seconds until it is killed (900)
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$1
shift

cat >"$root/etc/systemd/system/booted.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /booted
StandardOutput=file:/booted.out
StandardError=file:/booted.out
ExecStopPost=/bin/systemctl --no-block exit
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../booted.service "$root/etc/systemd/system/multi-user.target.wants/booted.service"
printf '%q ' "$@" >"$root/booted"
: >"$root/booted.out"

# shellcheck disable=SC2016
timeout -s KILL "${KNP_BOOT_TIMEOUT:-900}" unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup --propagation private \
  bash -euc '
  root=$0
  mount --bind "$root" "$root"
  cd "$root"
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t tmpfs tmpfs run
  mount -t tmpfs -o mode=755 tmpfs dev
  for name in null zero full random urandom tty; do mknod -m 666 "dev/$name" c $(stat -c "%Hr %Lr" "/dev/$name"); done
  ln -s /proc/self/fd dev/fd
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  mount -t tmpfs tmpfs dev/shm
  # What this machine has: one hierarchy, or the older ones, of which systemd needs only its own.
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -t cgroup2 cgroup2 sys/fs/cgroup
  else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd,xattr systemd sys/fs/cgroup/systemd
  fi
  hostname test
  ip link set lo up
  pivot_root . mnt
  umount -l /mnt
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0 --log-target=journal
  ' "$root" </dev/null >/dev/null 2>&1 &
container=$!
tail -n +1 -f --pid="$container" "$root/booted.out"
wait "$container" || true
