"""The operator: plays the paper's administrator on Kubernetes [P 4.8.1].

It decides when and how many, the nodes do the work. It is never in the data path, never needed to
start a node, and remembers nothing: the resource, the objects and the ring say it all, status is
written and never read. Killing it stops changes, nothing else (C18).

`handlers` wake → `observe` reads → `plan` decides (pure) → `act` carries out → `status` tells.
Only `kube` knows the kubernetes package, only `handlers` kopf; nothing of the node or the client is
imported, for a node is talked to over its admin HTTP alone.
"""
