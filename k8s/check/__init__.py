"""Checks the manifests without a cluster: `python -m k8s.check`, which is `make k8s-check`."""
