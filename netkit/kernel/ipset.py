"""The hands for ipsets and their members, through netlink.

A member's comment says whose it is; a set has no comment, so that sets are ours by their whole names
and belong to the host: which these are is told, for a prefix is free to everybody. Requests are
sent many at a time on one socket, made in the network namespace that it serves; each is
acknowledged by itself. Deciding what goes into which set is not done here.

    with IpSets(names={"NETKIT-A"}) as driver:
        list(driver.execute([Operation(None, Member(owner="host", set="NETKIT-A", entry="10.0.0.2"))]))
"""

import errno
import itertools
import os
import socket
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

from netkit.errors import ApplyError, Conflict, NetkitError, Unsupported
from netkit.kernel import ipset_wire as wire
from netkit.kernel.libc import socket_in
from netkit.model.names import mark, owner_of
from netkit.model.operation import Operation
from netkit.model.resource import IpSet, Member, Resource

OWNER = "host"
BATCH = 100  # acknowledgements of more could overflow the socket's receive buffer
BUSY_RETRIES = 10  # the nft variant lets go of a set some milliseconds after its last rule is gone
BUSY_WAIT_S = 0.02
ANSWER_TIMEOUT_S = 30.0
_ANSWER_BYTES = 1 << 16
_MEANINGS = {
    errno.ENOENT: "there is no such set",
    4099: "the kernel's maximum of sets is reached",
    4104: "the prefix length is not allowed in this type of set",
    4352: "the set is full",
}
_T = TypeVar("_T", bound="Operation | Member")


