# Sourced by deploy/quickstart and test/run, with $root set to the checkout.
# Brings what TypeScript needs to run at all: a current Node and pnpm under .tools/ (the
# machine's own Node, if any, is only used to fetch them and is never changed), the
# workspace's packages, and the code generated from proto/. Each step is skipped when its
# result is there and current, so a second run costs about a second.

# Exact versions: a checkout runs on the same tool chain everywhere.
node_version=24.9.0
pnpm_version=12.21.0

bootstrap() {
  # The system's daemons lie in sbin, which is not in everybody's PATH.
  export PATH="$root/.tools/node_modules/.bin:$PATH:/usr/sbin:/sbin"
  _tools_are_current && _workspace_is_current && return
  mkdir -p "$root/.tools" && : >>"$root/.tools/lock" ||
    _die "cannot write to $root, where tools and packages are installed" "run this as the owner of the checkout, or as root"
  # One at a time: two that install into the same folders would spoil each other's work.
  (
    flock 8
    _ensure_npm
    _ensure_tools
    _ensure_workspace
  ) 8>>"$root/.tools/lock" || exit 1
}

_say() { printf '%s\n' "$*" >&2; }

_die() {
  _say "error: $1"
  [ -n "${2:-}" ] && _say "  to mend it: $2"
  exit 1
}

_tools_wanted="node $node_version, pnpm $pnpm_version"

_tools_are_current() { [ "$(cat "$root/.tools/versions" 2>/dev/null)" = "$_tools_wanted" ]; }

# Everything that decides what gets installed and generated, as a number.
_workspace_wanted() {
  (cd "$root" && cat pnpm-lock.yaml pnpm-workspace.yaml package.json proto/package.json packages/*/package.json \
    deploy/package.json test/package.json proto/buf.gen.yaml proto/vpe/v1/*.proto packages/client/src/generate.ts \
    packages/api/src/*.ts packages/api/src/{routes,schemas}/*.ts 2>/dev/null || true) | sha256sum
}

_workspace_is_current() {
  [ -d "$root/proto/gen" ] && [ -d "$root/packages/client/gen" ] &&
    [ "$(cat "$root/node_modules/.vpe-bootstrap" 2>/dev/null)" = "$(_workspace_wanted)" ]
}

_ensure_npm() {
  _tools_are_current && return
  command -v npm >/dev/null && return
  command -v apt-get >/dev/null || _die "npm is missing, and this is not a Debian machine" "install Node.js with npm (any version >= 18), then run this again"
  [ "$(id -u)" = 0 ] || _die "npm is missing, and installing it needs root" "run this as root, or: sudo apt-get install npm"
  local log="$root/.tools/apt.log"
  _say "- installing npm (Debian package; a minute or two)"
  apt-get update -qq >"$log" 2>&1 ||
    _die "apt-get update failed: $(tail -n 3 "$log")" "check /etc/apt/sources.list and the network"
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends npm >"$log" 2>&1 ||
    _die "apt-get could not install npm: $(tail -n 3 "$log")" "apt-get install npm"
}

_ensure_tools() {
  _tools_are_current && return
  _say "- fetching $_tools_wanted into .tools/"
  [ -f "$root/.tools/package.json" ] || echo '{"private":true}' >"$root/.tools/package.json"
  npm install --prefix "$root/.tools" --no-save --no-audit --no-fund --no-package-lock --loglevel=error \
    "node@$node_version" "pnpm@$pnpm_version" >&2 ||
    _die "npm could not fetch $_tools_wanted (see above)" "check that the npm registry is reachable: npm ping"
  echo "$_tools_wanted" >"$root/.tools/versions"
}

_ensure_workspace() {
  _workspace_is_current && return
  _say "- installing the workspace's packages"
  # CI=true: never ask, also when an old node_modules has to make way.
  (cd "$root" && CI=true pnpm install --frozen-lockfile --reporter=append-only) >&2 ||
    _die "pnpm install failed (see above)" "rm -rf node_modules, and run this again"
  _say "- generating code"
  (cd "$root" && pnpm run gen) >&2 || _die "code generation failed (see above)"
  _workspace_wanted >"$root/node_modules/.vpe-bootstrap"
}
