#!/bin/bash
# node.sh [IMAGE.tar...]: PID 1 of the namespaces that up.sh makes: set up the network and
# the files, start every part, and reap until one of them ends.
set -euo pipefail
node=node
node_ip=10.244.0.1          # the pods' bridge has the node's address, too
pod_cidr=10.244.0.0/24
service_cidr=10.96.0.0/16
kubelab=$KUBELAB_BIN/kubelab
config=$KUBELAB_STATE/config
mkdir -p "$config/cni" "$KUBELAB_STATE/containerd" "$KUBELAB_STATE/kubelet"

# Mounts: nobody outside sees them. They keep sockets, locks, leases and the
# paths that parts have built in off the host, and the kubelet's sysctls, too.
mount -t tmpfs tmpfs /run
mount --bind "$KUBELAB_STATE/log" /var/log
for dir in /var/lib/kubelet /var/lib/cni /usr/libexec/kubernetes; do
  mkdir -p "$dir"
  mount -t tmpfs tmpfs "$dir"
done
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops; do
  mkdir -p "/run/sysctl/${name%/*}"
  cat "/proc/sys/$name" > "/run/sysctl/$name"
  mount --bind "/run/sysctl/$name" "/proc/sys/$name"
done

# Network: one bridge, and no way out of this namespace.
ip link set lo up
ip link add cni0 type bridge
ip addr add "$node_ip/${pod_cidr#*/}" dev cni0
ip link set cni0 up
ip route add "$service_cidr" dev cni0   # kube-proxy rewrites it, but a route must exist
sysctl -qw net.ipv4.ip_forward=1

# Secrets: one key that signs service accounts' tokens, one administrator's
# token that every part uses. The API server makes its own certificate.
openssl genrsa -out "$config/sa.key" 2048 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,admin,system:masters" > "$config/tokens.csv"

cat > "$config/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: kubelab
contexts: [{name: kubelab, context: {cluster: kubelab, user: admin}}]
clusters: [{name: kubelab, cluster: {server: "https://$node_ip:6443", certificate-authority: $config/apiserver.crt}}]
users: [{name: admin, user: {token: $token}}]
YAML

cat > "$config/cni/10-bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "$pod_cidr"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON

cat > "$config/containerd.toml" <<TOML
version = 2
root = "$KUBELAB_STATE/containerd"
state = "/run/containerd"
[grpc]
address = "$KUBELAB_STATE/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true     # needs no CAP_SYS_RESOURCE
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$config/cni"
TOML

cat > "$config/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$KUBELAB_STATE/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
resolvConf: ""
clusterDNS: [$node_ip]
clusterDomain: cluster.local
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%"}
YAML

cat > "$config/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${PROXY_MODE:-nftables}
clusterCIDR: $pod_cidr
clientConnection: {kubeconfig: $config/kubeconfig}
conntrack: {maxPerCore: 0}        # that limit is the host's
YAML

cat > "$config/Corefile" <<CADDY
. {
  bind $node_ip
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $config/kubeconfig kubelab
  }
  cache 5
}
CADDY

declare -A names
# start NAME COMMAND...: in the background, with a log of its own.
start() {
  local name=$1; shift
  "$@" > "$KUBELAB_STATE/log/$name.log" 2>&1 &
  names[$!]=$name
}
# ready COMMAND...: until it succeeds.
ready() {
  until "$@" >/dev/null 2>&1; do sleep 0.2; done
}
client=(--kubeconfig="$config/kubeconfig")

start etcd "$kubelab" etcd --data-dir="$KUBELAB_STATE/etcd" --unsafe-no-fsync \
  --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379
start containerd containerd --config="$config/containerd.toml"
start kube-apiserver "$kubelab" kube-apiserver \
  --etcd-servers=http://127.0.0.1:2379 --cert-dir="$config" \
  --advertise-address="$node_ip" --service-cluster-ip-range="$service_cidr" \
  --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file="$config/sa.key" --service-account-signing-key-file="$config/sa.key" \
  --token-auth-file="$config/tokens.csv" --authorization-mode=RBAC --allow-privileged \
  --kubelet-preferred-address-types=InternalIP

ready ctr --address="$KUBELAB_STATE/containerd.sock" version
for image in "$KUBELAB_BIN"/images/*.tar "$@"; do
  ctr --address="$KUBELAB_STATE/containerd.sock" --namespace=k8s.io images import "$image"
done
ready kubectl "${client[@]}" get --raw=/readyz

start kube-controller-manager "$kubelab" kube-controller-manager "${client[@]}" --leader-elect=false \
  --service-account-private-key-file="$config/sa.key" --root-ca-file="$config/apiserver.crt"
start kube-scheduler "$kubelab" kube-scheduler "${client[@]}" --leader-elect=false
start kube-proxy "$kubelab" kube-proxy --config="$config/proxy.yaml" --hostname-override="$node"
start coredns "$kubelab" coredns -conf "$config/Corefile"
start kubelet "$kubelab" kubelet "${client[@]}" --config="$config/kubelet.yaml" \
  --root-dir="$KUBELAB_STATE/kubelet" --hostname-override="$node" --node-ip="$node_ip" --oom-score-adj=0

cp "$config/kubeconfig" "$KUBELAB_STATE/kubeconfig"   # up.sh waits for this
wait -n -p pid || true
echo "${names[$pid]} has ended; see its log" >&2