class IpSets:
    """Driver for the kinds `ipset` and `member` in the namespace at `namespace` ("" is our own).

    The sets called `names` are ours. Raises Unsupported where the kernel has no ipset or we may not use it.
    """

    kinds = frozenset({"ipset", "member"})
    waits = False

    def __init__(self, namespace: str = "", names: Collection[str] = ()) -> None:
        self._names = frozenset(names)
        self._lock = threading.Lock()
        self._sequence = itertools.count(1)
        self._revisions: dict[str, int] = {}
        self._socket = socket_in(namespace, socket.AF_NETLINK, socket.SOCK_RAW, wire.NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._ask(wire.PROTOCOL_COMMAND, wire.ACK, wire.named())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def observe(self, scope: Sequence[Resource] | None) -> Iterable[Resource]:
        """What there is. Members in a scope are tested one by one, and their owner is echoed."""
        if scope is None:
            return self._everything()
        sets = [resource for resource in scope if isinstance(resource, IpSet)]
        members = [resource for resource in scope if isinstance(resource, Member)]
        return [*self._sets_among(sets), *self._members_among(members)]

    def execute(self, operations: Sequence[Operation]) -> Iterator[Operation]:
        """Carry the operations out, a hundred to a message. Raises ApplyError, Conflict, Unsupported.

        Where one of a message fails, those after it in the same message were tried nevertheless;
        what succeeded is yielded before the error is raised.
        """
        for batch in _batches(operations):
            errors = self._exchange([self._request(operation) for operation in batch])
            failures: list[NetkitError] = []
            for operation, error in zip(batch, errors, strict=True):
                try:
                    self._settle(operation, error)
                except NetkitError as err:
                    failures.append(err)
                else:
                    yield operation
            if failures:
                raise failures[0]

    def _request(self, operation: Operation) -> tuple[int, int, bytes]:
        """Command, flags and attributes of what an operation asks of the kernel."""
        gone = operation.wanted is None
        match operation.resource:
            case IpSet(name=name) if gone:
                return wire.DESTROY, wire.ACK, wire.named(name)
            case IpSet(name=name, type=type_name):
                return wire.CREATE, wire.ACK, wire.new_set(name, type_name, self._revision(type_name))
            case Member(set=name, entry=entry) if gone:
                return wire.DELETE, wire.ACK, wire.member(name, entry)
            # Without NLM_F_EXCL an add to what is there already replaces the comment.
            case Member(set=name, entry=entry, owner=owner):
                return wire.ADD, wire.ACK, wire.member(name, entry, mark(owner))
            case other:
                raise TypeError(f"{other.describe()} is not for ipset")

    def _settle(self, operation: Operation, error: int) -> None:
        """Accept what is a success after all, wait for what is busy, raise the rest."""
        gone = operation.wanted is None
        if gone and isinstance(operation.observed, Member) and _cannot_hold(error):
            return
        for _ in range(BUSY_RETRIES):
            if error != wire.ERR_BUSY:
                break
            time.sleep(BUSY_WAIT_S)
            (error,) = self._exchange([self._request(operation)])
        if error and not (gone and error == errno.ENOENT):
            raise _failure(operation.describe().lstrip("+~- "), error)

    def _everything(self) -> Iterator[Resource]:
        """Every set of ours, and its members that carry our mark."""
        listing = self._ask(wire.LIST, wire.DUMP, wire.named(flags=wire.LIST_SETNAME))
        names = dict.fromkeys(wire.set_of(answer)[0] for answer in listing)
        for name in names:
            if name in self._names:
                yield from self._one_set(name)

    def _one_set(self, name: str) -> Iterator[Resource]:
        answers = self._ask(wire.LIST, wire.DUMP, wire.named(name))
        for answer in answers[:1]:
            yield IpSet(owner=OWNER, name=name, type=wire.shape_of(answer))
        for answer in answers:
            for entry, comment in wire.members_of(answer):
                owner = owner_of(comment)
                if owner is not None:
                    yield Member(owner=owner, set=name, entry=entry)

    def _sets_among(self, wanted: Sequence[IpSet]) -> Iterator[IpSet]:
        for resource in wanted:
            request = wire.named(resource.name, flags=wire.LIST_HEADER)
            for answer in self._ask(wire.LIST, wire.DUMP, request):
                yield IpSet(owner=resource.owner, name=resource.name, type=wire.shape_of(answer))

    def _members_among(self, wanted: Sequence[Member]) -> Iterator[Member]:
        """Those of `wanted` that are in their sets."""
        dumped = {name: self._entries(name) for name in self._ambiguous(wanted)}
        tested = [resource for resource in wanted if resource.set not in dumped]
        found = set(itertools.chain.from_iterable(map(self._tested, _batches(tested))))
        for resource in wanted:
            if resource in found or resource.entry in dumped.get(resource.set, ()):
                yield resource

    def _tested(self, batch: Sequence[Member]) -> Iterator[Member]:
        requests = [(wire.TEST, wire.ACK, wire.member(member.set, member.entry)) for member in batch]
        for member, error in zip(batch, self._exchange(requests), strict=True):
            if error not in {0, errno.ENOENT} and not _cannot_hold(error):
                raise _failure(f"look for {member.describe()}", error)
            if not error:
                yield member

    def _ambiguous(self, members: Sequence[Member]) -> list[str]:
        """The sets among those of `members` that a test does not answer exactly.

        A set of networks says yes to a host that only lies in one of its networks.
        """
        names = {member.set for member in members if "/" not in member.entry}
        answers = {name: self._ask(wire.HEADER, wire.ACK, wire.named(name)) for name in names}
        return [name for name, found in answers.items() if found and "net" in wire.set_of(found[0])[1]]

    def _entries(self, name: str) -> frozenset[str]:
        answers = self._ask(wire.LIST, wire.DUMP, wire.named(name))
        return frozenset(entry for answer in answers for entry, _ in wire.members_of(answer))

    def _revision(self, type_name: str) -> int:
        """The newest revision of a set type that this kernel has."""
        if type_name not in self._revisions:
            (answer,) = self._ask(wire.TYPE, wire.ACK, wire.set_type(type_name))
            self._revisions[type_name] = wire.revision_of(answer)
        return self._revisions[type_name]

    def _exchange(self, requests: Sequence[tuple[int, int, bytes]]) -> list[int]:
        """Send requests in one message; the error number of each, 0 for none, in the same order."""
        with self._lock:
            first = next(self._sequence)
            sequences = [first, *itertools.islice(self._sequence, len(requests) - 1)]
            self._socket.send(
                b"".join(
                    wire.request(command, flags, sequence, attributes)
                    for sequence, (command, flags, attributes) in zip(sequences, requests, strict=True)
                )
            )
            errors: dict[int, int] = {}
            while len(errors) < len(requests):
                for answer in wire.answers(self._socket.recv(_ANSWER_BYTES)):
                    if answer.type == wire.ERROR and answer.sequence >= first:
                        errors[answer.sequence] = answer.error
            return [errors[sequence] for sequence in sequences]

    def _ask(self, command: int, flags: int, attributes: bytes) -> list[wire.Answer]:
        """What the kernel answers to one question; nothing where the set does not exist."""
        with self._lock:
            sequence = next(self._sequence)
            self._socket.send(wire.request(command, flags, sequence, attributes))
            found: list[wire.Answer] = []
            while True:
                for answer in wire.answers(self._socket.recv(_ANSWER_BYTES)):
                    if answer.sequence != sequence:
                        continue
                    if answer.error not in {0, errno.ENOENT}:
                        raise _failure("ask the kernel about ipsets", answer.error)
                    if answer.type in {wire.ERROR, wire.DONE}:
                        return found
                    found.append(answer)


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _cannot_hold(error: int) -> bool:
    """Whether a set says of a member that it is none: not there, or none that its type can have."""
    return error > wire.ERR_PRIVATE and error != wire.ERR_BUSY


def _failure(what: str, error: int) -> NetkitError:
    """The error for a number of the kernel's, with a hint where there is one."""
    if error == errno.EPERM:
        return Unsupported(f"cannot {what}: not permitted", hint="run as root or with CAP_NET_ADMIN")
    if error == wire.ERR_FIND_TYPE:
        hint = "load its module, for example `modprobe ip_set_hash_netiface`"
        return Unsupported(f"cannot {what}: the kernel lacks this type of set", hint=hint)
    if error == errno.EINVAL and what.startswith("ask"):
        return Unsupported("the kernel has no ipset", hint="modprobe ip_set")
    if error == errno.EEXIST:
        return Conflict(f"cannot {what}: a set of this name and another type exists", hint="ipset list -n")
    if error == wire.ERR_BUSY:
        hint = "find the rule that matches on it: iptables-save | grep match-set"
        return Conflict(f"cannot {what}: a rule uses the set", hint=hint)
    meaning = _MEANINGS.get(error) or (os.strerror(error) if error < 4096 else f"ipset error {error}")
    return ApplyError(f"cannot {what}: {meaning}", operation=what, hint="compare with ipset list")
