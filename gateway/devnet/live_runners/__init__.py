"""An orchestrator of live runners: reserves sessions at apps, proxies to them, debits by the clock."""
