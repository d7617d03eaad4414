"""The parts of a DynamoCluster's spec about Services: how clients reach the ring."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dynamo_operator.spec_types import SET, WORDS, Part, Words

POD = "$(pod)"
"""What stands for the name of a pod in names and annotations of `exposure`."""

# fmt: off
BalancerClass = Annotated[str, Meta(
    description="Which load balancer takes the Service; unset: the cluster's default. Kubernetes"
    " does not let it be changed while the type is LoadBalancer.",
    min_length=1, max_length=253)]
SourceRanges = Annotated[tuple[Annotated[str, Meta(
    pattern=r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$", max_length=49)], ...], Meta(
    description="Networks that the load balancer lets in, as 192.0.2.0/24. Empty: all.",
    max_length=64, extra_json_schema=SET)]
TrafficPolicy = Annotated[Literal["Cluster", "Local"], Meta(
    description="Local: a machine hands traffic from outside to its own pods only, and nodes see"
    " the addresses of clients. Cluster: to any pod. Unset: Cluster.")]


class ServiceSpec(Part, frozen=True, kw_only=True):
    """The Service that clients use; it has the resource's name."""

    type: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer"], Meta(description="Kind of Service.")
    ] = "ClusterIP"
    port: Annotated[int, Meta(description="Its port for client HTTP.", ge=1, le=65535)] = 8080
    ip_family_policy: Annotated[Literal["SingleStack", "PreferDualStack", "RequireDualStack"], Meta(
        description="Whether the ring's Services have addresses of IPv4 and of IPv6. Unset: the"
        " cluster's default. Nodes listen to both.")] | None = None
    annotations: Annotated[Words, Meta(
        description="Annotations of the Service, for example for a load balancer.",
        extra_json_schema=WORDS)] = msgspec.field(default_factory=dict)
    load_balancer_class: BalancerClass | None = None
    load_balancer_source_ranges: SourceRanges = ()
    external_traffic_policy: TrafficPolicy | None = None


class Exposure(Part, frozen=True, kw_only=True):
    """A separate Service for each pod, `<pod>-client`, for clients outside the cluster: they
    reach the owners of a key without a detour. Only the client port is exposed."""

    type: Annotated[Literal["Disabled", "NodePort", "LoadBalancer"], Meta(
        description="Kind of these Services. NodePort: a port of every machine leads to the"
        " pod.")] = "Disabled"
    port: Annotated[int, Meta(description="Port of the load balancers.", ge=1, le=65535)] = 8080
    hosts: Annotated[str, Meta(
        description="DNS name of each pod for clients outside, as `$(pod).ring.example.com`. You,"
        " or a program such as external-dns, let it lead to the pod's Service. The certificate of"
        " the ring's own authority has these names.",
        pattern=r"^[-a-z0-9.]*\$\(pod\)[-a-z0-9.]*$", max_length=200)] | None = None
    advertise: Annotated[bool, Meta(
        description="Whether nodes tell all clients these names instead of the names in the"
        " cluster. Then clients in the cluster use the load balancers, too. Restarts the pods one"
        " by one.")] = False
    annotations: Annotated[Words, Meta(
        description="Annotations of the Services; `$(pod)` stands for the name of the pod.",
        extra_json_schema=WORDS)] = msgspec.field(default_factory=dict)
    load_balancer_class: BalancerClass | None = None
    load_balancer_source_ranges: SourceRanges = ()
    external_traffic_policy: TrafficPolicy | None = None

    @property
    def advertised(self) -> str:
        """What nodes tell clients to dial, `$(pod)` in it; "": their names in the cluster."""
        return f"{self.hosts}:{self.port}" if self.advertise and self.hosts else ""
# fmt: on
