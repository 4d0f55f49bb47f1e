"""What scripts/report.py shows: neighbourhoods searched, what is found in them, and the page."""
