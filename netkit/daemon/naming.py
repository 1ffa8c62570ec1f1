"""Names for containers whose users gave none, and telling what a person means by a word.

>>> choose(set())
'brisk_heron'
"""

import random
import re
from collections.abc import Collection

_QUALITIES = """
    able amber brave brisk calm clear cosy eager early fair fleet fond free fresh gentle glad
    green happy hardy keen kind light lively lucid mellow merry mild neat nimble open plain
    proud quick quiet ready rosy sharp sleek smart solid spry steady still sunny sure swift
    tidy warm wise
""".split()
_ANIMALS = """
    badger bear beaver bison boar civet crane deer dove eagle egret elk falcon finch fox gecko
    goose gull hare hawk hedgehog heron ibex ibis jackdaw kestrel kite lark lemur linnet lynx
    magpie marten merlin mole moose newt otter owl oyster panda pika puffin quail raven robin
    seal shrew stoat stork swan tapir teal tern thrush toad trout vole weasel whale wolf wren
    yak
""".split()


def choose(taken: Collection[str]) -> str:
    """A name of two words that nobody has."""
    for number in range(10_000):
        name = f"{random.choice(_QUALITIES)}_{random.choice(_ANIMALS)}"
        name += str(number) if number > 20 else ""
        if name not in taken:
            return name
    raise RuntimeError("ten thousand names are taken")


def plain(text: str) -> str:
    """Words as they are compared: without iptables' `-A` and quotes, and 8080/tcp as two of them."""
    bare = re.sub(r"^-[ai] |\"", "", text.strip().lower())
    return re.sub(r"(\d)/(tcp|udp|sctp)\b", r"\1 \2", bare)


def mentions(text: str, word: str) -> bool:
    """Whether `word` stands in `text` by itself: 80 is not in 8080, 10.0.0.1 not in 10.0.0.11."""
    return re.search(rf"(?<![\w.]){re.escape(word.lower())}(?![\w]|\.\w)", text.lower()) is not None
