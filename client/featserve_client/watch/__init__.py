"""Whether servers still give what was proven: golden inputs replayed every minute, for Prometheus and for cron."""
