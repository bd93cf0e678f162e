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
# A new machine joins the cluster first. LAB_JOIN_TOKEN and LAB_AGENT_LISTEN say with what, and where it will listen.
until [ -e "$VPE_AGENT_STATE_DIR/agent.env" ]; do
  "$@" join "$LAB_JOIN_TOKEN" --listen "$LAB_AGENT_LISTEN" >>/var/log/agent-join.log 2>&1 || sleep 1
done
keep agent "$@" &
wait
