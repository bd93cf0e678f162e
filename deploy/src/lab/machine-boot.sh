#!/bin/sh
# The first moments of a lab host, as its PID 1, in namespaces of its own (host-machine.ts): puts the machine's own
# files where software looks for them, then becomes its init. What is given by the environment: LAB_HOST_NAME,
# LAB_HOST_FOLDER (its own disk), LAB_HOSTS_FOLDER (the disks of all), LAB_ETC_HOSTS; the arguments are node and the agent's main.
set -eu
hostname "$LAB_HOST_NAME"
mount -t proc proc /proc
# A machine has its own view of network devices; the one mounted is that of the outer network namespace. Its guard keeps guests
# in cgroups, of which it sees those below its own (it has a cgroup namespace).
umount --recursive --lazy /sys/fs/cgroup 2>/dev/null || true
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/libvirt /run/vpe

own() { # own <part of its disk> <where software looks>
  mkdir -p "$2"
  mount --bind "$LAB_HOST_FOLDER/$1" "$2"
}
own libvirt/etc /etc/libvirt
own libvirt/lib /var/lib/libvirt
own libvirt/cache /var/cache/libvirt
own vpe /var/lib/vpe
own log /var/log
mkdir -p /var/log/libvirt
mount --bind "$LAB_ETC_HOSTS" /etc/hosts
mount --bind "$LAB_HOST_FOLDER/boot-id" /proc/sys/kernel/random/boot_id
[ ! -e /etc/machine-id ] || mount --bind "$LAB_HOST_FOLDER/machine-id" /etc/machine-id
[ ! -e /etc/hostname ] || mount --bind "$LAB_HOST_FOLDER/hostname" /etc/hostname
# The other machines' disks are not in this one.
mount -t tmpfs -o ro,mode=755 tmpfs "$LAB_HOSTS_FOLDER"
exec tini -- sh "$(dirname "$0")/machine-init.sh" "$@"
