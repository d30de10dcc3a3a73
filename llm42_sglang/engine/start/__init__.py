"""What happens before a server serves: flags, limits, certification, the fingerprint."""
