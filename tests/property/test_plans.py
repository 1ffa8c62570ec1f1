"""What holds for every plan between any two intents."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core import plan
from netkit.core.render import affected, everything, render
from netkit.model.spec import Host, Intent
from netkit.testing.intents import opened, random_intent

HOST = Host(state_dir="/state")
SEEDS = st.integers(0, 10**9)


def intent_of(seed):
    dice = random.Random(seed)
    return Intent() if dice.random() < 0.1 else opened(dice, random_intent(dice, HOST), HOST)


def rendered(seed):
    intent = intent_of(seed)
    return render(intent, HOST, everything(intent))


def applied(operations, resources):
    """The resources after the operations, each of which must be possible when its turn comes."""
    state = dict(resources)
    for operation in operations:
        key = operation.key
        if operation.observed is not None:
            assert state[key] == operation.observed, operation.describe()
        if operation.wanted is None:
            users = [each for each in state.values() if key in each.falls_with]
            assert not users, f"{operation.describe()} while {users[0].key} needs it"
            del state[key]
            continue
        assert operation.observed is not None or key not in state, operation.describe()
        missing = [need for need in operation.wanted.needs if need not in state]
        assert not missing, f"{operation.describe()} needs {missing}"
        state[key] = operation.wanted
    return state


@given(SEEDS, SEEDS)
def test_a_plan_leads_from_one_to_the_other(one, other):
    before, after = rendered(one), rendered(other)
    assert applied(plan.diff(before, after), before) == after


@given(SEEDS)
def test_where_nothing_differs_nothing_is_done(seed):
    resources = rendered(seed)
    assert plan.diff(resources, resources) == ()


@given(SEEDS, SEEDS, st.floats(0, 1))
def test_every_prefix_of_a_plan_can_be_undone(one, other, part):
    before, after = rendered(one), rendered(other)
    done = plan.diff(before, after)
    done = done[: int(part * len(done))]
    state = applied(done, before)
    for operation in reversed(done):
        back = operation.undo()
        if back.wanted is None:
            del state[back.key]
        else:
            state[back.key] = back.wanted
    assert state == before


@given(SEEDS)
def test_rendering_does_not_hear_the_order_of_specs(seed):
    intent = intent_of(seed)
    turned = Intent(dict(reversed(intent.networks.items())), dict(reversed(intent.containers.items())))
    assert render(turned, HOST, everything(turned)) == render(intent, HOST, everything(intent))


@given(SEEDS, SEEDS)
def test_what_is_not_affected_does_not_differ(one, other):
    """The engine looks only at affected units: those that it passes over must be the same."""
    before, after = intent_of(one), intent_of(other)
    units = affected(before, after)
    part = {**render(before, HOST, units)}, {**render(after, HOST, units)}
    whole = render(before, HOST, everything(before)), render(after, HOST, everything(after))
    changed = {key for key in {**whole[0], **whole[1]} if whole[0].get(key) != whole[1].get(key)}
    assert changed <= {*part[0], *part[1]}


@pytest.mark.parametrize("seed", range(20))
def test_random_intents_are_worth_planning(seed):
    """Guards the generators: an empty intent would make every property above hold."""
    dice = random.Random(seed)
    intent = opened(dice, random_intent(dice, HOST), HOST)
    assert intent.networks
    assert len(intent.containers) >= 3
