"""Who may watch: what people are to each other, a stream's rules, invitations, and what they prove about themselves."""
