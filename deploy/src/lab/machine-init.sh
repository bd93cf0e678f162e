#!/bin/sh
# What runs on a lab host, and is started again when it ends, as a service manager would. The
# arguments are the agent's command; LAB_GUARD_MAIN is the guard's main, for the same node.

keep() { # keep <name> <pause> <command...>
  name=$1 pause=$2
  shift 2
  while :; do
    "$@" >>"/var/log/$name.log" 2>&1 </dev/null
    echo "{\"level\":40,\"name\":\"$name\",\"msg\":\"ended with code $?; started again\"}" >>"/var/log/$name.log"
    sleep "$pause"
  done
}

keep virtlogd 1 virtlogd &
until [ -S /run/libvirt/virtlogd-sock ]; do sleep 0.05; done
keep libvirtd 1 libvirtd --listen &
# A new machine joins the cluster first. LAB_JOIN_TOKEN and LAB_AGENT_LISTEN say with what, and where it will listen.
until [ -e "$VPE_AGENT_STATE_DIR/agent.env" ]; do
  "$@" join "$LAB_JOIN_TOKEN" --listen "$LAB_AGENT_LISTEN" >>/var/log/agent-join.log 2>&1 || sleep 1
done
VPE_HOST_ID=$(sed -n 's/.*"hostId": *"\([^"]*\)".*/\1/p' "$VPE_AGENT_STATE_DIR/identity.json")
export VPE_HOST_ID
# As their units have it. Neither is the other's child: each goes on when the other ends. What the guard remembers is on a tmpfs, and so ends with the power.
node=$1
keep guard 0.1 "$node" --disable-warning=ExperimentalWarning "$LAB_GUARD_MAIN" &
keep agent 1 "$@" &
wait
