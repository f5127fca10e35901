"""Endpoints on a cluster, by KServe or by plain objects, and the way to them from here."""
