# Becomes systemd in a root of its own; tests/packaging/machine.py has made the namespaces.
# $BASE is an empty folder, $HIDDEN the checkout, of which the machine shall see nothing.
set -e
mount -t tmpfs tmpfs "$BASE"
mkdir "$BASE/upper" "$BASE/work" "$BASE/root"
root=$BASE/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$BASE/upper,workdir=$BASE/work" "$root"

# What systemd would set up is the kernel's, and so this machine's: it may not.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/hugepages" "$root/dev/mqueue" "$root/dev/pts" "$root/dev/shm"
mount -t devpts devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for folder in /run /tmp "$HIDDEN"; do
    mkdir -p "$root$folder"
    mount -t tmpfs tmpfs "$root$folder"
done

# No service starts but those that are asked for.
units=$root/lib/systemd/system
rm -rf "$units"/*.target.wants "$root"/etc/systemd/system/*
rm -f "$units"/{cryptsetup,local-fs,paths,sockets,swap,sysinit,timers}.target
printf '[Unit]\nDefaultDependencies=no\n' >"$units/sysinit.target"
# There is no journal.
mkdir "$root/etc/systemd/system/btblocker.service.d"
printf '[Service]\nStandardError=append:/run/btblocker.log\n' \
    >"$root/etc/systemd/system/btblocker.service.d/log.conf"

exec env -i container=test PATH="$PATH" chroot "$root" \
    /lib/systemd/systemd --system --unit=sysinit.target --log-target=null --show-status=no
