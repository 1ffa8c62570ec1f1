"""What all tests share."""

from hypothesis import settings

# A machine that is busy is no reason for a property to fail.
settings.register_profile("netkit", deadline=None, print_blob=True)
settings.load_profile("netkit")
