#!/bin/bash
# Runs one command, as root, under Debian's stock cloud kernel: for what the kernel of this machine may lack, and every
# distribution's has (nft's own `queue` statement, IPVS, SCTP).
#
#   scripts/debian-kernel.sh COMMAND [ARGUMENT...]
#
# A virtual machine without disk and network boots the kernel of the running Debian release. It sees the files of this
# machine at their paths; what it writes stays in its memory and is gone with it. PATH, HOME, CI, the working directory
# and every KNP_* variable are those outside. Standard output and error come out as one stream, the exit status as it is;
# 124 says that the time was over, 125 that the command was not reached or did not end.
#
# KNP_VM_TIMEOUT  seconds until it is killed (900)
# KNP_VM_MEMORY   of the machine (3G); files that the command writes need it too
# KNP_VM_ROOT     a folder that is booted as the root of a system, by its own systemd: then the machine sees nothing but this
#                 folder, and the command runs in its / as soon as it is up. Needs kmod in it.
# KNP_VM_ACCEL    kvm or tcg; left out, kvm where the processor has it. tcg takes 5 to 10 times as long.
#
# Needs Debian on amd64 and root; installs what is missing by apt. The kernel is kept below ~/.cache/knp.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

say() { echo "debian-kernel: $*" >&2; }
refuse() {
  say "$@"
  exit 125
}

[ $# -gt 0 ] || refuse 'no command given: scripts/debian-kernel.sh COMMAND [ARGUMENT...]'
release=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_CODENAME:-}") || true
[ "${release%%-*}" = debian ] || refuse "this is ${release%%-*}, and the kernel is Debian's: run it on Debian"
[ "$(uname -m)" = x86_64 ] || refuse "this is $(uname -m): only amd64 (x86_64) is supported so far"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/knp/debian-kernel/$release
# Debian 12 has virtiofsd with qemu, newer releases have it on its own.
virtiofsd=/usr/libexec/virtiofsd
virtiofsd_package=virtiofsd
share=(--shared-dir=/ --sandbox=chroot --cache=always)
if [ "$release" = debian-bookworm ]; then
  virtiofsd=/usr/lib/qemu/virtiofsd
  virtiofsd_package=qemu-system-common
  share=(-o source=/ -o sandbox=chroot -o cache=always)
