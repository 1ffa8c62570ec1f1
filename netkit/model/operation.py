"""Operations: what turns one set of resources into another, as values that can be read and undone.

+ create bridge br0 mtu 1500
~ modify file /…/hosts (120 bytes)
- delete veth nk0a1b2c3d in br0 …
"""

from typing import Literal

import msgspec

from netkit.model.resource import Key, Resource

Verb = Literal["create", "modify", "delete"]
_SIGNS = {"create": "+", "modify": "~", "delete": "-"}


class Operation(msgspec.Struct, frozen=True):
    """One step. `observed` is None for a create, `wanted` is None for a delete."""

    observed: Resource | None
    wanted: Resource | None

    @property
    def verb(self) -> Verb:
        if self.observed is None:
            return "create"
        return "delete" if self.wanted is None else "modify"

    @property
    def resource(self) -> Resource:
        """The resource it is about: as it will be, or as it was for a delete."""
        resource = self.wanted or self.observed
        if resource is None:
            raise ValueError("an operation is about a resource")
        return resource

    @property
    def key(self) -> Key:
        return self.resource.key

    def undo(self) -> "Operation":
        """The operation that takes this one back."""
        return Operation(self.wanted, self.observed)

    def describe(self) -> str:
        return f"{_SIGNS[self.verb]} {self.verb} {self.resource.describe()}"
