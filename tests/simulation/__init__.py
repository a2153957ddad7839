"""The production consensus engine on virtual time, a hostile network and crashing disks."""
