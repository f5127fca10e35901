"""The router: a process that shares an endpoint's requests between two servers, only while there is a canary."""
