# Sourced by .ci/run: the cluster of ../shared/kube behind the variables of `make e2e`.
KUBE=$(realpath ../shared/kube/kube)
export KUBE
# Its base image is made on this machine and has no digest.
export IMAGE_BUILD='"$KUBE" image "$IMAGE" . -f "$DOCKERFILE" --build-arg PYTHON=docker.io/library/python:3.13-slim'
export IMAGE_LOAD='"$KUBE" load "$IMAGE"'
export MACHINE_STOP='"$KUBE" node stop "${MACHINE#node-}"'
export MACHINE_START='"$KUBE" node start "${MACHINE#node-}"'
export MACHINE_CUT='"$KUBE" net isolate "${MACHINE#node-}"'
export MACHINE_HEAL='"$KUBE" net heal'
export API_RESTART='.ci/kube-api-restart'

# promtool tests the chart's alerts; Debian ships it inside the server's package, of which nothing else is wanted.
if ! command -v promtool > /dev/null; then
  TOOLS=$(mktemp -d)
  (cd "$TOOLS" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; } } && dpkg -x prometheus_*.deb .) \
    > "$TOOLS/log" 2>&1 || tail -n 3 "$TOOLS/log"
  export PATH="$PATH:$TOOLS/usr/bin"
fi
