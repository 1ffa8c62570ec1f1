"""Every figure of the README, side by side with peers, in one run: `make bench`."""
