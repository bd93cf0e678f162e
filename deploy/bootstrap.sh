# Sourced by deploy/quickstart and test/run, with $root set to the checkout.
# Brings what TypeScript needs to run at all: a current Node and pnpm under .tools/ (the
# machine's own Node, if any, is only used to fetch them and is never changed), the
# workspace's packages, and the code generated from proto/. Each step is skipped when its
# result is there and current, so a second run costs about a second.

# Exact versions: a checkout runs on the same tool chain everywhere.
node_version=24.9.0
pnpm_version=12.21.0

bootstrap() {
  _ensure_npm
  _ensure_tools
  export PATH="$root/.tools/node_modules/.bin:$PATH"
  _ensure_workspace
}

_say() { printf '%s\n' "$*" >&2; }

_die() {
  _say "error: $1"
  [ -n "${2:-}" ] && _say "  to mend it: $2"
  exit 1
}

_ensure_npm() {
  [ -x "$root/.tools/node_modules/.bin/node" ] && return
  command -v npm >/dev/null && return
  command -v apt-get >/dev/null || _die "npm is missing, and this is not a Debian machine" "install Node.js with npm (any version >= 18), then run this again"
  [ "$(id -u)" = 0 ] || _die "npm is missing, and installing it needs root" "run this as root, or: sudo apt-get install npm"
  _say "- installing npm (Debian package)"
  apt-get update -qq >&2 || _die "apt-get update failed (see above)" "check /etc/apt/sources.list and the network"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >&2 ||
    _die "apt-get could not install npm (see above)" "apt-get install npm"
}

_ensure_tools() {
  local stamp="$root/.tools/versions" wanted="node $node_version, pnpm $pnpm_version"
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  _say "- fetching $wanted into .tools/"
  mkdir -p "$root/.tools"
  [ -f "$root/.tools/package.json" ] || echo '{"private":true}' >"$root/.tools/package.json"
  npm install --prefix "$root/.tools" --no-save --no-audit --no-fund --no-package-lock --loglevel=error \
    "node@$node_version" "pnpm@$pnpm_version" >&2 ||
    _die "npm could not fetch $wanted (see above)" "check that the npm registry is reachable: npm ping"
  echo "$wanted" >"$stamp"
}

_ensure_workspace() {
  local stamp="$root/node_modules/.vpe-bootstrap" wanted
  # Everything that decides what gets installed and generated.
  wanted=$(cd "$root" && cat pnpm-lock.yaml pnpm-workspace.yaml package.json proto/package.json packages/*/package.json \
    deploy/package.json test/package.json proto/buf.gen.yaml proto/vpe/v1/*.proto 2>/dev/null | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -d "$root/proto/gen" ] && return
  _say "- installing the workspace's packages"
  (cd "$root" && pnpm install --frozen-lockfile --reporter=append-only) >&2 ||
    _die "pnpm install failed (see above)" "rm -rf node_modules, and run this again"
  _say "- generating code from proto/"
  (cd "$root" && pnpm run gen) >&2 || _die "code generation failed (see above)"
  echo "$wanted" >"$stamp"
}
