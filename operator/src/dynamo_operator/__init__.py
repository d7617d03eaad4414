"""The operator: has the role of the paper's administrator on Kubernetes [P 4.8.1].

The operator decides when and how many; the nodes do the work. It is not in the data path, no node
needs it to start, and it keeps no state: all state is in the resource, the objects and the ring. It
writes the status and never reads it. If it is killed, changes stop and nothing else (C18).

`handlers` wake → `observe` reads → `plan` decides (pure) → `act` carries out → `status` reports.
Only `kube` uses the kubernetes package, only `handlers` uses kopf. Nothing of the node or the
client is imported, because the operator talks to nodes only over their admin HTTP.
"""
