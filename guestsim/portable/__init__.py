"""Traces replayed portably: lowered to requests with their memory, fed to any implementation, compared per request."""
