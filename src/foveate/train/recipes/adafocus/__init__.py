"""AdaFocus: a glance network, a policy that chooses patches, a focus network and a classifier."""
