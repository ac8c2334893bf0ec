"""Cutting a process off the network: cgroups, BPF programs, pins that outlive asyd."""
