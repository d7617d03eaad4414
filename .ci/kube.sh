# Sourced by .ci/run: the cluster of ../shared/kube behind the variables of `make e2e`.
KUBE=$(realpath ../shared/kube/kube)
export KUBE
export IMAGE_BUILD='"$KUBE" image "$IMAGE" . -f "$DOCKERFILE"'
export IMAGE_LOAD='"$KUBE" load "$IMAGE"'
export MACHINE_STOP='"$KUBE" node stop "${MACHINE#node-}"'
export MACHINE_START='"$KUBE" node start "${MACHINE#node-}"'
export MACHINE_CUT='"$KUBE" net isolate "${MACHINE#node-}"'
export MACHINE_HEAL='"$KUBE" net heal'
export API_RESTART='.ci/kube-api-restart'
