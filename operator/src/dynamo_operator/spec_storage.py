"""The parts of a DynamoCluster's spec about volumes: sizes, claims, and where their data begins."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dynamo_operator.spec_types import QUANTITY, SIZE_MAX, WORDS, Part, Words

LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
ORDINAL = "$(ordinal)"
"""What stands for the number of a pod in the name of a data source."""
_LABELS = {
    "additionalProperties": {"type": "string", "pattern": LABEL_VALUE, "maxLength": 63},
    "maxProperties": 64,
}


# fmt: off
class Retention(Part, frozen=True, kw_only=True):
    """What happens to claims whose pod will not return."""

    when_deleted: Annotated[Literal["Retain", "Delete"], Meta(
        description="When the DynamoCluster is deleted. Retain: the claims stay, and a resource"
        " of the same name uses them again, with all keys. Delete: all keys are lost.")] = "Retain"
    when_scaled: Annotated[Literal["Retain", "Delete"], Meta(
        description="When every member says that a node has left. Retain: its claim"
        " stays.")] = "Retain"


class DataSource(Part, frozen=True, kw_only=True):
    """The data with which the first volumes of the ring begin: one object for each pod, such as
    snapshots of all claims of this very ring."""

    api_group: Annotated[str, Meta(
        description="API group of the objects; empty: the core group, for claims.",
        max_length=253)] = "snapshot.storage.k8s.io"
    kind: Annotated[str, Meta(
        description="Kind of the objects, such as VolumeSnapshot or PersistentVolumeClaim.",
        min_length=1, max_length=63)] = "VolumeSnapshot"
    name: Annotated[str, Meta(
        description="Name of the objects, in the namespace of the ring. `$(ordinal)` stands for"
        " the number of the pod: two nodes cannot begin with copies of one disk.",
        pattern=r"^[-a-z0-9.]*\$\(ordinal\)[-a-z0-9.]*$", max_length=253)]
    count: Annotated[int, Meta(
        description="Number of the objects: the pods 0 to count - 1 begin with their data. At most"
        " spec.size; pods beyond begin empty.",
        ge=1, le=SIZE_MAX)]

    def named(self, ordinal: int) -> str:
        """The object of a pod."""
        return self.name.replace(ORDINAL, str(ordinal))


class ClaimTemplate(Part, frozen=True, kw_only=True):
    """The claims of the nodes beyond their size and class."""

    labels: Annotated[Words, Meta(
        description="Labels of each claim. May be changed. The operator's own labels take"
        " precedence.",
        extra_json_schema=_LABELS)] = msgspec.field(default_factory=dict)
    annotations: Annotated[Words, Meta(
        description="Annotations of each claim, for example for a backup program. May be changed.",
        extra_json_schema=WORDS)] = msgspec.field(default_factory=dict)
    access_mode: Annotated[Literal["ReadWriteOnce", "ReadWriteOncePod"], Meta(
        description="ReadWriteOnce: pods of one machine may use the volume. ReadWriteOncePod: one"
        " pod only, which not every driver can do. Fixed when a volume exists.",
    )] = "ReadWriteOnce"
    volume_attributes_class_name: Annotated[str, Meta(
        description="VolumeAttributesClass of each claim, such as more operations a second. May be"
        " changed, not removed. Needs Kubernetes 1.34, and a driver that can do it.",
        pattern=SUBDOMAIN, max_length=253)] | None = None
    data_source: Annotated[DataSource, Meta(
        description="Data with which the ring begins. Only used while the ring has no StatefulSet"
        " and no claim that is recorded as a member's.")] | None = None


class Storage(Part, frozen=True, kw_only=True):
    """The volume of each node."""

    size: Annotated[str, Meta(
        description="Size of each node's volume. Grows if the storage class allows it. May be"
        " lowered again while no volume has grown; a volume never shrinks.",
        pattern=QUANTITY, max_length=32)] = "10Gi"
    class_name: Annotated[str, Meta(
        description="Storage class; unset: the cluster's default. Fixed when a volume exists.",
        max_length=253)] | None = None
    claim_template: Annotated[ClaimTemplate, Meta(
        description="Labels, annotations, access mode, attributes and data of the claims.",
    )] = msgspec.field(default_factory=ClaimTemplate)
    retention: Annotated[Retention, Meta(description="Whether claims are kept.")] = Retention()
# fmt: on
