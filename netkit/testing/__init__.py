"""What tests of netkit, and of labs built on it, can use: images and hosts made on the spot."""
