"""Rules read back as what they were written as, and as iptables writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import SpecError
from netkit.model.rule import Rule, SetMatch, parse_rule

STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
LINKS = st.from_regex(r"[a-z][a-z0-9.-]{0,14}", fullmatch=True)
NETWORKS = st.tuples(st.integers(0, 255), st.integers(1, 32)).map(lambda pair: f"10.0.{pair[0]}.0/{pair[1]}")
PORTS = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda pair: (min(pair), max(pair)))
OWNERS = st.just("host") | st.text(
    st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60
).map("link/".__add__)
SETS = st.builds(
    SetMatch,
    st.from_regex(r"NETKIT-[A-Z]{1,9}", fullmatch=True),
    st.sampled_from(["src", "src,src", "dst,dst,src"]),
    st.booleans(),
)
INVERTIBLE = ("src", "dst", "in_link", "out_link", "protocol", "src_type", "dst_type", "states", "dports")


def optional(values):
    return st.just("") | values


@st.composite
def rules(draw):
    """Rules such as iptables can hold: ports only with a protocol that has ports."""
    ports = draw(st.none() | PORTS)
    protocols = st.sampled_from(["tcp", "udp", "sctp"])
    target = draw(st.sampled_from(["ACCEPT", "DROP", "MASQUERADE", "NETKIT-A", "DNAT"]))
    fields = {
        "src": draw(optional(NETWORKS)),
        "dst": draw(optional(NETWORKS)),
        "in_link": draw(optional(LINKS)),
        "out_link": draw(optional(LINKS)),
        "protocol": draw(protocols if ports else optional(protocols | st.just("icmp"))),
        "dports": ports,
        "states": draw(st.sets(st.sampled_from(STATES)).map(lambda some: tuple(sorted(some)))),
        "src_type": draw(optional(st.just("LOCAL"))),
        "dst_type": draw(optional(st.just("LOCAL"))),
    }
    invert = draw(st.sets(st.sampled_from(INVERTIBLE)))
    return Rule(
        **fields,
        target=target,
        to="10.0.0.2:80" if target == "DNAT" else "",
        owner=draw(optional(OWNERS)),
        sets=tuple(draw(st.lists(SETS, max_size=2))),
        invert=frozenset(field for field in invert if fields[field]),
    )


@given(rules())
def test_a_rule_is_read_back_from_its_text(rule):
    assert parse_rule(rule.text()) == rule


@given(rules())
def test_the_text_says_all_that_the_rule_says(rule):
    assert parse_rule(rule.text()).text() == rule.text()


@pytest.mark.parametrize(
    ("owner", "comment"),
    [
        ("host", '"netkit:host"'),
        ("link/db:a b", '"netkit:link/db:a b"'),
        ('say "it\'s"', r'"netkit:say \"it\'s\""'),
        ("back\\slash", r'"netkit:back\\slash"'),
    ],
)
def test_comments_are_quoted_as_iptables_quotes_them(owner, comment):
    assert Rule(target="DROP", owner=owner).text() == f"-m comment --comment {comment} -j DROP"


@pytest.mark.parametrize(
    "comment", ["my own", "netkit: uplink to the rack", "netkit:", "netkit:hosts", "netkit:network/"]
)
def test_a_comment_without_our_mark_makes_no_owner(comment):
    assert parse_rule(f'-m comment --comment "{comment}" -j DROP').owner == ""


@pytest.mark.parametrize(
    "text",
    [
        "-m limit --limit 1/sec -j DROP",
        "-j REJECT --reject-with icmp-port-unreachable",
        "-p icmp -m icmp --icmp-type 8 -j DROP",
        "-i br0",
    ],
)
def test_what_is_not_modelled_is_refused(text):
    with pytest.raises(SpecError):
        parse_rule(text)
