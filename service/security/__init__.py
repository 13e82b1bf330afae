"""Who may do what, how often, and how slowly: keys, roles, quotas, TLS, and the limits of a connection."""