fi

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need qemu-system-x86_64 qemu-system-x86
need "$virtiofsd" "$virtiofsd_package"
need busybox busybox-static
need cpio cpio
need modprobe kmod
need xz xz-utils
images=("$cache"/boot/vmlinuz-*)
if [ ${#missing[@]} -gt 0 ] || [ ! -e "${images[0]}" ]; then
  if [ "$(id -u)" != 0 ]; then
    say 'needs root, to share the files of this machine and to install what is missing'
    refuse "run as root, or as root first: apt-get install ${missing[*]:-(nothing is missing but the kernel image)}"
  fi
  apt-get -qq update >/dev/null
fi
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
[ "$(id -u)" = 0 ] || refuse 'needs root, to share the files of this machine: run as root'
if [ ! -e "${images[0]}" ]; then
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  say "downloading $package (once)"
  mkdir -p "$(dirname "$cache")"
  # Unpacked aside and moved: an interrupted download leaves nothing that looks complete.
  unpacked=$(mktemp -d "$cache.XXXXXX")
  trap 'rm -rf "$unpacked"' EXIT
  (cd "$unpacked" && apt-get -qq download -o APT::Sandbox::User=root "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb)
  depmod -b "$unpacked" "$(ls "$unpacked/lib/modules")"
  rm -rf "$cache"
  mv "$unpacked" "$cache"
  chmod 755 "$cache"
  images=("$cache"/boot/vmlinuz-*)
fi
image=${images[-1]}
version=${image##*/vmlinuz-}

root=${KNP_VM_ROOT:+$(cd "$KNP_VM_ROOT" && pwd)}
run=$(mktemp -d "${TMPDIR:-/tmp}/knp-vm.XXXXXX")
files=
cleanUp() {
  [ -z "$files" ] || kill "$files" 2>/dev/null || true
  rm -rf "$run"
}
trap cleanUp EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The first files that the kernel sees: enough to mount those of this machine under a layer in memory.
first=$run/first
mkdir -p "$first"/{bin,modules,proc,sys,dev,below,above,root}
cp "$(command -v busybox)" "$first/bin/busybox"
for name in virtio_pci virtiofs overlay; do
  modprobe -d "$cache" -S "$version" --show-depends "$name" | while read -r action file _; do
    module=${file##*/}
    module=${module%.xz}
    [ "$action" = insmod ] && [ ! -e "$first/modules/$module" ] || continue
    case $file in *.xz) xz -dc "$file" ;; *) cat "$file" ;; esac >"$first/modules/$module"
    echo "$module" >>"$first/modules/order"
  done
done
cat >"$first/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc && mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/\$module"; done </modules/order
mount -t virtiofs -o ro files /below && mount -t tmpfs -o mode=755 tmpfs /above && mkdir /above/files /above/work &&
mount -t overlay -o lowerdir='/below$root',upperdir=/above/files,workdir=/above/work overlay /root &&
END
if [ -z "$root" ]; then
  cat >>"$first/init" <<END
mount --move /dev /root/dev && umount /proc && exec switch_root /root /bin/bash '$run/guest'
END
else
  # The command is a unit among those of the system. The kernel's modules are not in the folder.
  cat >>"$first/init" <<END
mkdir -p /root/lib/modules/$version && mount --bind '/below$cache/lib/modules/$version' /root/lib/modules/$version &&
cp '/below$run/guest' /root/knp-vm && cp '/below$run/unit' /root/etc/systemd/system/knp-vm.service &&
mkdir -p /root/etc/systemd/system/multi-user.target.wants &&
ln -s ../knp-vm.service /root/etc/systemd/system/multi-user.target.wants/knp-vm.service &&
mount --move /dev /root/dev && umount /proc && exec switch_root /root /lib/systemd/systemd
END
fi
chmod 755 "$first/init"
(cd "$first" && find . | cpio --quiet -o -H newc | gzip -1) >"$run/initrd"

# What runs there as the first process. Its own output is the console; the command's goes out by the other serial line.
{
  for name in PATH HOME CI ${!KNP_@}; do [ -z "${!name+set}" ] || printf 'export %s=%q\n' "$name" "${!name}"; done
  [ -n "$root" ] || cat <<END
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm /lib/modules
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -sfn '$cache/lib/modules/$version' '/lib/modules/$version'
ip link set lo up
END
  echo 'stty -F /dev/ttyS0 raw -echo'
  [ -n "$root" ] || printf 'cd %q\n' "$PWD"
  printf '%q ' "$@"
  # shellcheck disable=SC2016
  echo '</dev/null 2>&1 | cat >/dev/ttyS0'
  # shellcheck disable=SC2016
  echo 'echo "exit status ${PIPESTATUS[0]}." >/dev/ttyS1'
  echo 'echo o >/proc/sysrq-trigger; sleep 60'
} >"$run/guest"
cat >"$run/unit" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /knp-vm
WorkingDirectory=/
END

accel=${KNP_VM_ACCEL:-tcg}
if [ -z "${KNP_VM_ACCEL:-}" ] && [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then accel=kvm; fi
case $accel in
kvm) machine=(-accel kvm -cpu host) ;;
tcg) machine=(-accel tcg,thread=multi -cpu Nehalem) ;; # without AVX: emulating it takes Node 3 times as long
*) refuse "KNP_VM_ACCEL is $accel: neither kvm nor tcg" ;;
esac
memory=${KNP_VM_MEMORY:-3G}

"$virtiofsd" --socket-path="$run/files" "${share[@]}" >"$run/virtiofsd.log" 2>&1 &
files=$!
for _ in $(seq 100); do [ -S "$run/files" ] && break; sleep 0.1; done

status=0
timeout --foreground "${KNP_VM_TIMEOUT:-900}" qemu-system-x86_64 -M q35 "${machine[@]}" -smp 2 -m "$memory" -nodefaults \
  -no-user-config -display none -monitor none -no-reboot \
  -object "memory-backend-memfd,id=memory,size=$memory,share=on" -numa node,memdev=memory \
  -kernel "$image" -initrd "$run/initrd" -append 'console=ttyS1 quiet panic=-1 systemd.mask=serial-getty@ttyS1.service' \
  -chardev "socket,id=files,path=$run/files" -device vhost-user-fs-pci,chardev=files,tag=files \
  -serial stdio -serial "file:$run/console" </dev/null 2>"$run/qemu.log" || status=$?
if [ "$status" = 124 ]; then
  say "killed after ${KNP_VM_TIMEOUT:-900} s"
  exit 124
fi
result=$(tr -d '\r' <"$run/console" 2>/dev/null | sed -n 's/^exit status \([0-9]*\)\.$/\1/p' | tail -n 1)
if [ -z "$result" ]; then
  tail -n 15 "$run/console" "$run/qemu.log" "$run/virtiofsd.log" >&2 || true
  refuse 'the machine ended before the command did'
fi
exit "$result"
