"""netkit: a container networking toolkit.

Every verb edits the intent; one engine makes the kernel match it. See docs/architecture.md.
"""

__version__ = "0.1.0"
