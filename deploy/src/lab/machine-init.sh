#!/bin/sh
# What runs on a lab host, and is started again when it ends, as a service manager would. The
# arguments are the agent's command.

keep() { # keep <name> <command...>
  name=$1
  shift
  while :; do
    "$@" >>"/var/log/$name.log" 2>&1 </dev/null
    echo "{\"level\":40,\"name\":\"$name\",\"msg\":\"ended with code $?; started again\"}" >>"/var/log/$name.log"
    sleep 1
  done
}

keep virtlogd virtlogd &
until [ -S /run/libvirt/virtlogd-sock ]; do sleep 0.05; done
keep libvirtd libvirtd --listen &
keep agent "$@" &
wait
