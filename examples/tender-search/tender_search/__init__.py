"""A search engine for public tenders, whose plans, quotas and rates are Quotum's."""
