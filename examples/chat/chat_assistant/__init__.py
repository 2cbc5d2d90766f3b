"""A chat assistant, whose tiers, messages and tokens are Quotum's."""
