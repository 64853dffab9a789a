"""Layouts of SCSI's structures as construct declarations, and nothing else."""
